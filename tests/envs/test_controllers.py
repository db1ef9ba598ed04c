"""Classical controllers: max-pressure against a slow loop, and what SUMO really runs against a SUMO left alone."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
import traci.constants as tc
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import sumo
from envs.backends import open_session
from envs.controllers import (
    CLASSICAL,
    Actuated,
    Controller,
    FixedTime,
    MaxPressure,
    MaxWave,
    Random,
    SelfOrganizing,
    Webster,
)
from envs.controllers.responsive import best_phases
from envs.controllers.webster import _count, flow_ratios, green_times
from envs.network import Network, Signal
from envs.scenarios import Scenario, find
from envs.session import LANE_POSITION, Session
from envs.signals import Frame, SignalControl
from envs.trips import read_trips
from envs.variation import Variation
from tests.support.scenarios import with_plans


@pytest.fixture(scope="module", params=["single", "resco:cologne1", "resco:cologne8", "resco:grid4x4"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    opened = open_session(find(request.param), "traci")
    yield opened
    opened.close()


def begin(controller: Controller, session: Session, seed: int = 1) -> SignalControl:
    task = SignalControl(session.network, yellow_time=3.0, min_green=5.0, max_red=120.0, max_hold=60.0)
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
    served: list[list[set[tuple[str, str]]]] = []  # movements from lane to lane, by signal and phase
    for signal in network.signals:
        links = client.trafficlight.getControlledLinks(signal.id)
        pairs = [
            {(a, b) for light, group in zip(green, links, strict=True) if light in "Gg" for a, b, _ in group}
            for green in signal.greens
        ]
        served.append([{(a, b) for a, b in own if a[0] != ":" and b[0] != ":"} for own in pairs])

    def pressure(before: str, behind: str) -> float:
        """Varaiya's w = x(l, m) - sum of r(m, p) x(m, p) over the ways p on from m, with equal shares."""
        ways = {lane: {link[0] for link in client.lane.getLinks(lane)} for lane in (before, behind)}
        share, onward = 1 / len(ways[before]), len(ways[behind])
        return share * count[before] - sum(1 / onward * count[behind] / onward for _ in ways[behind])

    return [[sum(pressure(a, b) for a, b in own) for own in phases] for phases in served]


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


def slow_counts(session: Session, reach: float, red_only: bool = False) -> list[list[int]]:
    """Vehicles within ``reach`` m of every phase of every signal, vehicle by vehicle, from TraCI's own words.

    With ``red_only`` those whose lane has green for somebody now are left out.
    """
    client = session.client
    left: dict[str, list[np.float32]] = {}
    for name in client.vehicle.getIDList():
        lane = client.vehicle.getLaneID(name)
        length = np.float32(client.lane.getLength(lane))
        left.setdefault(lane, []).append(length - np.float32(client.vehicle.getLanePosition(name)))
    counts = []
    for signal in session.network.signals:
        links = client.trafficlight.getControlledLinks(signal.id)
        served = [
            {link[0] for light, group in zip(green, links, strict=True) if light in "Gg" for link in group}
            for green in signal.greens
        ]
        roads = [{lane for lane in lanes if lane[0] != ":"} for lanes in served]
        if red_only:
            lights = zip(client.trafficlight.getRedYellowGreenState(signal.id), links, strict=True)
            released = {link[0] for light, group in lights if light in "Gg" for link in group}
            roads = [lanes - released for lanes in roads]
        counts.append(
            [sum(bool(metres <= reach) for lane in lanes for metres in left.get(lane, [])) for lanes in roads]
        )
    return counts


def test_max_wave_shows_the_phase_that_a_slow_loop_over_vehicles_finds(session: Session) -> None:
    controller = MaxWave()
    switches = 0
    for frame in run(controller, session, seconds=600):
        wanted = controller.act(frame)
        for s, counts in enumerate(slow_counts(session, reach=50.0)):
            movements = session.network.signals[s].movements
            ranks = [(count, len(movements[phase])) for phase, count in enumerate(counts)]
            best = [phase for phase, rank in enumerate(ranks) if rank == max(ranks)]
            assert wanted[s] == (frame.shown[s] if frame.shown[s] in best else best[0])
            switches += wanted[s] != frame.shown[s]
    assert switches >= 20


