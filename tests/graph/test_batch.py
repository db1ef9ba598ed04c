from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from buffers.fragments import Fragment
from graph.acting import stack
from graph.batch import Batch, make_batch
from graph.build import build
from graph.graphs import Graphs
from graph.schema import ALLOWED
from graph.tensors import GraphTensors
from graph.topology import Topology
from tests.graph.examples import make_decision, make_fragment, make_frames, make_network, write_fragment

NETWORK = make_network(4)
SIGNALS = len(NETWORK.phase_start) - 1


def graphs_of(seed: int, count: int) -> Graphs:
    return build(stack(make_frames(seed, NETWORK, [2] * count)), Topology.of(NETWORK), 50.0)


def ragged_batch() -> tuple[list[Fragment], Batch]:
    """Three fragments of different lengths, the second with two frames from before it."""
    fragments = [
        make_fragment(1, NETWORK, 3, env=0, version=5),
        make_fragment(2, NETWORK, 5, env=1, episode=7, first=40, version=6, terminated=True),
        make_fragment(3, NETWORK, 1, env=2, episode=8, version=7, terminated=True),
    ]
    graphs = Graphs.join([graphs_of(1, 4), graphs_of(9, 2), graphs_of(2, 6), graphs_of(3, 2)])
    return fragments, make_batch(fragments, graphs, leading=[0, 2, 0], history=2, maps=[0, 0, 0])


def test_everything_is_where_it_belongs() -> None:
    fragments, batch = ragged_batch()
    first_frames = [0, 6, 12]
    phases = NETWORK.num_phases
    assert batch.valid.shape == (5, 3 * SIGNALS)
    assert batch.signal_rows.shape == (6, 3 * SIGNALS)
    for i, (fragment, first_frame) in enumerate(zip(fragments, first_frames, strict=True)):
        for signal in range(SIGNALS):
            column = i * SIGNALS + signal
            assert batch.versions[column] == fragment.version
            for t in range(len(fragment) + 1):
                assert batch.signal_rows[t, column] == (first_frame + t) * SIGNALS + signal
            for t in range(5):
                inside = t < len(fragment)
                assert batch.valid[t, column] == inside
                assert batch.terminated[t, column] == (i > 0 and t == len(fragment) - 1)
                if inside:
                    phase = NETWORK.phase_start[signal] + fragment.actions[t, signal]
                    assert batch.phase_rows[t, column] == (first_frame + t) * phases + phase
                for name in ("log_probs", "rewards", "costs"):
                    value = getattr(fragment, name)[t, signal] if inside else 0.0
                    assert getattr(batch, name)[t, column] == value


def test_history_is_counted_from_the_leading_frames() -> None:
    _, batch = ragged_batch()
    phases = NETWORK.num_phases
    first_of_episode = batch.graph.history[0].reshape(-1, phases)[:, 0] == -1
    assert torch.nonzero(first_of_episode).flatten().tolist() == [0, 4, 12]


def test_about_the_batch() -> None:
    _, batch = ragged_batch()
    assert batch.sources == ((0, 0, 0, 3, 5), (1, 7, 40, 5, 6), (2, 8, 0, 1, 7))
    assert batch.decisions == 9
    assert batch.seconds == pytest.approx(90.0)  # frames of the examples are 10 s apart
    assert [summary["return"] for summary in batch.summaries] == [7.0, 8.0]


def test_indices_stay_inside_the_graph_also_in_the_padding() -> None:
    _, batch = ragged_batch()
    assert (batch.phase_rows >= 0).all()
    assert (batch.phase_rows < len(batch.graph.phases)).all()
    assert (batch.signal_rows >= 0).all()
    assert (batch.signal_rows < len(batch.graph.signal_start)).all()


@pytest.mark.parametrize(("count", "cuts"), [(1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (9, [1, 1, 1])])
def test_parts_of_the_graph_are_what_a_batch_of_their_fragments_would_hold(count: int, cuts: list[int]) -> None:
    fragments, batch = ragged_batch()
    graphs = [graphs_of(1, 4), Graphs.join([graphs_of(9, 2), graphs_of(2, 6)]), graphs_of(3, 2)]
    leading = [0, 2, 0]
    parts = list(batch.graphs(count))
    assert len(parts) == len(cuts)
    first = 0
    for part, length in zip(parts, cuts, strict=True):
        own = slice(first, first + length)
        expected = make_batch(fragments[own], Graphs.join(graphs[own]), leading[own], 2, [0] * length).graph
        for field in fields(GraphTensors):
            ours, theirs = getattr(part, field.name), getattr(expected, field.name)
            assert ours.dtype == theirs.dtype, field.name
            assert torch.equal(ours, theirs), field.name
        first += length
    assert torch.equal(torch.cat([part.phases for part in parts]), batch.graph.phases)


def test_to_moves_every_tensor() -> None:
    _, batch = ragged_batch()
    moved = batch.to("meta")
    tensors = [getattr(moved, field.name) for field in fields(Batch)]
    tensors += [getattr(moved.graph, field.name) for field in fields(GraphTensors)]
    assert {part.device.type for part in tensors if isinstance(part, torch.Tensor)} == {"meta"}
    assert moved.sources == batch.sources


def test_networks_of_different_sizes_share_a_batch() -> None:
    other = make_network(8, signals=5)
    generator = np.random.default_rng(0)
    frames = make_frames(0, other, [3, 0, 4])
    decisions = [make_decision(generator, other, frame) for frame in frames[:2]]
    fragments = [make_fragment(1, NETWORK, 1), write_fragment(other, frames, decisions)]
    graphs = Graphs.join([graphs_of(1, 2), build(stack(frames), Topology.of(other), 50.0)])
    batch = make_batch(fragments, graphs, [0, 0], 1, maps=[0, 1])
    assert batch.valid.sum(0).tolist() == [1] * SIGNALS + [2] * 5
    assert batch.maps.tolist() == [0] * SIGNALS + [1] * 5
    chosen = batch.graph.phase_signal[batch.phase_rows]
    assert (chosen == batch.signal_rows[:-1])[batch.valid].all()
    assert (batch.graph.phases[batch.phase_rows][:, SIGNALS:, ALLOWED][:2] == 1).all(), "a phase that was not allowed"
