from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from envs.network import Network
from envs.session import ACCELERATION, ANGLE, CONTROLLED, LANE_POSITION, SPEED, WAITING, X, Y
from envs.signals import Frame
from graph.acting import stack
from graph.build import build
from graph.graphs import Graphs
from graph.topology import Topology
from tests.graph.examples import assert_same_graphs, make_frames, make_network

RADIUS = 70.0  # m
COUNTS = st.lists(st.integers(0, 14), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**16)


def build_graphs(network: Network, frames: list[Frame], radius: float = RADIUS) -> Graphs:
    return build(stack(frames), Topology.of(network), radius)


def owned(graphs: Graphs, name: str, frame: int) -> NDArray:
    """The rows of one frame."""
    offsets = getattr(graphs, Graphs.OWNER[name])
    return getattr(graphs, name)[offsets[frame] : offsets[frame + 1]]


def slow_vehicle(network: Network, row: NDArray, lane: int) -> list[float]:
    x_min, y_min, x_max, y_max = network.bounds
    heading = math.radians(row[ANGLE])
    return [
        (row[X] - x_min) / (x_max - x_min),
        (row[Y] - y_min) / (y_max - y_min),
        (row[SPEED] - 15) / 5,
        max(-5.0, min(5.0, row[ACCELERATION])) / 5,
        math.sin(heading),
        math.cos(heading),
        network.lane_index[lane] / 4 if lane >= 0 else 0.0,
        min(row[WAITING] / 60, 5.0),
        row[CONTROLLED],
    ]


def slow_edge(source: NDArray, target: NDArray, radius: float) -> list[float]:
    """How ``source`` looks from ``target``."""
    ahead = (math.sin(math.radians(target[ANGLE])), math.cos(math.radians(target[ANGLE])))
    right = (ahead[1], -ahead[0])
    offset = (source[X] - target[X], source[Y] - target[Y])

    def velocity(row: NDArray) -> tuple[float, float]:
        return row[SPEED] * math.sin(math.radians(row[ANGLE])), row[SPEED] * math.cos(math.radians(row[ANGLE]))

    (source_x, source_y), (target_x, target_y) = velocity(source), velocity(target)
    distance = max(math.hypot(*offset), 0.1)
    closing = -((source_x - target_x) * offset[0] + (source_y - target_y) * offset[1]) / distance
    return [
        (offset[0] * ahead[0] + offset[1] * ahead[1]) / radius,
        (offset[0] * right[0] + offset[1] * right[1]) / radius,
        (source[SPEED] - target[SPEED]) / 5,
        min(distance / closing / 10, 1.0) if closing > 0.1 else 1.0,
    ]


def slow_approach(network: Network, row: NDArray, lane: int, phase: int) -> list[float]:
    (place,) = np.flatnonzero((network.approaches == [phase, lane]).all(axis=1))
    beyond = network.approach_distance[place]
    protected, permissive = network.phase_lane_shares[network.approach_stop[place]]
    distance = network.lane_length[lane] - row[LANE_POSITION] + beyond
    return [
        min(max(distance / 100, 0.0), 5.0),
        min(max(distance / max(row[SPEED], 0.5) / 60, 0.0), 1.0),
        min(row[WAITING] / 60, 5.0),
        network.lane_index[lane] / 4,
        protected,
        permissive,
    ]


