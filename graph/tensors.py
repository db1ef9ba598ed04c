"""Graphs as tensors: absolute indices, ready for the device."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from graph.graphs import Graphs
from graph.history import history_rows
from graph.ragged import each_row


@dataclass(frozen=True, eq=False, slots=True)
class GraphTensors:
    """The graphs of frames as one disconnected graph, without the time of day, which no policy looks at.

    Columns of the feature tensors are named in ``graph.schema``; indices are int64 and count over the whole batch.
    """

    vehicles: Tensor  # [V, 9]
    vehicle_source: Tensor  # [E]
    vehicle_target: Tensor  # [E]
    vehicle_edge_features: Tensor  # [E, 4]
    phases: Tensor  # [P, 6]
    phase_signal: Tensor  # [P] the signal of each phase
    served_vehicle: Tensor  # [K] vehicle ends of the edges from vehicles to phases
    serving_phase: Tensor  # [K] their phase ends
    phase_edge_features: Tensor  # [K, 6]
    signal_start: Tensor  # [S] first phase of each signal
    signal_source: Tensor  # [M]
    signal_target: Tensor  # [M]
    history: Tensor  # [H - 1, P] the same phase 1, 2, ... frames earlier; -1 where that is not at hand

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GraphTensors:
        """All tensors on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> GraphTensors:
        """All tensors in page-locked memory, for copies that do not block; called by ``DataLoader``."""
        return self._each(Tensor.pin_memory)

    def _each(self, change) -> GraphTensors:  # type: ignore[no-untyped-def]
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


def to_tensors(graphs: Graphs, history: int = 1, earlier: np.ndarray | None = None) -> GraphTensors:
    """Turn graphs into tensors.

    ``history`` is how many frames a policy looks at, the present one included. ``earlier`` [N] says how many frames
    directly before each one, in the same batch, precede it in its episode; none unless given.
    """
    vehicle_start, phase_start, signal_start = (
        offsets[:-1] for offsets in (graphs.vehicle_offsets, graphs.phase_offsets, graphs.signal_offsets)
    )
    of_edge = each_row(vehicle_start, graphs.vehicle_edge_offsets)
    of_signal_edge = each_row(signal_start, graphs.signal_edge_offsets)
    arrays = {
        "vehicles": graphs.vehicles,
        "vehicle_source": graphs.vehicle_edges[:, 0] + of_edge,
        "vehicle_target": graphs.vehicle_edges[:, 1] + of_edge,
        "vehicle_edge_features": graphs.vehicle_edge_features,
        "phases": graphs.phases,
        "phase_signal": graphs.phase_signal + each_row(signal_start, graphs.phase_offsets),
        "served_vehicle": graphs.phase_edges[:, 0] + each_row(vehicle_start, graphs.phase_edge_offsets),
        "serving_phase": graphs.phase_edges[:, 1] + each_row(phase_start, graphs.phase_edge_offsets),
        "phase_edge_features": graphs.phase_edge_features,
        "signal_start": graphs.signal_start + each_row(phase_start, graphs.signal_offsets),
        "signal_source": graphs.signal_edges[:, 0] + of_signal_edge,
        "signal_target": graphs.signal_edges[:, 1] + of_signal_edge,
        "history": history_rows(graphs, history, earlier),
    }
    return GraphTensors(**{name: torch.from_numpy(array) for name, array in arrays.items()})
