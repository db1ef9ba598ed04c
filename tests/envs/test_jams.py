"""Gridlock, made on purpose: a way out that is closed, against lights that starve a road or only make it wait."""

from __future__ import annotations

import numpy as np
import pytest

from collectors.episodes import Conditions, run_episode
from collectors.measures import Episode
from envs.controllers import CLASSICAL, FixedTime, MaxPressure
from envs.jams import JamWatch
from envs.network import Network, Signal
from envs.scenarios import find
from envs.session import NUM_COLUMNS, WAITING, Session, Snapshot
from envs.signals import Frame, SignalControl
from envs.simulation import Simulation
from tests.support.plans import single


class Blocked(FixedTime):
    """The roads that lead away are closed, ten minutes after the beginning."""

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        self._session = session

    def act(self, frame: Frame) -> None:
        if frame.time == 600.0:
            for lane in self._session.network.signals[0].leaving:
                self._session.client.lane.setMaxSpeed(self._session.network.lane_ids[lane], 0.001)


class Starving(MaxPressure):
    """Only the first phase is ever shown."""

    def act(self, frame: Frame) -> np.ndarray:
        return np.zeros(len(frame.shown), np.int64)


def episode(controller: type, monkeypatch: pytest.MonkeyPatch, backend: str = "traci") -> Episode:
    monkeypatch.setitem(CLASSICAL, "it", controller)
    return run_episode(*single(), "it", 1, Conditions(backend, episode_seconds=1500.0))


