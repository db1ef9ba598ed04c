"""Live SUMO over TraCI: what is decoded against the stock client's getters, episodes, and SUMO's death in every way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from envs.backends import open_session
from envs.errors import SumoError
from envs.programs import switching_program
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
    time_after,
)
from envs.simulation import Simulation
from envs.traci_session import TraciSession
from tests.support.gates import Gate

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


# Decisions of several steps are read at their end, those of a single step are sent by SUMO by itself: both, in turn.
STRIDES = {"several": [7], "single": [1], "both": [5, 1, 1, 7, 7, 1]}


@pytest.mark.parametrize("strides", STRIDES.values(), ids=STRIDES.keys())
@pytest.mark.parametrize("name", ["single", "resco:cologne1", "resco:cologne8"])
def test_the_vehicle_table_is_what_the_getters_say(name: str, strides: list[int]) -> None:
    session = opened(name)
    session.reset(3)
    snapshot, most, inside = advance(session, session.scenario.begin + 150), 0, 0
    for stride in (stride for _ in range(60 // len(strides)) for stride in strides):
        snapshot = advance(session, snapshot.time + stride)
        table, lanes = expected(session)
        np.testing.assert_array_equal(snapshot.vehicles, table)
        assert snapshot.lanes.tolist() == lanes
        assert snapshot.time == session.client.simulation.getTime()
        most, inside = max(most, len(lanes)), inside + int((snapshot.lanes >= 0).sum())
    assert most > 5
    assert inside > 100
    assert session.totals()["arrived"] > 5  # so there were departures and arrivals in between


@pytest.mark.parametrize("stride", [1, 6])
def test_the_vehicle_table_holds_while_vehicles_teleport(stride: int) -> None:
    """Four seconds of patience at a red light, and they are carried away."""
    session = opened("single", time_to_teleport=4)
    session.reset(1)
    snapshot = advance(session, 100)
    for _ in range(40):
        snapshot = advance(session, snapshot.time + stride)
        table, lanes = expected(session)
        np.testing.assert_array_equal(snapshot.vehicles, table)
        assert snapshot.lanes.tolist() == lanes
    assert session.totals()["teleports"] > 10


@pytest.mark.parametrize("commands", [[], [PhaseCommand("A0", 1)]])
def test_an_episode_of_single_steps_ends_and_another_begins(commands: list[PhaseCommand]) -> None:
    session = opened("single")
    episodes = []
    for stride in (1, 10, 1):
        session.reset(4)
        snapshots = [session.observe()]
        while snapshots[-1].time < 120:
            session.send(commands, snapshots[-1].time + stride)
            snapshots.append(session.receive())
        episodes.append(snapshots)
    assert same(episodes[0], episodes[2])
    if not commands:  # else they are given at other times
        assert same(episodes[0][::10], episodes[1])


@pytest.mark.parametrize(
    ("now", "until", "step", "after"),
    [
        (0, 10, 1, 10),
        (0.1, 0.4, 0.1, 0.4),
        (7, 8, 0.25, 8),
        (0, 10, 3, 12),
        (5, 5, 1, 5),
        (5, 4, 1, 5),
        (57600.5, 57601, 0.5, 57601),
    ],
)
def test_the_clock_is_foretold(now: float, until: float, step: float, after: float) -> None:
    assert time_after(now, until, step) == after


@pytest.mark.parametrize("step", ["0.1", "0.5", "3"])
def test_the_clock_is_sumos(step: str) -> None:
    session = opened("single", extra_options=["--step-length", step])
    for until in (3, 6.5, 7, 7.5, 20):
        assert advance(session, until).time == session.client.simulation.getTime()


def test_an_empty_network_has_an_empty_table(lone_vehicle: Scenario) -> None:
    session = opened(lone_vehicle)
    snapshots = [advance(session, until) for until in (2, 3, 20, 21, 190, 191)]
    assert [snapshot.vehicles.shape for snapshot in snapshots] == [(0, 8)] * 2 + [(1, 8)] * 2 + [(0, 8)] * 2
    assert [snapshot.lanes.shape for snapshot in snapshots] == [(0,)] * 2 + [(1,)] * 2 + [(0,)] * 2
    assert session.totals()["arrived"] == 1


def test_observing_changes_nothing() -> None:
    session = opened("single")
    snapshot, totals = advance(session, 100), session.totals()
    for _ in range(3):
        again = session.observe()
        np.testing.assert_array_equal(again.vehicles, snapshot.vehicles)
        assert (again.time, session.totals()) == (snapshot.time, totals)


@pytest.mark.parametrize("name", ["single", "resco:cologne1"])
def test_the_totals_are_those_that_sumo_reports_by_the_second_and_by_the_trip(name: str, tmp_path: Path) -> None:
    session = opened(name, extra_options=["--tripinfo-output", str(tmp_path / "trips.xml")])
    client, departed, arrived = session.client, 0, 0
    snapshot = session.observe()
    for _ in range(300):
        snapshot = advance(session, snapshot.time + 1)
        departed += client.simulation.getDepartedNumber()
        arrived += client.simulation.getArrivedNumber()
    totals = session.totals()
    assert (totals["departed"], totals["arrived"]) == (departed, arrived)
    assert totals["running"] == client.vehicle.getIDCount() == departed - arrived
    assert totals["waiting_to_depart"] == len(client.simulation.getPendingVehicles())
    client.close()  # so that SUMO writes the file to its end
    trips = ET.parse(tmp_path / "trips.xml").getroot().findall("tripinfo")
    assert arrived == len(trips) > 10
    for total, attribute in (("time_loss", "timeLoss"), ("depart_delay", "departDelay")):
        assert totals[total] == pytest.approx(np.mean([float(t.attrib[attribute]) for t in trips]), abs=0.011)


# Episodes


def episode(session: TraciSession, seed: int) -> list[Snapshot]:
    session.reset(seed)
    begin = session.scenario.begin
    return [session.observe()] + [advance(session, begin + 10 * step) for step in range(1, 20)]


def same(first: list[Snapshot], second: list[Snapshot]) -> bool:
    return all(
        np.array_equal(a.vehicles, b.vehicles) and np.array_equal(a.lanes, b.lanes) and a.time == b.time
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


@pytest.mark.parametrize("stride", [1, 1500])
@pytest.mark.parametrize("commands", [[], [PhaseCommand("A0", 2)]])
def test_an_episode_may_be_dropped_between_send_and_receive(commands: list[PhaseCommand], stride: float) -> None:
    session = opened("single")
    first = episode(session, 5)
    now = advance(session, 201).time
    session.send(commands, now + stride)
    with pytest.raises(SumoError, match="interrupted before its answers were read; reset first"):
        session.send(commands, now + 2 * stride)
    assert same(first, episode(session, 5))


def test_looking_at_those_under_way_does_not_disturb_single_steps() -> None:
    session = opened("single")
    for until in range(101, 110):
        snapshot = advance(session, until)
        assert len(session.delays_under_way()) == len(snapshot.lanes)
    assert advance(session, 110).time == session.client.simulation.getTime() == 110


def test_a_step_to_where_it_stands_changes_nothing() -> None:
    session = opened("single")
    for until in (0, 0, 50, 51, 52, 52, 51, 52):
        snapshot = advance(session, until)
    np.testing.assert_array_equal(snapshot.vehicles, expected(session)[0])
    assert snapshot.time == 52


@pytest.mark.parametrize("commands", [[], [PhaseCommand("A0", 0)], [PhaseCommand("A0", phase) for phase in (1, 0)]])
def test_answers_are_not_waited_for_longer_than_they_take(commands: list[PhaseCommand]) -> None:
    """Waiting for more bytes than there will be would last until the limit, and be an error then."""
    session = opened("single", step_limit=1)
    session.install({"A0": switching_program(session.network.signals[0].greens, 3)})
    for until in (1, 2, 10, 11, 30, 31):  # nobody is there yet at the beginning
        session.send(commands, until)
        session.receive()
    session.observe()
    session.totals()


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


GIVEN_UP: list[tuple[Callable[[TraciSession], Any], str]] = [
    (lambda session: advance(session, 10), "has not answered for 1 s"),
    (lambda session: session.totals(), "has not answered for 1 s"),
    (lambda session: session.reset(1), "has not loaded its scenario within 2 s"),
]


@pytest.mark.parametrize(("call", "words"), GIVEN_UP)
def test_a_sumo_that_does_not_answer_is_given_up(call: Callable[[TraciSession], Any], words: str) -> None:
    session = opened("single", step_limit=1, start_limit=10)
    session._start_limit, session._slowest = 2.0, 10.0  # only now: starting takes its time on a busy machine
    (pid,) = session.pids
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SumoError, match=rf"SUMO \(process {pid}\) {words}.* in scenario single"):
        call(session)
    session.close()
    assert ended(pid)


def test_once_it_is_known_how_long_loading_takes_nobody_waits_much_longer() -> None:
    session = opened("single", step_limit=1, start_limit=60)
    session.reset(1)
    session._slowest = 0.4
    (pid,) = session.pids
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SumoError, match="has not loaded its scenario within 2 s"):
        session.reset(2)
    session.close()


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
    assert session._words.quote() == "SUMO said nothing"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate.xml") as gate:
        yield gate


def test_a_sumo_that_is_given_up_while_it_loads_is_ended(
    gate: Gate, live_sumos: Callable[[], list[psutil.Process]]
) -> None:
    gate.close()
    with pytest.raises(SumoError, match=r"within 3 s.* in scenario single"):
        opened("single", start_limit=3, extra_options=gate.options)
    assert live_sumos() == []


def test_loading_may_take_longer_than_a_step(gate: Gate) -> None:
    def opened_late() -> None:
        time.sleep(1.0)
        gate.open()

    session = opened("single", step_limit=0.5, extra_options=gate.options)
    for call in (lambda: session.reset(1), lambda: opened("single", step_limit=0.5, extra_options=gate.options)):
        gate.close()
        waiter = threading.Thread(target=opened_late)
        waiter.start()
        call()
        waiter.join()
    os.kill(session.pids[0], signal.SIGSTOP)
    with pytest.raises(SumoError, match=r"has not answered for 0\.5 s"):  # a step has its own limit again
        advance(session, 10)


def test_after_many_loads_another_sumo_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.traci_session._LOADS", 2)
    session = opened("single")
    pids, episodes = [], []
    for _ in range(5):
        episodes.append(episode(session, 5))
        pids += session.pids
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert ended(pids[0])
    assert ended(pids[2])
    assert all(same(episodes[0], other) for other in episodes[1:])


def test_crowded_junctions_are_the_same_in_every_process() -> None:
    """SUMO decides by addresses in memory who goes first there."""
    episodes, crowded = [], 0
    for _ in range(5):
        simulation = Simulation(find("resco:cologne1"), max_red=1e9, max_hold=0.0)
        try:
            (pid,) = simulation.session.pids
            if not int(Path(f"/proc/{pid}/personality").read_text(), 16) & 0x0040000 and "CI" not in os.environ:
                pytest.skip("this machine forbids fixed addresses, as Docker does: nothing is promised")
            simulation.reset(2)
            random, outcome, vehicles = np.random.default_rng(1), None, []
            while outcome is None or not outcome.truncated:
                simulation.send(random.choice([0, 2], 1, p=[0.6, 0.4]))
                outcome = simulation.receive()
                vehicles.append(outcome.frame.vehicles)
                standing = outcome.frame.lanes[outcome.frame.vehicles[:, SPEED] < 0.1]
                crowded += len(set(standing) & set(simulation.network.inside[:, 0])) > 1
            episodes.append(np.concatenate(vehicles))
        finally:
            simulation.close()
    assert crowded > 20
    for other in episodes[1:]:
        np.testing.assert_array_equal(other, episodes[0])


def test_a_sumo_that_has_died_while_it_had_nothing_to_do_is_noticed_when_asked() -> None:
    session = opened("single")
    session.check()
    os.kill(session.pids[0], signal.SIGKILL)
    assert ended(session.pids[0]), "it is not dead yet"
    with pytest.raises(SumoError, match="SUMO was ended by SIGKILL in scenario single"):
        session.check()


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
