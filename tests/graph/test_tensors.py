from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.acting import stack
from graph.build import build
from graph.graphs import Graphs
from graph.tensors import GraphTensors, to_tensors
from graph.topology import Topology
from tests.graph.examples import make_frames, make_network

INDICES = [
    "vehicle_source",
    "vehicle_target",
    "phase_signal",
    "served_vehicle",
    "serving_phase",
    "signal_start",
    "signal_source",
    "signal_target",
    "history",
]


def make_graphs(counts: list[int], seed: int = 0) -> Graphs:
    network = make_network(seed)
    return build(stack(make_frames(seed, network, counts)), Topology.of(network), 70.0)


def test_types() -> None:
    tensors = to_tensors(make_graphs([5, 0, 3]))
    for field in fields(GraphTensors):
        assert getattr(tensors, field.name).dtype == (torch.int64 if field.name in INDICES else torch.float32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_indices_point_at_the_rows_of_their_frame(counts: list[int], seed: int) -> None:
    """Against a loop that adds up the sizes of the frames before."""
    graphs = make_graphs(counts, seed)
    tensors = to_tensors(graphs)
    expected: dict[str, list[int]] = {name: [] for name in INDICES[:-1]}
    vehicles = phases = signals = 0
    for n in range(len(counts)):
        one = graphs.take([n])
        expected["vehicle_source"] += (one.vehicle_edges[:, 0] + vehicles).tolist()
        expected["vehicle_target"] += (one.vehicle_edges[:, 1] + vehicles).tolist()
        expected["served_vehicle"] += (one.phase_edges[:, 0] + vehicles).tolist()
        expected["serving_phase"] += (one.phase_edges[:, 1] + phases).tolist()
        expected["phase_signal"] += (one.phase_signal + signals).tolist()
        expected["signal_start"] += (one.signal_start + phases).tolist()
        expected["signal_source"] += (one.signal_edges[:, 0] + signals).tolist()
        expected["signal_target"] += (one.signal_edges[:, 1] + signals).tolist()
        vehicles += len(one.vehicles)
        phases += len(one.phases)
        signals += len(one.signal_start)
    for name, numbers in expected.items():
        assert getattr(tensors, name).tolist() == numbers, name


def test_history_points_at_the_same_phase_of_earlier_frames() -> None:
    graphs = make_graphs([1, 2, 3, 0, 2])
    phases = len(graphs.phases) // 5
    earlier = np.array([0, 1, 2, 0, 1])  # two episodes: frames 0 to 2, frames 3 and 4
    rows = to_tensors(graphs, 3, earlier).history.reshape(2, 5, phases)
    for back in (1, 2):
        for frame in range(5):
            expected = [-1] * phases
            if earlier[frame] >= back:
                expected = [(frame - back) * phases + phase for phase in range(phases)]
            assert rows[back - 1, frame].tolist() == expected


def test_history_of_unknown_frames_is_absent() -> None:
    graphs = make_graphs([1, 2])
    assert to_tensors(graphs).history.shape == (0, len(graphs.phases))
    assert (to_tensors(graphs, 4).history == -1).all()
    assert to_tensors(graphs, 4).history.shape == (3, len(graphs.phases))


def test_to_moves_everything() -> None:
    moved = to_tensors(make_graphs([2, 3])).to("meta")
    assert all(getattr(moved, field.name).device.type == "meta" for field in fields(GraphTensors))
