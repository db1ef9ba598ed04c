"""Frames as PyTorch Geometric sees them, for models that are built with its layers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from graph.graphs import Graphs


def to_hetero_data(graphs: Graphs, frame: int) -> HeteroData:
    """One frame as a ``HeteroData``; many of them collate with ``torch_geometric.data.Batch.from_data_list``.

    Nodes: ``vehicle`` (``x`` float32 [V, 9]), ``phase`` (``x`` float32 [P, 6]) and ``signal`` (no features of its own).
    Edges, all with ``edge_index`` int64 [2, E]: ``vehicle near vehicle`` (``edge_attr`` float32 [E, 4]), ``vehicle
    approaches phase`` (``edge_attr`` float32 [E, 6]), ``phase of signal``, and ``signal upstream signal``. ``time`` is
    float32 [1, 2].
    Columns are named in ``graph.schema``. Raises ``IndexError`` when there is no such frame.
    """
    one = graphs.take([frame])
    data = HeteroData()
    data.time = torch.from_numpy(one.time)
    data["vehicle"].x = torch.from_numpy(one.vehicles)
    data["phase"].x = torch.from_numpy(one.phases)
    data["signal"].num_nodes = len(one.signal_start)
    near = data["vehicle", "near", "vehicle"]
    near.edge_index = _index(one.vehicle_edges)
    near.edge_attr = torch.from_numpy(one.vehicle_edge_features)
    approaches = data["vehicle", "approaches", "phase"]
    approaches.edge_index = _index(one.phase_edges)
    approaches.edge_attr = torch.from_numpy(one.phase_edge_features)
    own = np.column_stack([np.arange(len(one.phase_signal)), one.phase_signal])
    data["phase", "of", "signal"].edge_index = _index(own)
    data["signal", "upstream", "signal"].edge_index = _index(one.signal_edges)
    return data


def _index(ends: NDArray[np.integer]) -> Tensor:
    """Edge ends [E, 2] the way PyG wants them, int64 [2, E]."""
    return torch.from_numpy(np.ascontiguousarray(ends.T, np.int64))
