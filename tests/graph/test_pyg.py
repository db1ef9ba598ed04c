from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import GINEConv, HeteroConv, SAGEConv

from graph.acting import stack
from graph.build import build
from graph.graphs import Graphs
from graph.pyg import to_hetero_data
from graph.ragged import frame_of
from graph.tensors import to_tensors
from graph.topology import Topology
from tests.graph.examples import make_frames, make_network


def make_graphs(counts: list[int], seed: int = 0) -> Graphs:
    network = make_network(seed)
    return build(stack(make_frames(seed, network, counts)), Topology.of(network), 70.0)


def collate(graphs: Graphs) -> Batch:
    return Batch.from_data_list([to_hetero_data(graphs, frame) for frame in range(len(graphs))])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 99))
def test_pyg_collates_to_the_same_indices_and_features(counts: list[int], seed: int) -> None:
    graphs = make_graphs(counts, seed)
    ours, theirs = to_tensors(graphs), collate(graphs)
    near = theirs["vehicle", "near", "vehicle"]
    approaches = theirs["vehicle", "approaches", "phase"]
    assert torch.equal(torch.stack([ours.vehicle_source, ours.vehicle_target]), near.edge_index)
    assert torch.equal(torch.stack([ours.served_vehicle, ours.serving_phase]), approaches.edge_index)
    upstream = theirs["signal", "upstream", "signal"].edge_index
    assert torch.equal(torch.stack([ours.signal_source, ours.signal_target]), upstream)
    assert torch.equal(ours.vehicle_edge_features, near.edge_attr)
    assert torch.equal(ours.phase_edge_features, approaches.edge_attr)
    assert torch.equal(ours.vehicles, theirs["vehicle"].x)
    assert torch.equal(ours.phases, theirs["phase"].x)
    assert torch.equal(torch.from_numpy(frame_of(graphs.phase_offsets)), theirs["phase"].batch)
    assert torch.equal(torch.from_numpy(graphs.time), theirs.time)
    phase, signal = theirs["phase", "of", "signal"].edge_index
    assert torch.equal(phase, torch.arange(len(ours.phases)))
    assert torch.equal(signal, ours.phase_signal)
    assert theirs["signal"].num_nodes == len(ours.signal_start)


def test_one_frame_is_valid_and_belongs_to_whoever_asked() -> None:
    graphs = make_graphs([4, 0, 7])
    data = to_hetero_data(graphs, 2)
    data.validate(raise_on_error=True)
    before = graphs.vehicles.copy()
    data["vehicle"].x.zero_()
    assert (graphs.vehicles == before).all()
    with pytest.raises(IndexError):
        to_hetero_data(graphs, 3)


def test_pyg_layers_run_on_it() -> None:
    convolution = HeteroConv(
        {
            ("vehicle", "near", "vehicle"): GINEConv(nn.Linear(9, 8), edge_dim=4),
            ("vehicle", "approaches", "phase"): SAGEConv((9, 6), 8),
        }
    )
    batch = collate(make_graphs([4, 0, 7]))
    near = ("vehicle", "near", "vehicle")
    out = convolution(batch.x_dict, batch.edge_index_dict, edge_attr_dict={near: batch[near].edge_attr})
    assert out["vehicle"].shape == (11, 8)
    assert out["phase"].shape == (len(batch["phase"].x), 8)
