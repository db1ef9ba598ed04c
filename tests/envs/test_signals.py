"""The task `signals`: rewards and costs against slow loops, and what the real SUMO shows whatever is asked."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest

from envs.network import Network
from envs.scenarios import find
from envs.session import LANE_POSITION, NUM_COLUMNS, SPEED, WAITING, Snapshot
from envs.signals import REWARDS, SignalControl
from envs.simulation import Simulation
from envs.traci_session import TraciSession
from tests.support.scenarios import with_plans


@cache
def network(name: str) -> Network:
    session = TraciSession(find(name))
    session.close()
    return session.network


def made_up(network: Network, vehicles: int, random: np.random.Generator) -> Snapshot:
    """Vehicles anywhere, also inside junctions, some of them standing or faster than allowed."""
    table = np.zeros((vehicles, NUM_COLUMNS), np.float32)
    table[:, SPEED] = np.where(random.random(vehicles) < 0.4, 0.05, random.uniform(0.1, 40, vehicles))
    table[:, WAITING] = random.uniform(0, 300, vehicles)
    lanes = random.integers(-1, len(network.lane_ids), vehicles).astype(np.int32)
    return Snapshot(0.0, table, lanes)


def burden(reward: str, speed: float, waiting: float, limit: float) -> float:
    """What one vehicle on an entering lane costs, as the documentation of the reward says."""
    if reward == "queue":
        return float(speed < 0.1)
    if reward == "waiting":
        return waiting / 100
    return max(0.0, 1 - speed / limit)


def slow_reward(reward: str, network: Network, snapshot: Snapshot, before: Snapshot) -> list[float]:
    if reward == "waiting-difference":
        now, then = (np.array(slow_reward("waiting", network, one, one)) for one in (snapshot, before))
        return list(now - then)
    totals = []
    for number, signal in enumerate(network.signals):
        entering, leaving, total = 0, 0, 0.0
        for vehicle, lane in zip(snapshot.vehicles, snapshot.lanes, strict=True):
            if lane >= 0 and network.lane_signal[lane] == number:
                entering += 1
                total += burden(reward, float(vehicle[SPEED]), float(vehicle[WAITING]), float(network.lane_speed[lane]))
            if lane in signal.leaving:
                leaving += 1
        totals.append(-abs(entering - leaving) if reward == "pressure" else -total)
    return totals


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("name", ["single", "grid4x4", "resco:cologne8", "resco:ingolstadt7"])
def test_rewards_and_costs_are_what_a_slow_loop_gives(name: str, reward: str) -> None:
    random = np.random.default_rng(1)
    task = SignalControl(network(name), 3, 5, 120, 60, reward, patience=120)
    task.rewards(made_up(network(name), 50, random))
    task.begin(0.0)
    snapshot = made_up(network(name), 0, random)
    for vehicles in (0, 1, 400, 300):
        before, snapshot = snapshot, made_up(network(name), vehicles, random)
        rewards, costs = task.rewards(snapshot), task.costs(snapshot)
        np.testing.assert_allclose(rewards, slow_reward(reward, network(name), snapshot, before), rtol=1e-5, atol=1e-4)
        impatient = [
            sum(lane >= 0 and network(name).lane_signal[lane] == number and waiting > 120 for lane, waiting in rows)
            for number in range(len(network(name).signals))
            for rows in [list(zip(snapshot.lanes, snapshot.vehicles[:, WAITING], strict=True))]
        ]
        assert costs.tolist() == impatient
        assert rewards.dtype == costs.dtype == np.float32
        assert rewards.shape == costs.shape == (len(network(name).signals),)


def test_an_unknown_reward_says_which_there_are() -> None:
    with pytest.raises(ValueError, match=rf"^reward 'speed': must be one of {', '.join(REWARDS)}$"):
        SignalControl(network("single"), 3, 5, 120, 60, "speed")


@pytest.mark.parametrize("phase", [-1, 4])
def test_a_phase_that_a_signal_does_not_have_is_named(phase: int) -> None:
    with pytest.raises(ValueError, match=rf"^signal A0: phase {phase}, must be 0 to 3$"):
        SignalControl(network("single"), 3, 5, 120, 60).commands([phase], 0)


@pytest.mark.parametrize("actions", [[], [0, 0], [[0]], 0])
def test_another_number_of_actions_than_signals_is_refused(actions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must be one for each of the 1 signals$"):
        SignalControl(network("single"), 3, 5, 120, 60).commands(actions, 0)


def at(time: float) -> Snapshot:
    return Snapshot(time, np.zeros((0, NUM_COLUMNS), np.float32), np.zeros(0, np.int32))


def test_the_frame_says_what_is_shown_since_when_and_what_may_be_chosen() -> None:
    task = SignalControl(network("single"), yellow_time=3, min_green=5, max_red=120, max_hold=60.0)
    task.begin(100)
    frame = task.frame(at(100))
    assert (frame.shown.tolist(), frame.elapsed.tolist(), frame.allowed.tolist()) == ([0], [5], [True] * 4)
    assert [command.signal for command in task.commands([2], 100)] == ["A0"]
    seen = [(f.shown[0], f.elapsed[0], f.allowed.tolist()) for f in (task.frame(at(t)) for t in (101, 103, 107, 108))]
    only = [False, False, True, False]
    assert seen == [(2, -2, only), (2, 0, only), (2, 4, only), (2, 5, [True] * 4)]
    assert task.commands([1], 107) == []  # not before the minimum green is over
    assert task.commands([2], 108) == []  # it is shown already
    assert len(task.commands([1], 108)) == 1


def standing_on(lane: int, waiting: float, time: float) -> Snapshot:
    vehicles = np.zeros((1, NUM_COLUMNS), np.float32)
    vehicles[0, WAITING] = waiting
    return Snapshot(time, vehicles, np.array([lane], np.int32))


def test_who_stands_at_red_for_too_long_has_a_turn() -> None:
    single = network("single")
    task = SignalControl(single, yellow_time=3, min_green=5, max_red=60, max_hold=60.0)
    task.begin(100)
    phases = {phase: set(single.phase_lanes[single.phase_lanes[:, 0] == phase, 1].tolist()) for phase in range(4)}
    lane = min(phases[2] - phases[0])
    serving = [lane in phases[phase] for phase in range(4)]
    assert not all(serving)
    assert task.frame(standing_on(lane, 90, 159)).allowed.all(), "it has not been red for so long"
    assert task.frame(standing_on(lane, 59, 160)).allowed.all(), "nobody has stood for so long"
    assert task.frame(standing_on(lane, 60, 160)).allowed.tolist() == serving
    task.commands([2], 160)
    only = [False, False, True, False]
    assert task.frame(standing_on(lane, 65, 165)).allowed.tolist() == only, "the minimum green holds"
    assert task.frame(standing_on(lane, 68, 168)).allowed.all(), "it has green"


def test_a_phase_for_some_of_a_lane_is_no_turn_for_all_of_it() -> None:
    """One phase lets everybody on a lane go, another only those who turn left."""
    place = network("resco:cologne8")
    (number,) = [s for s, signal in enumerate(place.signals) if signal.id == "26110729"]
    all_ways, left = 2, 3
    movements = place.signals[number].movements
    assert set(movements[left]) < set(movements[all_ways])
    lane = movements[left][0][0]
    task = SignalControl(place, yellow_time=3, min_green=5, max_red=60, max_hold=60.0)
    task.begin(0)
    task.frame(at(0))
    wanted = np.zeros(task.num_signals, np.int64)
    wanted[number] = left
    task.commands(wanted, 0)
    first = place.phase_start[number]
    for time in range(10, 60, 10):
        assert task.frame(standing_on(lane, time, time)).allowed[first : first + 4].all()
    assert task.frame(standing_on(lane, 60, 60)).allowed[first : first + 4].tolist() == [False, False, True, False]


CROSSING = ":cluster_357187_359543_"  # of cologne1; its links 3 and 1 lead to the left and straight on, from one lane


def within(place: Network, *vehicles: tuple[str, float, float], time: float = 100.0) -> Snapshot:
    """Vehicles at the junction of cologne1: lane, m on it or, if negative, before its end, and speed (m/s)."""
    table = np.zeros((len(vehicles), NUM_COLUMNS), np.float32)
    lanes = [place.lane_ids.index(lane if lane[0] != "_" else CROSSING + lane[1:]) for lane, _, _ in vehicles]
    position = np.array([position for _, position, _ in vehicles])
    table[:, LANE_POSITION] = np.where(position < 0, place.lane_length[lanes] + position, position)
    table[:, SPEED] = [speed for _, _, speed in vehicles]
    return Snapshot(time, table, np.array(lanes, np.int32))


@pytest.mark.parametrize(
    ("vehicles", "allowed"),
    [
        ([("_3_0", 8.5, 0.0), ("_1_1", 1.1, 4.4)], [False, False, True, False]),
        ([("_3_0", 8.5, 0.0)], [True] * 4),  # holds nobody up
        ([("_3_0", 8.5, 2.0), ("_1_1", 1.1, 2.0)], [True] * 4),  # moves
        ([("_3_0", 8.5, 1.9), ("_1_1", 9.0, 2.0)], [True] * 4),  # is behind the other one
        ([("_3_0", 8.5, 0.0), ("_3_0", 1.1, 0.0)], [True] * 4),  # both go the same way
        ([("_3_0", 8.5, 0.0), ("_11_1", 1.1, 4.4)], [True] * 4),  # come from different roads
        ([("_20_0", 1.0, 0.0), ("_1_1", 9.0, 4.4)], [False, False, True, False]),  # on the second lane of its way
        ([("_9_0", 8.5, 0.0), ("_6_1", 1.1, 4.4)], [True] * 4),  # is left over from another phase
        ([("_3_0", 8.5, 0.0), ("-32038056#3_1", -12.0, 7.0)], [False, False, True, False]),  # 12.4 m to stop
        ([("_3_0", 8.5, 0.0), ("-32038056#3_1", -13.0, 7.0)], [True] * 4),  # will stop
    ],
)
def test_who_is_held_up_inside_a_junction_keeps_green(
    vehicles: list[tuple[str, float, float]], allowed: list[bool]
) -> None:
    place = network("resco:cologne1")
    for max_hold in (60.0, 0.0):
        task = SignalControl(place, yellow_time=3, min_green=5, max_red=60, max_hold=max_hold)
        task.begin(80)
        task.commands([2], 80)
        found = task.frame(within(place, *vehicles)).allowed.tolist()
        assert found == (allowed if max_hold else [True] * 4)


def slow_hold(place: Network, shown: list[int], snapshot: Snapshot, max_hold: float) -> list[bool]:
    """Which phases may be chosen, as far as somebody is held up inside a junction."""
    of_lane = {
        lane: (tuple(place.ways[0][way].tolist()), m)
        for (lane, way), m in zip(place.inside, place.inside_start, strict=True)
    }
    inside, before = [], []
    for vehicle, lane in zip(snapshot.vehicles.astype(float), snapshot.lanes.tolist(), strict=True):
        if lane in of_lane:
            way, start = of_lane[lane]
            inside.append((start + vehicle[LANE_POSITION], way, vehicle[SPEED] < 2.0 and vehicle[WAITING] < max_hold))
        else:
            to_stop = vehicle[SPEED] + vehicle[SPEED] ** 2 / 9.0
            before.append((lane, place.lane_length[lane] - vehicle[LANE_POSITION] < to_stop))
    allowed = []
    for signal, phase in zip(place.signals, shown, strict=True):
        needed: set[tuple[int, int]] = set()
        for lane in {lane for lane, _ in signal.movements[phase]}:
            green = {way for way in signal.movements[phase] if way[0] == lane}
            standing = [(place_, way) for place_, way, stands in inside if stands and way in green]
            if not standing:
                continue
            front, blocking = max(standing)
            others = [place_ for place_, way, _ in inside if way[0] == lane and way != blocking]
            coming = len(green) > 1 and any(too_close for other, too_close in before if other == lane)
            if coming or any(place_ < front for place_ in others):
                needed |= green
        fitting = [needed <= set(movements) for movements in signal.movements]
        allowed += fitting if any(fitting) else [True] * len(fitting)
    return allowed


@pytest.mark.parametrize("name", ["resco:cologne1", "resco:cologne8", "resco:ingolstadt7"])
def test_phases_that_hold_are_what_a_slow_loop_gives(name: str) -> None:
    place, random = network(name), np.random.default_rng(3)
    counts = np.diff(place.phase_start)
    lanes = np.concatenate([place.inside[:, 0], place.ways[0][:, 0], [-1]])
    restricted = 0
    for _ in range(200):
        task = SignalControl(place, yellow_time=3, min_green=5, max_red=1e9, max_hold=60.0)
        task.begin(0)
        shown = random.integers(counts)
        task.commands(shown, 0)
        snapshot = made_up(place, 12 * len(place.signals), random)
        snapshot = Snapshot(20.0, snapshot.vehicles, random.choice(lanes, len(snapshot.lanes)).astype(np.int32))
        snapshot.vehicles[:, WAITING] /= 3
        snapshot.vehicles[:, LANE_POSITION] = (
            random.uniform(0, 1, len(snapshot.lanes)) * place.lane_length[snapshot.lanes]
        )
        found = task.frame(snapshot).allowed.tolist()
        assert found == slow_hold(place, shown.tolist(), snapshot, 60.0)
        restricted += not all(found)
    assert restricted > 20


def test_who_has_been_at_red_for_too_long_comes_before_who_is_held_up() -> None:
    place = network("resco:cologne1")
    task = SignalControl(place, yellow_time=3, min_green=5, max_red=60, max_hold=60.0)
    task.begin(0)
    task.commands([2], 0)
    held = within(place, ("_3_0", 8.5, 0.0), ("_1_1", 1.1, 4.4), ("23429231#1_0", 5.0, 0.0))
    held.vehicles[2, WAITING] = 100.0
    assert task.frame(held).allowed.tolist() == [True, False, False, False]


@pytest.mark.parametrize("name", ["single", "resco:cologne1", "resco:cologne8", "resco:ingolstadt7"])
def test_lanes_inside_junctions_are_those_of_the_ways_over_stop_lines(name: str) -> None:
    session = TraciSession(find(name))
    try:
        place, client = session.network, session.client
        first, second = Counter[tuple[str, str, str]](), 0
        for (lane, way), start in zip(place.inside.tolist(), place.inside_start.tolist(), strict=True):
            before, behind = place.ways[0][way]
            if start == 0.0:
                first[place.lane_ids[before], place.lane_ids[behind], place.lane_ids[lane]] += 1
                continue
            second += 1
            (previous,) = place.inside[place.inside[:, 1] == way, 0][:-1].tolist()
            assert start == pytest.approx(client.lane.getLength(place.lane_ids[previous]))
            assert [link[4] for link in client.lane.getLinks(place.lane_ids[previous])] == [place.lane_ids[lane]]
        green = {(place.lane_ids[a], place.lane_ids[b]) for a, b in place.ways[0].tolist()}
        groups = [group for s in place.signals for group in client.trafficlight.getControlledLinks(s.id)]
        assert first == Counter(link for group in groups for link in group if link[:2] in green)
        assert second > 0
    finally:
        session.close()


@pytest.mark.parametrize("name", ["single", "resco:cologne8", "resco:ingolstadt7"])
def test_a_policy_that_would_starve_some_may_not(name: str) -> None:
    """It always wants the first phase that is allowed; in turns of ten seconds all ways on come round."""
    most, interval = 40.0, 10.0
    simulation = Simulation(find(name), decision_interval=interval, max_red=most, episode_seconds=900)
    start = simulation.network.phase_start
    movements = [tuple(row) for row in simulation.network.movements.tolist()]
    phases = int(np.diff(start).max())
    try:
        frame = simulation.reset(1)
        green_at = {movement[1:]: frame.time for movement in movements}
        longest = 0.0
        ended = False
        while not ended:
            simulation.send([int(np.argmax(frame.allowed[a:b])) for a, b in pairwise(start)])
            outcome = simulation.receive()
            frame, ended = outcome.frame, outcome.truncated
            shown = set((start[:-1] + frame.shown).tolist())
            green_at |= {(before, behind): frame.time for phase, before, behind in movements if phase in shown}
            # Of several on a lane, the one who has waited longest comes last, and stays.
            waiting = dict(sorted(zip(frame.lanes.tolist(), frame.vehicles[:, WAITING].tolist(), strict=True)))
            red = (min(frame.time - at, waiting.get(before, 0.0)) for (before, _), at in green_at.items())
            longest = max(longest, *red)
    finally:
        simulation.close()
    assert most <= longest <= most + (phases + 1) * interval


@pytest.mark.parametrize(("yellow_time", "min_green"), [(3, 5), (2, 9), (4, 1), (0, 5)])
@pytest.mark.parametrize("name", ["single", "resco:cologne8"])
def test_yellow_and_minimum_green_are_kept_whatever_is_asked(name: str, yellow_time: float, min_green: float) -> None:
    random = np.random.default_rng(7)
    simulation = Simulation(find(name), decision_interval=1.0, yellow_time=yellow_time, min_green=min_green)
    try:
        frame = simulation.reset(1)
        lights = simulation.session.client.trafficlight
        signals = simulation.network.signals
        counts = [len(signal.greens) for signal in signals]
        shown: dict[str, list[str]] = {signal.id: [] for signal in signals}
        for _ in range(300):
            simulation.send(random.integers(counts))
            frame = simulation.receive().frame
            for s, signal in enumerate(signals):
                state = lights.getRedYellowGreenState(signal.id)
                shown[signal.id].append(state)
                # What the frame claims is what is shown, in the second that follows.
                if frame.elapsed[s] > 0:
                    assert state == signal.greens[frame.shown[s]]
    finally:
        simulation.close()
    for signal in signals:
        check_states(shown[signal.id], signal.greens, yellow_time, min_green)


def check_states(states: list[str], greens: tuple[str, ...], yellow_time: float, min_green: float) -> None:
    """Every green lasts at least ``min_green``, every yellow exactly ``yellow_time``, nobody goes from green to red."""
    runs = [(state, len(list(group))) for state, group in groupby(states)]
    assert len(runs) > 20
    for state, seconds in runs[1:-1]:
        if state in greens:
            assert seconds >= min_green
        else:
            assert seconds == yellow_time
    for before, after in pairwise(states):
        for a, b in zip(before, after, strict=True):
            assert not (yellow_time and a in "Gg" and b == "r")
            assert not (a == "r" and b == "y")


def test_signals_that_cannot_be_controlled_keep_their_own_program() -> None:
    simulation = Simulation(find("resco:cologne8"))
    try:
        fixed = {
            signal.id: simulation.session.client.trafficlight.getProgram(signal.id)
            for signal in simulation.network.fixed_signals
        }
        simulation.reset(1)
        lights = simulation.session.client.trafficlight
        assert {name: lights.getProgram(name) for name in fixed} == fixed
        assert {lights.getProgram(signal.id) for signal in simulation.network.signals} == {"platoon"}
    finally:
        simulation.close()


def test_plans_by_the_time_of_day_do_not_take_a_signal_away(tmp_path: Path) -> None:
    """SUMO switches to the plan of the night at 110 s, in the middle of a decision; from the next one on we rule."""
    simulation = Simulation(with_plans(tmp_path))
    try:
        simulation.reset(seed=1)
        (controlled,) = simulation.network.signals
        assert set(controlled.programs) == {"0", "night"}
        generator = np.random.default_rng(0)
        for _ in range(40):
            simulation.send(generator.integers(4, size=1))
            outcome = simulation.receive()
            state = simulation.session.client.trafficlight.getRedYellowGreenState(controlled.id)
            if outcome.frame.time != 120.0:  # the decision in which SUMO switched
                assert state == controlled.greens[int(outcome.frame.shown[0])], outcome.frame.time
    finally:
        simulation.close()
