"""The network that is read from the running SUMO, against the network file as sumolib reads it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sumolib

from envs import sumocfg
from envs.network import Network, Signal
from envs.scenarios import find
from envs.traci_session import TraciSession

RESCO = ["cologne1", "cologne8", "grid4x4", "ingolstadt7", "ingolstadt21"]
NAMES = ["single", "arterial", "grid4x4", *(f"resco:{name}" for name in RESCO)]


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[Network, Any]:
    """A network as we read it, and as sumolib does."""
    scenario = find(request.param)
    session = TraciSession(scenario)
    session.close()
    file = sumocfg.read(scenario.config).network
    return session.network, sumolib.net.readNet(
        str(file), withPrograms=True, withLatestPrograms=True, withInternal=True
    )


def test_lanes(pair: tuple[Network, Any]) -> None:
    network, net = pair
    roads = [name for name in network.lane_ids if not name.startswith(":")]
    assert set(roads) == {lane.getID() for edge in net.getEdges(withInternal=False) for lane in edge.getLanes()}
    for number, name in enumerate(network.lane_ids):
        if name in set(roads):
            lane = net.getLane(name)
            assert network.lane_length[number] == pytest.approx(lane.getLength(), abs=0.01)
            assert network.lane_speed[number] == pytest.approx(lane.getSpeed(), abs=0.01)
            assert network.lane_index[number] == lane.getIndex()


def test_bounds_hold_every_lane(pair: tuple[Network, Any]) -> None:
    network, net = pair
    points = np.array([point[:2] for edge in net.getEdges() for lane in edge.getLanes() for point in lane.getShape()])
    x_min, y_min, x_max, y_max = network.bounds
    margin = 5.0  # m: SUMO's boundary is that of the roads' middle lines
    assert (points >= [x_min - margin, y_min - margin]).all()
    assert (points <= [x_max + margin, y_max + margin]).all()


def test_signals_and_their_greens_are_those_of_the_file(pair: tuple[Network, Any]) -> None:
    network, net = pair
    lights = {light.getID(): light for light in net.getTrafficLights()}
    assert {signal.id for signal in (*network.signals, *network.fixed_signals)} == set(lights)
    for signal in network.signals:
        (program,) = lights[signal.id].getPrograms().values()
        states = [phase.state for phase in program.getPhases()]
        greens = [s for s in states if ("G" in s or "g" in s) and "y" not in s]
        assert signal.greens == tuple(dict.fromkeys(greens))


def test_served_and_leaving_lanes_are_those_of_the_links(pair: tuple[Network, Any]) -> None:
    network, net = pair
    for signal in network.signals:
        links = net.getTLS(signal.id).getConnections()
        for green, served in zip(signal.greens, signal.served, strict=True):
            lanes = {before.getID() for before, _, link in links if green[link] in "Gg"}
            assert {network.lane_ids[lane] for lane in served} == lanes
        assert {network.lane_ids[lane] for lane in signal.leaving} == {after.getID() for _, after, _ in links}


def test_shares_are_those_of_the_links_of_each_lane(pair: tuple[Network, Any]) -> None:
    network, net = pair
    rows = iter(network.phase_lane_shares)
    for signal in network.signals:
        links = net.getTLS(signal.id).getConnections()
        for green, served in zip(signal.greens, signal.served, strict=True):
            for lane in served:
                own = [green[link] for before, _, link in links if before.getID() == network.lane_ids[lane]]
                expected = [own.count("G") / len(own), own.count("g") / len(own)]
                assert next(rows).tolist() == pytest.approx(expected)
    assert next(rows, None) is None


def test_no_two_phases_of_a_signal_look_alike(pair: tuple[Network, Any]) -> None:
    """On which lanes they serve alone they would: one for everybody, and one for those of them who turn left."""
    network, _ = pair
    looks: dict[int, list[tuple[float, ...]]] = {phase: [] for phase in range(network.num_phases)}
    for (phase, lane), shares in zip(network.phase_lanes, network.phase_lane_shares, strict=True):
        looks[phase].append((lane, *shares))
    for start, end in pairwise(network.phase_start):
        own = [tuple(looks[phase]) for phase in range(start, end)]
        assert len(set(own)) == len(own)


def test_phases_are_numbered_through(pair: tuple[Network, Any]) -> None:
    network, _ = pair
    phases = [(s, served) for s, signal in enumerate(network.signals) for served in signal.served]
    assert network.num_phases == len(phases)
    assert network.phase_signal.tolist() == [s for s, _ in phases]
    assert [tuple(p) for p in network.phase_lanes] == [(p, ln) for p, (_, served) in enumerate(phases) for ln in served]
    for s, signal in enumerate(network.signals):
        assert network.phase_start[s + 1] - network.phase_start[s] == len(signal.greens)


def metres_to_stops(stops: set[str], net: Any) -> dict[str, dict[str, float]]:
    """Of each stop line, the lanes that lead to it, as far as 300 m: relaxed until nothing becomes shorter."""
    lanes = {lane.getID(): lane for edge in net.getEdges() for lane in edge.getLanes()}
    after = {
        name: {c.getViaLaneID() or c.getToLane().getID() for c in lane.getOutgoing()} for name, lane in lanes.items()
    }
    steps = [(name, other) for name, others in after.items() if name not in stops for other in others]
    ways = {stop: {stop: 0.0} for stop in stops}
    for metres in ways.values():
        changed = True
        while changed:
            changed = False
            for name, other in steps:
                distance = metres.get(other, np.inf) + lanes[other].getLength()
                if distance < metres.get(name, 300.0) - 1e-9:
                    metres[name], changed = distance, True
    return ways


def downstream(signal: Signal, network: Network, net: Any, arrives_at: dict[str, str]) -> Iterator[str]:
    """Ids of the signals that are reached first from a signal, by Dijkstra's algorithm over sumolib's lanes."""
    start = [network.lane_ids[lane] for lane in signal.leaving]
    queue = [(net.getLane(name).getLength(), name) for name in start]
    heapq.heapify(queue)
    done = set()
    while queue:
        travelled, name = heapq.heappop(queue)
        if name in done:
            continue
        done.add(name)
        if name in arrives_at:
            yield arrives_at[name]
        elif travelled < 1000:
            for connection in net.getLane(name).getOutgoing():
                after = (
                    connection.getViaLaneID() or connection.getToLane().getID()
                )  # the way through the junction first
                heapq.heappush(queue, (travelled + net.getLane(after).getLength(), after))


def test_neighbours_are_the_signals_that_come_next(pair: tuple[Network, Any]) -> None:
    network, net = pair
    arrives_at = {network.lane_ids[lane]: signal.id for signal in network.signals for lane in signal.incoming}
    expected = {(s.id, other) for s in network.signals for other in downstream(s, network, net, arrives_at)}
    found = {(network.signals[a].id, network.signals[b].id) for a, b in network.neighbours}
    assert found == {(a, b) for a, b in expected if a != b}


def test_approaches_are_the_lanes_that_lead_to_a_stop_line(pair: tuple[Network, Any]) -> None:
    network, net = pair
    names = network.lane_ids
    signals = (*network.signals, *network.fixed_signals)
    ways = metres_to_stops({names[lane] for signal in signals for lane in signal.incoming}, net)
    expected: dict[tuple[int, str], float] = {}
    for phase, stop in network.phase_lanes:
        for lane, metres in ways[names[stop]].items():
            expected[phase, lane] = min(metres, expected.get((phase, lane), np.inf))
    found = {
        (phase, names[lane]): metres
        for (phase, lane), metres in zip(network.approaches, network.approach_distance, strict=True)
    }
    assert found.keys() == expected.keys()
    for key, metres in expected.items():
        assert found[key] == pytest.approx(metres, abs=0.1)
    for (phase, lane), metres, row in zip(
        network.approaches, network.approach_distance, network.approach_stop, strict=True
    ):
        serving, stop = network.phase_lanes[row]
        assert serving == phase
        assert ways[names[stop]][names[lane]] == pytest.approx(metres, abs=0.1)
    for number, name in enumerate(names):
        distances = [min(ways[names[stop]].get(name, np.inf) for stop in signal.incoming) for signal in network.signals]
        signal = network.lane_signal[number]
        assert (distances[signal] if signal >= 0 else np.inf) == pytest.approx(min(distances), abs=0.1)


@pytest.mark.parametrize(("name", "pairs"), [("single", 0), ("arterial", 2 * 4), ("grid4x4", 2 * 24)])
def test_neighbours_of_generated_networks_are_those_on_the_same_street(name: str, pairs: int) -> None:
    session = TraciSession(find(name))
    session.close()
    ids = [signal.id for signal in session.network.signals]
    assert session.network.neighbours.shape == (pairs, 2)
    for before, after in session.network.neighbours:
        (column, row), (other_column, other_row) = ids[before], ids[after]
        assert abs(ord(column) - ord(other_column)) + abs(int(row) - int(other_row)) == 1


def test_there_is_room_for_every_vehicle_of_a_jam(pair: tuple[Network, Any]) -> None:
    network, net = pair
    assert network.jam_capacity >= sum(lane.getLength() for edge in net.getEdges() for lane in edge.getLanes()) / 5