def test_self_organizing_lights_decide_as_a_slow_loop_with_counters_does(session: Session) -> None:
    controller = SelfOrganizing()
    counters = [[0.0] * len(signal.greens) for signal in session.network.signals]
    before = session.scenario.begin
    switches = tails = 0
    for frame in run(controller, session, seconds=900, interval=5.0):
        wanted = controller.act(frame)
        far, near = slow_counts(session, reach=80.0, red_only=True), slow_counts(session, reach=25.0)
        for s, own in enumerate(counters):
            shown = int(frame.shown[s])
            for phase in range(len(own)):
                own[phase] = 0.0 if phase == shown else own[phase] + far[s][phase] * (frame.time - before)
            asking = [phase for phase, waited in enumerate(own) if waited >= 50.0]
            most = max(asking, key=lambda phase: own[phase], default=shown)
            tail = 1 <= near[s][shown] <= 2
            assert wanted[s] == (shown if tail else most)
            switches += most != shown and not tail
            tails += most != shown and tail
        before = frame.time
    assert switches >= 20
    assert tails >= 5


def frame_with(network: Network, places: list[tuple[int, float]], time: float) -> Frame:
    """A frame in which every signal shows its first phase, and vehicles are on (lane, m before the stop line)."""
    vehicles = np.zeros((len(places), 8), np.float32)
    lanes = np.array([lane for lane, _ in places], np.int32)
    vehicles[:, LANE_POSITION] = network.lane_length[lanes] - np.array([left for _, left in places], np.float32)
    signals = len(network.signals)
    allowed = np.ones(network.num_phases, bool)
    return Frame(time, vehicles, lanes, np.zeros(signals, np.int16), np.full(signals, 9.0, np.float32), allowed)


@pytest.mark.parametrize(
    ("waiting", "present", "seconds", "switches"),
    [
        ([60.0] * 5, [], 9.5, False),  # 47.5 vehicle seconds
        ([60.0] * 5, [], 10.0, True),  # 50
        ([90.0] * 9, [], 10.0, False),  # out of sight
        ([60.0] * 5, [20.0], 10.0, False),  # the tail of a platoon
        ([60.0] * 5, [20.0, 24.0], 10.0, False),
        ([60.0] * 5, [10.0, 17.0, 24.0], 10.0, True),  # no tail any more
        ([60.0] * 5, [30.0], 10.0, True),  # too far to wait for
    ],
)
def test_self_organizing_lights_have_a_threshold_and_spare_tails(
    waiting: list[float], present: list[float], seconds: float, switches: bool
) -> None:
    session = open_session(find("single"), "traci")
    network, controller = session.network, SelfOrganizing()
    begin(controller, session)
    session.close()
    first, other = (set(lanes) for lanes in network.signals[0].served[::2])  # the roads that cross
    green, red = min(first - other), min(other - first)
    places = [(red, left) for left in waiting] + [(green, left) for left in present]
    assert controller.act(frame_with(network, places, 0.0)).tolist() == [0]
    assert (controller.act(frame_with(network, places, seconds)).tolist() != [0]) == switches


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


@pytest.mark.parametrize(
    ("ratios", "yellow", "min_green", "greens"),
    [
        # C = (1.5 * 10 + 5) / (1 - 0.5) = 40 s, 30 s of them in use, 18 and 12; greens begin 2 s before that.
        ([0.3, 0.2], 3.0, 5.0, [20, 14]),
        ([0.1, 0.2, 0.3], 4.0, 5.0, [12, 23, 33]),  # C = 32 / 0.4 = 80 s, 62 s in use: 10.3, 20.7 and 31
        ([0.5, 0.01], 3.0, 5.0, [32, 5]),  # C = 20 / 0.49 = 40.8 s, 30.8 s in use: 30.2 and 0.6, which is too short
        ([0.0, 0.0], 3.0, 5.0, [7, 7]),  # nobody comes: 20 s at least
        ([0.6, 0.6], 3.0, 5.0, [87, 87]),  # more than fits: 180 s at most
        ([0.0, 0.0], 0.0, 0.0, [10, 10]),  # 4 s lost: 11 s would do
        ([0.3, 0.2], 0.0, 0.0, [13, 9]),  # C = 11 / 0.5 = 22 s, 18 s in use: 10.8 and 7.2
    ],
)
def test_websters_formula_by_hand(ratios: list[float], yellow: float, min_green: float, greens: list[int]) -> None:
    assert green_times(np.array(ratios), yellow, min_green).tolist() == greens


