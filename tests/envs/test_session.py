"""Live SUMO over TraCI: what is decoded against the stock client's getters, episodes, and SUMO's death in every way."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from traci.exceptions import FatalTraCIError

from envs.backends import open_session
from envs.codec import VehicleRecords
from envs.errors import SumoError
from envs.scenarios import Scenario, find
from envs.session import (
    ACCELERATION,
    ANGLE,
    LANE_POSITION,
    SPEED,
    WAITING,
    PhaseCommand,
    Snapshot,
    X,
    Y,
    make_snapshot,
)
from envs.traci_session import TraciSession

OPENED: list[TraciSession] = []


@pytest.fixture(autouse=True)
def _close_sessions() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(scenario: Scenario | str, **settings: Any) -> TraciSession:
    """A session that the test need not close."""
    session = TraciSession(find(scenario) if isinstance(scenario, str) else scenario, **settings)
    OPENED.append(session)
    return session


def advance(session: TraciSession, until: float) -> Snapshot:
    session.send([], until)
    return session.receive()


def ended(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within so many seconds; any process, not only a child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


# What is read


def expected(session: TraciSession) -> tuple[np.ndarray, list[int]]:
    """The vehicle table and the lanes, getter by getter."""
    vehicle = session.client.vehicle
    names = sorted(vehicle.getIDList())
    table = np.zeros((len(names), 8), np.float32)
    for row, name in enumerate(names):
        table[row, [X, Y]] = vehicle.getPosition(name)
        table[row, SPEED] = vehicle.getSpeed(name)
        table[row, ACCELERATION] = vehicle.getAcceleration(name)
        table[row, ANGLE] = vehicle.getAngle(name)
        table[row, LANE_POSITION] = vehicle.getLanePosition(name)
        table[row, WAITING] = vehicle.getWaitingTime(name)
    index = {name: number for number, name in enumerate(session.network.lane_ids)}
    return table, [index.get(vehicle.getLaneID(name), -1) for name in names]


@pytest.mark.parametrize("name", ["single", "resco:cologne1", "resco:cologne8"])
def test_the_vehicle_table_is_what_the_getters_say(name: str) -> None:
    session = opened(name)
    session.reset(3)
    snapshot, most, inside = session.observe(), 0, 0
    for _ in range(40):
        snapshot = advance(session, snapshot.time + 7)
        table, lanes = expected(session)
        np.testing.assert_array_equal(snapshot.vehicles, table)
        assert snapshot.lanes.tolist() == lanes
        assert snapshot.time == session.client.simulation.getTime()
        most, inside = max(most, len(lanes)), inside + int((snapshot.lanes >= 0).sum())
    assert most > 5
    assert inside > 100
    assert snapshot.totals["arrived"] > 5  # so there were departures and arrivals in between


def test_an_empty_network_has_an_empty_table(lone_vehicle: Scenario) -> None:
    session = opened(lone_vehicle)
    snapshots = [advance(session, until) for until in (3, 20, 190)]
    assert [snapshot.vehicles.shape for snapshot in snapshots] == [(0, 8), (1, 8), (0, 8)]
    assert [snapshot.lanes.shape for snapshot in snapshots] == [(0,), (1,), (0,)]
    assert snapshots[-1].totals["arrived"] == 1


def test_a_vehicle_off_the_network_has_no_lane() -> None:
    records = VehicleRecords([b"a", b"b"], np.ones((2, 7)), [b"", b"A0right0_1"])
    assert make_snapshot(0, records, {b"A0right0_0": 0, b"A0right0_1": 1}, {}).lanes.tolist() == [-1, 1]


def test_observing_changes_nothing() -> None:
    session = opened("single")
    snapshot = advance(session, 100)
    for _ in range(3):
        again = session.observe()
        np.testing.assert_array_equal(again.vehicles, snapshot.vehicles)
        assert (again.time, again.totals) == (snapshot.time, snapshot.totals)


@pytest.mark.parametrize("name", ["single", "resco:cologne1"])
def test_the_totals_are_those_that_sumo_reports_by_the_second_and_by_the_trip(name: str, tmp_path: Path) -> None:
    session = opened(name, extra_options=["--tripinfo-output", str(tmp_path / "trips.xml")])
    client, departed, arrived = session.client, 0, 0
    snapshot = session.observe()
    for _ in range(300):
        snapshot = advance(session, snapshot.time + 1)
        departed += client.simulation.getDepartedNumber()
        arrived += client.simulation.getArrivedNumber()
    totals = snapshot.totals
    assert (totals["departed"], totals["arrived"]) == (departed, arrived)
    assert totals["running"] == client.vehicle.getIDCount() == departed - arrived
    assert totals["waiting_to_depart"] == len(client.simulation.getPendingVehicles())
    client.close()  # so that SUMO writes the file to its end
    trips = ET.parse(tmp_path / "trips.xml").getroot().findall("tripinfo")
    assert arrived == len(trips) > 10
    for total, attribute in (("time_loss", "timeLoss"), ("depart_delay", "departDelay")):
        assert totals[total] == pytest.approx(np.mean([float(t.attrib[attribute]) for t in trips]), abs=0.011)


def test_a_message_is_put_together_however_it_is_cut() -> None:
    here, there = socket.socketpair()
    session = object.__new__(TraciSession)  # its reading side only, without a SUMO
    session._buffer, session._owed = bytearray(), 5
    session.client = SimpleNamespace(_socket=here)
    contents = [os.urandom(size) for size in (0, 1, 3, 300, 70_000)]
    stream = b"".join((len(content) + 4).to_bytes(4) + content for content in contents)
    cuts = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 200, 30_000, 70_000, len(stream)]

    def write() -> None:
        for begin, end in zip([0, *cuts], cuts, strict=False):
            there.sendall(stream[begin:end])
        there.close()

    writer = threading.Thread(target=write)
    writer.start()
    with here:
        here.settimeout(10)
        assert [session._next_message() for _ in contents] == contents
        with pytest.raises(FatalTraCIError):
            session._next_message()
    writer.join(10)


# Episodes


def episode(session: TraciSession, seed: int) -> list[Snapshot]:
    session.reset(seed)
    begin = session.scenario.begin
    return [session.observe()] + [advance(session, begin + 10 * step) for step in range(1, 20)]


def same(first: list[Snapshot], second: list[Snapshot]) -> bool:
    return all(
        np.array_equal(a.vehicles, b.vehicles) and np.array_equal(a.lanes, b.lanes) and a.totals == b.totals
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("name", ["single", "resco:cologne1"])
def test_the_seed_decides_the_episode_and_the_process_stays(name: str) -> None:
    session = opened(name)
    pids = session.pids
    first, again, other = episode(session, 5), episode(session, 5), episode(session, 6)
    assert same(first, again)
    assert not same(first, other)
    assert session.pids == pids
    assert same(first, episode(opened(name), 5))  # in another process too


@pytest.mark.parametrize("commands", [[], [PhaseCommand("A0", 2)]])
def test_an_episode_may_be_dropped_between_send_and_receive(commands: list[PhaseCommand]) -> None:
    session = opened("single")
    first = episode(session, 5)
    session.send(commands, 1500)
    assert same(first, episode(session, 5))


# Death


def test_a_killed_sumo_is_named_with_its_scenario() -> None:
    session = opened("single")
    os.kill(session.pids[0], signal.SIGKILL)
    with pytest.raises(SumoError, match=r"SUMO was ended by SIGKILL in scenario single: SUMO said nothing"):
        advance(session, 10)
    with pytest.raises(SumoError, match="in scenario single"):
        session.observe()
    with pytest.raises(SumoError, match="in scenario single"):
        session.reset(1)


@pytest.mark.parametrize("call", [lambda session: advance(session, 10), lambda session: session.reset(1)])
def test_a_sumo_that_does_not_answer_is_given_up(call: Callable[[TraciSession], None]) -> None:
    session = opened("single", step_limit=1)
    (pid,) = session.pids
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SumoError, match=rf"SUMO \(process {pid}\) has not answered for 1 s in scenario single"):
        call(session)
    session.close()
    assert ended(pid)


def test_what_sumo_refuses_is_quoted() -> None:
    session = opened("single")
    session.send([PhaseCommand("nowhere", 0)], 10)
    with pytest.raises(SumoError, match=r"[Tt]raffic light 'nowhere' is not known.* in scenario single"):
        session.receive()


def _unknown_edge(folder: Path) -> str:
    (folder / "bad.rou.xml").write_text('<routes><trip id="a" depart="0" from="nope" to="nope"/></routes>')
    return f'<net-file value="{find("single").config.with_name("single.net.xml")}"/><route-files value="bad.rou.xml"/>'


def _cut_short(folder: Path) -> str:
    (folder / "bad.rou.xml").write_text('<routes><trip id="a"')
    return f'<net-file value="{find("single").config.with_name("single.net.xml")}"/><route-files value="bad.rou.xml"/>'


@pytest.mark.parametrize(("content", "words"), [(_unknown_edge, "'nope'"), (_cut_short, r"bad\.rou\.xml")])
def test_a_scenario_that_sumo_cannot_load_is_explained_in_its_words(
    content: Callable[[Path], str], words: str, tmp_path: Path, live_sumos: Callable[[], list[psutil.Process]]
) -> None:
    config = tmp_path / "bad.sumocfg"
    config.write_text(f'<configuration>{content(tmp_path)}<end value="100"/></configuration>')
    with pytest.raises(SumoError, match=words) as caught:
        opened(str(config))
    assert live_sumos() == []
    assert str(config) in str(caught.value)
    assert "SUMO's last words: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resco:cologne1", "resco:ingolstadt1"])
def test_real_coordinates_do_not_drown_the_last_words(name: str) -> None:
    session = opened(name)
    advance(session, session.scenario.begin + 10)
    assert session._quote() == "SUMO said nothing"


def test_a_sumo_that_is_given_up_while_it_loads_is_ended(live_sumos: Callable[[], list[psutil.Process]]) -> None:
    with pytest.raises(SumoError, match="has not answered for 1e-06 s in scenario resco:cologne8"):
        opened("resco:cologne8", step_limit=1e-6)
    assert live_sumos() == []


def test_a_crash_over_a_file_is_told_apart_from_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "bad.net.xml").write_text("<net><edge")
    (tmp_path / "bad.sumocfg").write_text(
        '<configuration><net-file value="bad.net.xml"/><end value="9"/></configuration>'
    )
    with pytest.raises(SumoError, match=r"^SUMO was ended by SIGSEGV in scenario .*bad\.sumocfg: SUMO said nothing$"):
        opened(str(tmp_path / "bad.sumocfg"))


def test_sumo_is_gone_after_close_and_closing_twice_is_fine() -> None:
    session = TraciSession(find("single"))
    (pid,) = session.pids
    session.close()
    assert not Path(f"/proc/{pid}").exists()
    session.close()


@pytest.mark.parametrize("busy", [False, True])
def test_sumo_dies_with_its_owner(busy: bool) -> None:
    code = (
        "import signal; from envs.scenarios import find; from envs.traci_session import TraciSession;"
        " session = TraciSession(find('single')); print(*session.pids, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        if busy:  # too much so to notice that nobody listens any more
            os.kill(pid, signal.SIGSTOP)
        owner.kill()
        owner.wait(10)
    assert ended(pid)


def test_an_unknown_backend_says_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"^backend 'tracy': must be 'traci' or 'libsumo'$"):
        open_session(find("single"), "tracy")


def test_our_seed_counts_whatever_the_configuration_says(tmp_path: Path) -> None:
    """``<random>`` would draw a new seed for every episode."""
    original = find("single")
    content = original.config.read_text().replace("</configuration>", '<random value="true"/></configuration>')
    for name in ("single.net.xml", "single.rou.xml"):
        content = content.replace(f'"{name}"', f'"{original.config.parent / name}"')
    config = tmp_path / "random.sumocfg"
    config.write_text(content)
    session = opened(str(config))
    assert same(episode(session, 5), episode(session, 5))