def close(actual: NDArray, expected: list[list[float]], columns: int) -> None:
    np.testing.assert_allclose(actual, np.array(expected).reshape(-1, columns), atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(COUNTS, SEEDS)
@example([0], 0)
@example([1], 0)
@example([0, 0, 1, 0], 0)
def test_vehicles(counts: list[int], seed: int) -> None:
    network = make_network(seed)
    frames = make_frames(seed, network, counts)
    graphs = build_graphs(network, frames)
    for n, frame in enumerate(frames):
        expected = [slow_vehicle(network, row, lane) for row, lane in zip(frame.vehicles, frame.lanes, strict=True)]
        close(owned(graphs, "vehicles", n), expected, 9)


@pytest.mark.parametrize("place", [0.0, 1e6, -1e6])
def test_a_jam_has_all_its_edges(place: float) -> None:
    """More pairs than there is room for at first, far from everywhere, beside a vehicle that SUMO cannot place."""
    network = make_network(1)
    frames = make_frames(1, network, [45, 0, 60])
    generator = np.random.default_rng(1)
    for frame in frames:
        frame.vehicles[:, [X, Y]] = place + generator.uniform(-60, 60, (len(frame.lanes), 2))
        frame.vehicles[:1, [X, Y]] = -1073741824.0  # INVALID_DOUBLE_VALUE
    graphs = build_graphs(network, frames)
    for n, frame in enumerate(frames):
        places = frame.vehicles[:, [X, Y]].astype(np.float64)
        near = [
            (source, target)
            for target in range(len(places))
            for source in range(len(places))
            if source != target and math.dist(places[source], places[target]) <= RADIUS
        ]
        assert list(map(tuple, owned(graphs, "vehicle_edges", n))) == near
    assert len(graphs.vehicle_edges) > 16 * 105


def test_frames_of_another_network_are_refused() -> None:
    network = make_network(1)
    (frame,) = make_frames(1, network, [4])
    for name, wrong in (("lanes", len(network.lane_ids)), ("shown", 5), ("shown", -1)):
        array = getattr(frame, name).copy()
        array[-1] = wrong
        with pytest.raises(IndexError):
            build_graphs(network, [replace(frame, **{name: array})])


@settings(max_examples=60, deadline=None)
@given(COUNTS, SEEDS)
@example([0], 0)
@example([1, 1, 1], 0)
def test_edges_between_vehicles(counts: list[int], seed: int) -> None:
    network = make_network(seed)
    frames = make_frames(seed, network, counts)
    graphs = build_graphs(network, frames)
    assert len(graphs.vehicle_edge_offsets) == len(frames) + 1
    assert graphs.vehicle_edge_offsets[-1] == len(graphs.vehicle_edges)
    for n, frame in enumerate(frames):
        rows = frame.vehicles.astype(np.float64)
        expected = [
            (source, target)
            for target in range(len(rows))
            for source in range(len(rows))
            if source != target and math.dist(rows[source, [X, Y]], rows[target, [X, Y]]) < RADIUS
        ]
        assert list(map(tuple, owned(graphs, "vehicle_edges", n))) == expected
        features = [slow_edge(rows[source], rows[target], RADIUS) for source, target in expected]
        close(owned(graphs, "vehicle_edge_features", n), features, 4)


@settings(max_examples=60, deadline=None)
@given(COUNTS, SEEDS)
@example([0], 0)
def test_edges_from_vehicles_to_phases(counts: list[int], seed: int) -> None:
    network = make_network(seed)
    frames = make_frames(seed, network, counts)
    graphs = build_graphs(network, frames)
    for n, frame in enumerate(frames):
        expected = [
            (vehicle, phase)
            for vehicle, lane in enumerate(frame.lanes)
            for phase, approaching in network.approaches
            if approaching == lane
        ]
        assert sorted(map(tuple, owned(graphs, "phase_edges", n))) == sorted(expected)
        ends = owned(graphs, "phase_edges", n)
        features = [
            slow_approach(network, frame.vehicles[vehicle], frame.lanes[vehicle], phase) for vehicle, phase in ends
        ]
        close(owned(graphs, "phase_edge_features", n), features, 6)


@settings(max_examples=40, deadline=None)
@given(COUNTS, SEEDS)
def test_phases_signals_and_time(counts: list[int], seed: int) -> None:
    network = make_network(seed)
    frames = make_frames(seed, network, counts)
    graphs = build_graphs(network, frames)
    for n, frame in enumerate(frames):
        expected = []
        for phase, signal in enumerate(network.phase_signal):
            shown = phase - network.phase_start[signal] == frame.shown[signal]
            elapsed = min(max(frame.elapsed[signal] / 60, -1.0), 3.0) if shown else 0.0
            shares = network.phase_lane_shares[network.phase_lanes[:, 0] == phase]
            lanes = [len(shares) / 4, *shares.sum(0) / 4]
            expected.append([float(shown), elapsed, *lanes, float(frame.allowed[phase])])
        close(owned(graphs, "phases", n), expected, 6)
        assert owned(graphs, "phase_signal", n).tolist() == network.phase_signal.tolist()
        assert owned(graphs, "signal_start", n).tolist() == network.phase_start[:-1].tolist()
        assert owned(graphs, "signal_edges", n).tolist() == network.neighbours.tolist()
        angle = 2 * math.pi * frame.time / 86400
        np.testing.assert_allclose(graphs.time[n], [math.sin(angle), math.cos(angle)], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(COUNTS, SEEDS)
def test_a_frame_is_the_same_alone_and_among_others(counts: list[int], seed: int) -> None:
    network = make_network(seed)
    frames = make_frames(seed, network, counts)
    together = build_graphs(network, frames)
    for n, frame in enumerate(frames):
        assert_same_graphs(together.take([n]), build_graphs(network, [frame]))


def test_frames_are_never_joined_with_each_other() -> None:
    """The same vehicles stand at the same places in fifty frames."""
    network = make_network(0)
    frames = make_frames(0, network, [2]) * 50
    frames[0].vehicles[:, [X, Y]] = [[10.0, 50.0], [10.0 + RADIUS - 0.01, 50.0]]
    graphs = build_graphs(network, frames)
    assert graphs.vehicle_edges.tolist() == [[1, 0], [0, 1]] * 50
    assert graphs.vehicle_edge_offsets.tolist() == list(range(0, 101, 2))


def test_vehicles_at_one_place_have_finite_features() -> None:
    network = make_network(0)
    frames = make_frames(0, network, [3])
    frames[0].vehicles[:] = frames[0].vehicles[0]
    graphs = build_graphs(network, frames)
    assert len(graphs.vehicle_edges) == 6
    assert np.isfinite(graphs.vehicle_edge_features).all()


@pytest.mark.parametrize("radius", [0.0, -1.0])
def test_without_radius_vehicles_do_not_see_each_other(radius: float) -> None:
    network = make_network(0)
    graphs = build_graphs(network, make_frames(0, network, [9, 0, 9]), radius)
    assert graphs.vehicle_edges.shape == (0, 2)
    assert graphs.vehicle_edge_features.shape == (0, 4)
    assert graphs.vehicle_edge_offsets.tolist() == [0, 0, 0, 0]
    assert len(graphs.phase_edges) > 0


def test_a_single_signal_has_no_neighbour() -> None:
    network = make_network(0, signals=1)
    graphs = build_graphs(network, make_frames(0, network, [3, 4]))
    assert graphs.signal_edges.shape == (0, 2)
    assert graphs.signal_edge_offsets.tolist() == [0, 0, 0]