def crossing(movements: tuple[tuple[tuple[int, int], ...], ...]) -> Network:
    """A signal before roads a (two lanes) and b, with roads x and y beyond it; a phase per group of movements."""
    names = ("a_0", "a_1", "b_0", "x_0", "y_0")
    served = tuple(tuple(sorted({before for before, _ in pairs})) for pairs in movements)
    shares = tuple(tuple((1.0, 0.0) for _ in lanes) for lanes in served)
    signal = Signal("s", tuple("G" * (n + 1) for n in range(len(movements))), served, shares, movements, (3, 4))
    nothing, five = np.empty((0, 2), np.int32), np.ones(5, np.float32)
    return Network(
        lane_ids=names,
        lane_length=five,
        lane_speed=five,
        lane_index=five.astype(np.int16),
        bounds=(0.0, 0.0, 1.0, 1.0),
        junction="s",
        signals=(signal,),
        fixed_signals=(),
        phase_start=np.array([0, len(movements)], np.int32),
        phase_signal=np.zeros(len(movements), np.int32),
        inside=np.zeros((0, 2), np.int32),
        inside_start=np.zeros(0, np.float32),
        phase_lanes=np.array([(p, lane) for p, lanes in enumerate(served) for lane in lanes], np.int32),
        phase_lane_shares=np.tile(np.array([1.0, 0.0], np.float32), (sum(map(len, served)), 1)),
        approaches=nothing,
        approach_distance=np.empty(0, np.float32),
        approach_stop=np.empty(0, np.int32),
        lane_signal=np.full(5, -1, np.int32),
        neighbours=nothing,
    )


def test_flow_ratios_by_hand() -> None:
    a_ahead, b_ahead, a_left = ((0, 3), (1, 3)), ((2, 4),), ((1, 4),)
    flows = {("a", "x"): 0.2, ("b", "y"): 0.1, ("a", "y"): 0.05, ("elsewhere", "x"): 9.0}
    # 0.2 vehicles per s on two lanes that can carry 0.5 each; 0.1 on one.
    assert flow_ratios(crossing((a_ahead, b_ahead)), flows) == pytest.approx([0.2, 0.2])
    # All of road a goes at once; where several roads do, the busiest one counts.
    assert flow_ratios(crossing((a_ahead + a_left, b_ahead)), flows) == pytest.approx([0.25, 0.2])
    assert flow_ratios(crossing((a_ahead + b_ahead, a_left)), flows) == pytest.approx([0.2, 0.1])
    # A turn that two phases let go counts half in each.
    assert flow_ratios(crossing((a_ahead, a_ahead + a_left)), flows) == pytest.approx([0.1, 0.15])
    assert flow_ratios(crossing((a_ahead, b_ahead)), {}).tolist() == [0.0, 0.0]


def driven_flows(scenario: Scenario, seed: int, path: Path) -> dict[tuple[str, str], float]:
    """Vehicles per s of each turn, from SUMO's own record of the routes of an episode that nobody interferes with."""
    command = [sumo.binary("sumo"), "-c", scenario.config, "--seed", seed, "--time-to-teleport", -1, "--no-step-log"]
    window = ["--end", scenario.end, "--vehroute-output", path, "--vehroute-output.write-unfinished"]
    quiet = ["--no-warnings", "--duration-log.disable"]
    subprocess.run([str(part) for part in (*command, *window, *quiet)], check=True, env=sumo.environment(), timeout=60)
    routes = [(one.get("edges") or "").split() for one in ET.parse(path).iter("route")]
    turns = Counter(turn for route in routes for turn in pairwise(route))
    return {turn: count / (scenario.end - scenario.begin) for turn, count in turns.items()}