@pytest.mark.parametrize("backend", ["traci", "libsumo"])
def test_a_jam_that_no_light_can_dissolve_is_gridlock(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    found = episode(Blocked, monkeypatch, backend)
    assert found.gridlocked
    assert found.worst_waiting > 500


@pytest.mark.parametrize("controller", [FixedTime, MaxPressure])
def test_traffic_that_moves_is_none(monkeypatch: pytest.MonkeyPatch, controller: type) -> None:
    assert not episode(controller, monkeypatch).gridlocked


def test_nor_are_roads_that_never_see_green(monkeypatch: pytest.MonkeyPatch) -> None:
    found = episode(Starving, monkeypatch)
    assert found.worst_waiting > 1000
    assert found.queue > 30, "many must stand"
    assert not found.gridlocked


def drive(gridlock: str, seconds: float = 1800.0) -> tuple[float, dict[str, float]]:
    """An env whose roads lead nowhere from the tenth minute on: when the episode ended, and what is said of it."""
    simulation = Simulation(find("single"), episode_seconds=seconds, gridlock=gridlock)
    try:
        frame = simulation.reset(1)
        network, client = simulation.network, simulation.session.client
        while True:
            if frame.time - simulation.scenario.begin == 600.0:
                for lane in network.signals[0].leaving:
                    client.lane.setMaxSpeed(network.lane_ids[lane], 0.001)
            simulation.send([int(frame.time) // 30 % len(network.signals[0].greens)])
            outcome = simulation.receive()
            frame = outcome.frame
            if outcome.truncated:
                assert not outcome.terminated
                return frame.time - simulation.scenario.begin, simulation.info()
    finally:
        simulation.close()


def test_an_episode_ends_once_it_is_gridlocked() -> None:
    seconds, info = drive("ends")
    assert 800.0 <= seconds < 1500.0, "a jam is one after five minutes"
    assert info["gridlocked"] == 1.0
    assert info["queue"] >= 10.0


def test_or_stays_until_its_time_is_over() -> None:
    seconds, info = drive("stays")
    assert seconds == 1800.0
    assert info["gridlocked"] == 1.0


def test_one_that_moves_is_as_long_as_ever() -> None:
    seconds, info = drive("ends", seconds=590.0)
    assert seconds == 590.0
    assert info["gridlocked"] == 0.0


def test_what_else_a_gridlock_might_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gridlock 'melts': must be one of ends, stays"):
        Simulation(find("single"), gridlock="melts")


def test_a_starved_queue_that_is_let_go_is_none() -> None:
    """It is not one while the green is too young to have reached everybody, nor later, when all have moved."""
    simulation = Simulation(find("single"), gridlock="ends")
    try:
        frame = simulation.reset(1)
        starved = 0
        while frame.time - simulation.scenario.begin < 1500.0:
            late = frame.time - simulation.scenario.begin - 900.0
            simulation.send([0 if late < 0.0 else int(late) // 60 % len(simulation.network.signals[0].greens)])
            outcome = simulation.receive()
            frame = outcome.frame
            waiting = int((frame.vehicles[:, WAITING] >= 300.0).sum())
            if late < 0.0:
                starved = max(starved, waiting)
            assert not outcome.truncated, f"at {frame.time:g} s, {waiting} waiting"
    finally:
        simulation.close()
    assert starved > 30, "many must have stood for five minutes when their light turned green"


def one_lane(*shares: tuple[float, float]) -> Network:
    """A signal before a single lane, and a phase for each share of its ways."""
    count = len(shares)
    phases = np.arange(count, dtype=np.int32)
    pairs = np.stack([phases, np.zeros(count, np.int32)], axis=1)
    one = np.ones(1, np.float32)
    signal = Signal("s", ("G",) * count, ((0,),) * count, tuple((share,) for share in shares), ((),) * count, ())
    return Network(
        lane_ids=("lane_0",),
        lane_length=100 * one,
        lane_speed=one,
        lane_index=np.zeros(1, np.int16),
        bounds=(0.0, 0.0, 1.0, 1.0),
        junction="s",
        signals=(signal,),
        fixed_signals=(),
        phase_start=np.array([0, count], np.int32),
        phase_signal=np.zeros(count, np.int32),
        phase_lanes=pairs,
        phase_lane_shares=np.array(shares, np.float32),
        approaches=pairs,
        approach_distance=np.zeros(count, np.float32),
        approach_stop=phases,
        lane_signal=np.zeros(1, np.int32),
        neighbours=np.zeros((0, 2), np.int32),
        inside=np.zeros((0, 2), np.int32),
        inside_start=np.zeros(0, np.float32),
    )


NOTHING = np.zeros(0, np.int64)


@pytest.mark.parametrize(("age", "jammed"), [(0.0, False), (50.0, False), (60.0, True), (230.0, True), (240.0, False)])
def test_a_green_counts_once_a_queue_had_time_to_move(age: float, jammed: bool) -> None:
    vehicles = np.zeros((12, NUM_COLUMNS), np.float32)
    vehicles[:, WAITING] = 400.0
    jams = JamWatch(one_lane((1.0, 0.0)))
    jams.see(np.array([0]), 1000.0 - age)
    jams.see(NOTHING, 1000.0)
    assert jams.gridlocked(Snapshot(1000.0, vehicles, np.zeros(12, np.int32))) is jammed


def test_a_young_green_does_not_hide_an_old_one() -> None:
    vehicles = np.zeros((12, NUM_COLUMNS), np.float32)
    vehicles[:, WAITING] = 400.0
    jams = JamWatch(one_lane((1.0, 0.0)))
    for time in (900.0, 910.0, 995.0):
        jams.see(np.array([0]), time)
    assert jams.gridlocked(Snapshot(1000.0, vehicles, np.zeros(12, np.int32)))


@pytest.mark.parametrize(
    ("shares", "green", "jammed"),
    [
        (((0.5, 0.5), (0.5, 0.0)), [0], True),
        (((0.5, 0.5), (0.5, 0.0)), [1], False),  # those who go straight on have not had theirs
        (((0.5, 0.0), (0.0, 0.5)), [0], False),
        (((0.5, 0.0), (0.0, 0.5)), [0, 1], True),  # there is no phase for everybody, but all have had theirs
        (((1.0, 0.0), (1.0, 0.0)), [], False),
    ],
)
def test_a_lane_has_green_when_all_its_ways_have(
    shares: tuple[tuple[float, float], ...], green: list[int], jammed: bool
) -> None:
    vehicles = np.zeros((12, NUM_COLUMNS), np.float32)
    vehicles[:, WAITING] = 400.0
    jams = JamWatch(one_lane(*shares))
    for number, phase in enumerate(green):
        jams.see(np.array([phase]), 900.0 + number)
    jams.see(NOTHING, 1000.0)
    assert jams.gridlocked(Snapshot(1000.0, vehicles, np.zeros(12, np.int32))) is jammed
    assert not jams.gridlocked(Snapshot(1300.0, vehicles, np.zeros(12, np.int32))), "too long ago"
    jams.begin()
    assert not jams.gridlocked(Snapshot(1000.0, vehicles, np.zeros(12, np.int32)))
