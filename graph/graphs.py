"""Graphs of many frames in one structure, cut and joined without a Python object per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graph.ragged import Offsets, offsets_of, rows_of


@dataclass(frozen=True, eq=False, slots=True)
class Graphs:
    """The graphs of N frames.

    Rows of all frames lie behind each other; ``*_offsets`` [N + 1] say which frame owns which. Edge ends are counted
    within their frame, so that frames can be taken out and joined freely; ``graph.tensors`` makes them absolute.
    Columns of the feature arrays are named in ``graph.schema``.
    """

    time: NDArray[np.float32]  # [N, 2]
    vehicles: NDArray[np.float32]  # [V, 9]
    vehicle_edges: NDArray[np.int32]  # [E, 2] (source vehicle, target vehicle)
    vehicle_edge_features: NDArray[np.float32]  # [E, 4]
    phases: NDArray[np.float32]  # [P, 6]
    phase_signal: NDArray[np.int32]  # [P] signal within the frame
    phase_edges: NDArray[np.int32]  # [K, 2] (vehicle, phase)
    phase_edge_features: NDArray[np.float32]  # [K, 6]
    signal_start: NDArray[np.int32]  # [S] first phase of each signal, within the frame
    signal_edges: NDArray[np.int32]  # [M, 2] (from, to)

    vehicle_offsets: Offsets
    vehicle_edge_offsets: Offsets
    phase_offsets: Offsets
    phase_edge_offsets: Offsets
    signal_offsets: Offsets
    signal_edge_offsets: Offsets

    OWNER: ClassVar[dict[str, str]] = {
        "vehicles": "vehicle_offsets",
        "vehicle_edges": "vehicle_edge_offsets",
        "vehicle_edge_features": "vehicle_edge_offsets",
        "phases": "phase_offsets",
        "phase_signal": "phase_offsets",
        "phase_edges": "phase_edge_offsets",
        "phase_edge_features": "phase_edge_offsets",
        "signal_start": "signal_offsets",
        "signal_edges": "signal_edge_offsets",
    }

    def __len__(self) -> int:
        return len(self.time)

    def take(self, frames: Sequence[int] | NDArray[np.integer]) -> Graphs:
        """The graphs of some frames, in the given order; copies."""
        chosen = np.asarray(frames, np.int64)
        parts: dict[str, NDArray] = {"time": self.time[chosen]}
        rows: dict[str, NDArray[np.int64]] = {}
        for owner in dict.fromkeys(self.OWNER.values()):
            rows[owner], parts[owner] = rows_of(getattr(self, owner), chosen)
        for name, owner in self.OWNER.items():
            parts[name] = getattr(self, name)[rows[owner]]
        return Graphs(**parts)

    @classmethod
    def join(cls, parts: Sequence[Graphs]) -> Graphs:
        """The frames of all parts behind each other; at least one part."""
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, NDArray] = {}
        for field in fields(cls):
            arrays = [getattr(part, field.name) for part in parts]
            if field.name.endswith("_offsets"):
                joined[field.name] = offsets_of(np.concatenate([np.diff(array) for array in arrays]))
            else:
                joined[field.name] = np.concatenate(arrays)
        return cls(**joined)