def test_webster_installs_and_shows_what_the_formula_makes_of_the_driven_routes(
    session: Session, tmp_path: Path
) -> None:
    network, client = session.network, session.client
    ratios = flow_ratios(network, driven_flows(session.scenario, 1, tmp_path / "routes.xml"))
    shown: dict[str, list[str]] = {signal.id: [] for signal in network.signals}
    for _ in run(Webster(), session, seconds=400, interval=1.0):
        for name, states in shown.items():
            states.append(client.trafficlight.getRedYellowGreenState(name))
    assert session.observe().time == session.scenario.begin + 400, "the count must not use up the episode"
    for s, signal in enumerate(network.signals):
        start, end = network.phase_start[s : s + 2]
        logics = client.trafficlight.getAllProgramLogics(signal.id)
        phases = next(logic for logic in logics if logic.programID == "webster").phases
        assert [phase.state for phase in phases if phase.state in signal.greens] == list(signal.greens)
        greens = [phase.duration for phase in phases if phase.state in signal.greens]
        assert greens == pytest.approx(green_times(ratios[start:end], 3.0, 5.0), abs=1.0)
        assert {phase.duration for phase in phases if phase.state not in signal.greens} <= {3.0}
        ends = list(accumulate(phase.duration for phase in phases))
        # SUMO shows at t what its last step, from t - 1 on, was driven by.
        moments = [max(0, t - 1) % ends[-1] for t in range(400)]
        expected = [next(p.state for p, end in zip(phases, ends, strict=True) if at < end) for at in moments]
        assert shown[signal.id] == expected


def test_flows_are_of_all_who_want_to_drive() -> None:
    """With four times the traffic many never get in: in this scenario, each drives or would drive one turn."""
    scenario = find("single")
    session = open_session(scenario, "traci", variation=Variation.of("4", 0.0))
    session.reset(1)
    flows = _count(session, scenario.end)
    totals = session.totals()
    session.close()
    seconds = scenario.end - scenario.begin
    assert totals["waiting_to_depart"] > 100
    assert sum(flows.values()) * seconds == pytest.approx(totals["departed"] + totals["waiting_to_depart"])


@pytest.mark.parametrize("controller", [Actuated, Webster])
def test_a_plan_by_the_time_of_day_takes_no_signal_away_for_long(controller: type[Controller], tmp_path: Path) -> None:
    session = open_session(with_plans(tmp_path), "traci")
    (signal,) = session.network.signals
    programs = [session.client.trafficlight.getProgram(signal.id) for _ in run(controller(), session, seconds=300)]
    session.close()
    own = programs[0]
    assert own == controller.__name__.lower()
    assert programs.count("night") == 1, "SUMO switches once, and the next decision takes the signal back"
    assert set(programs) == {own, "night"}


def test_every_classical_controller_carries_traffic_and_the_clever_ones_carry_it_better() -> None:
    session = open_session(find("single"), "traci")
    standing, arrived = {}, {}
    for name, controller in CLASSICAL.items():
        frames = list(run(controller(), session, seconds=900))
        standing[name] = float(np.mean([frame.vehicles[:, 6].sum() for frame in frames]))
        arrived[name] = session.totals()["arrived"]
    session.close()
    assert min(arrived.values()) > 0.7 * max(arrived.values())
    assert max(standing, key=lambda name: standing[name]) == "random"
    for name in ("actuated", "max-pressure", "max-wave", "sotl"):
        assert standing[name] < standing["fixed"], name


def test_movements_lead_from_served_lanes_to_leaving_lanes(session: Session) -> None:
    network: Network = session.network
    for signal in network.signals:
        for served, movements in zip(signal.served, signal.movements, strict=True):
            assert {before for before, _ in movements} <= set(served)
            assert {behind for _, behind in movements} <= set(signal.leaving)
            assert movements


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**16))
def test_best_phases(counts: list[int], seed: int) -> None:
    """Against a loop; few different scores, so that there are ties, which the first phase wins."""
    start = np.concatenate([[0], np.cumsum(counts)])
    scores = np.random.default_rng(seed).choice([-np.inf, -1.0, 0.5, 2.0], start[-1])
    assert best_phases(scores, start).tolist() == [int(np.argmax(scores[a:b])) for a, b in pairwise(start)]
