"""Classical controllers: max-pressure against a slow loop, and what SUMO really runs against a SUMO left alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import traci.constants as tc

from envs import sumo
from envs.backends import open_session
from envs.controllers import CLASSICAL, Actuated, Controller, FixedTime, MaxPressure, Random
from envs.network import Network
from envs.scenarios import find
from envs.session import Session
from envs.signals import Frame, SignalControl
from envs.trips import read_trips


@pytest.fixture(scope="module", params=["single", "resco:cologne1", "resco:cologne8"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    opened = open_session(find(request.param), "traci")
    yield opened
    opened.close()


def begin(controller: Controller, session: Session, seed: int = 1) -> SignalControl:
    task = SignalControl(session.network, yellow_time=3.0, min_green=5.0)
    session.reset(seed)
    controller.begin(session, task, seed)
    task.begin(session.scenario.begin)
    return task


def run(controller: Controller, session: Session, seconds: float, interval: float = 10.0) -> Iterator[Frame]:
    task = begin(controller, session)
    snapshot = session.observe()
    while snapshot.time < session.scenario.begin + seconds:
        frame = task.frame(snapshot)
        yield frame
        wanted = controller.act(frame)
        commands = [] if wanted is None else task.commands(wanted, snapshot.time)
        session.send(commands, snapshot.time + interval)
        snapshot = session.receive()


def slow_pressures(session: Session, frame: Frame) -> list[list[float]]:
    """Pressure of every phase of every signal, movement by movement, from TraCI's own words."""
    network, client = session.network, session.client
    count = {name: int((frame.lanes == index).sum()) for index, name in enumerate(network.lane_ids)}
    pressures = []
    for signal in network.signals:
        links = client.trafficlight.getControlledLinks(signal.id)
        served = [
            {(a, b) for light, group in zip(green, links, strict=True) if light in "Gg" for a, b, _ in group}
            for green in signal.greens
        ]
        roads = [{(a, b) for a, b in pairs if a[0] != ":" and b[0] != ":"} for pairs in served]
        known = set().union(*roads)
        ways = {a: sum(1 for other, _ in known if other == a) for a, _ in known}
        pressures.append([sum((count[a] - count[b]) / ways[a] for a, b in pairs) for pairs in roads])
    return pressures


def test_max_pressure_shows_the_phase_that_a_slow_loop_over_movements_finds(session: Session) -> None:
    controller = MaxPressure()
    decided = 0
    for frame in run(controller, session, seconds=600):
        wanted = controller.act(frame)
        for s, pressures in enumerate(slow_pressures(session, frame)):
            assert pressures[wanted[s]] == pytest.approx(max(pressures))
            if pressures[frame.shown[s]] > max(pressures) - 1e-9:
                assert wanted[s] == frame.shown[s], "a draw must leave the present phase"
            decided += 1
    assert decided >= 60


def test_an_empty_network_gives_max_pressure_no_reason_to_switch(session: Session) -> None:
    controller = MaxPressure()
    begin(controller, session)
    network = session.network
    shown = np.array([len(signal.greens) - 1 for signal in network.signals], np.int16)
    nobody = np.empty((0, 8), np.float32), np.empty(0, np.int32)
    allowed = np.ones(network.num_phases, bool)
    frame = Frame(0.0, *nobody, shown, np.zeros(len(shown), np.float32), allowed)
    assert controller.act(frame).tolist() == shown.tolist()


def test_random_repeats_itself_for_a_seed_and_uses_every_phase(session: Session) -> None:
    def actions(seed: int) -> list[list[int]]:
        controller = Random()
        task = begin(controller, session, seed)
        frame = task.frame(session.observe())
        return [controller.act(frame).tolist() for _ in range(300)]

    first = actions(1)
    assert first == actions(1)
    assert first != actions(2)
    for own, signal in zip(zip(*first, strict=True), session.network.signals, strict=True):
        assert set(own) == set(range(len(signal.greens)))


def test_fixed_time_leaves_the_programs_that_the_network_brings(session: Session) -> None:
    programs = session.client.trafficlight
    session.reset(1)
    before = {signal.id: programs.getProgram(signal.id) for signal in session.network.signals}
    begin(MaxPressure(), session)
    begin(FixedTime(), session)
    assert {name: programs.getProgram(name) for name in before} == before


def test_fixed_time_makes_the_very_trips_of_a_sumo_that_nobody_talks_to(tmp_path: Path) -> None:
    scenario = find("single")
    ours, alone = tmp_path / "ours.xml", tmp_path / "alone.xml"
    session = open_session(scenario, "traci", extra_options=["--tripinfo-output", str(ours)])
    seconds = scenario.end - scenario.begin
    for _ in run(FixedTime(), session, seconds):
        pass
    session.finish()
    command = [sumo.binary("sumo"), "-c", scenario.config, "--seed", 1, "--time-to-teleport", -1, "--no-step-log"]
    window = ["--end", scenario.end, "--tripinfo-output", alone, "--duration-log.disable"]
    subprocess.run([str(part) for part in (*command, *window)], check=True, env=sumo.environment(), timeout=60)
    trips = []
    for path in (ours, alone):
        with path.open("rb") as file:
            trips.append(read_trips(file))
    assert len(trips[0].depart) > 100
    np.testing.assert_array_equal(trips[0].arrival, trips[1].arrival)
    np.testing.assert_array_equal(trips[0].time_loss, trips[1].time_loss)


def test_actuated_runs_the_networks_own_phases_for_times_that_depend_on_the_traffic(session: Session) -> None:
    programs = session.client.trafficlight
    session.reset(1)
    states = {
        signal.id: [phase.state for phase in programs.getAllProgramLogics(signal.id)[0].phases]
        for signal in session.network.signals
    }
    greens: dict[str, list[tuple[str, float]]] = {name: [] for name in states}
    for frame in run(Actuated(), session, seconds=600, interval=1.0):
        for signal in session.network.signals:
            shown = programs.getRedYellowGreenState(signal.id)
            since = frame.time - programs.getSpentDuration(signal.id)
            if shown in signal.greens and (not greens[signal.id] or greens[signal.id][-1][1] != since):
                greens[signal.id].append((shown, since))
    for name, wanted in states.items():
        logic = next(one for one in programs.getAllProgramLogics(name) if one.programID == programs.getProgram(name))
        assert logic.type == tc.TRAFFICLIGHT_TYPE_ACTUATED
        assert [phase.state for phase in logic.phases] == wanted
        begins = [since for _, since in greens[name]]
        cycles = {round(b - a) for a, b in pairwise(begins)}
        assert len(cycles) > 2, f"signal {name} runs like clockwork: {cycles}"
        assert min(cycles) >= 5


def test_every_classical_controller_carries_traffic_and_the_clever_ones_carry_it_better() -> None:
    session = open_session(find("single"), "traci")
    standing = {}
    for name, controller in CLASSICAL.items():
        frames = list(run(controller(), session, seconds=900))
        standing[name] = float(np.mean([frame.vehicles[:, 6].sum() for frame in frames]))
    session.close()
    assert standing["max-pressure"] < standing["fixed"] < standing["random"]
    assert standing["actuated"] < standing["fixed"]


def test_movements_lead_from_served_lanes_to_leaving_lanes(session: Session) -> None:
    network: Network = session.network
    for signal in network.signals:
        for served, movements in zip(signal.served, signal.movements, strict=True):
            assert {before for before, _ in movements} <= set(served)
            assert {behind for _, behind in movements} <= set(signal.leaving)
            assert movements
