"""Where a phase's earlier states are, for policies that look at several frames."""

from __future__ import annotations

import numpy as np

from graph.graphs import Graphs
from graph.ragged import frame_of


def history_rows(graphs: Graphs, history: int, earlier: np.ndarray | None) -> np.ndarray:
    """Rows of the same phase in earlier frames, int64 [H - 1, P]; a frame's phases have one order throughout."""
    total = int(graphs.phase_offsets[-1])
    rows = np.full((history - 1, total), -1, np.int64)
    if earlier is None:
        return rows
    frame = frame_of(graphs.phase_offsets)
    within = np.arange(total) - graphs.phase_offsets[frame]
    for back in range(1, history):
        known = earlier[frame] >= back
        rows[back - 1, known] = graphs.phase_offsets[frame[known] - back] + within[known]
    return rows
