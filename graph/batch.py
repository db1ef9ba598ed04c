"""A batch for the learner: the graphs of several fragments and, time first, what was decided in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buffers.fragments import Fragment
from graph.graphs import Graphs
from graph.ragged import offsets_of
from graph.tensors import GraphTensors, to_tensors

# Of each tensor of a graph, whose rows it has, and, where it holds indices, whose rows these count.
_ROWS = {
    "vehicles": ("vehicle", None),
    "vehicle_source": ("vehicle_edge", "vehicle"),
    "vehicle_target": ("vehicle_edge", "vehicle"),
    "vehicle_edge_features": ("vehicle_edge", None),
    "phases": ("phase", None),
    "phase_signal": ("phase", "signal"),
    "served_vehicle": ("phase_edge", "vehicle"),
    "serving_phase": ("phase_edge", "phase"),
    "phase_edge_features": ("phase_edge", None),
    "signal_start": ("signal", "phase"),
    "signal_source": ("signal_edge", "signal"),
    "signal_target": ("signal_edge", "signal"),
}


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Fragments side by side, of one network or several.

    T is the longest fragment, A the signals of all fragments together; what lies behind the end of a shorter fragment
    is not ``valid`` and zero.
    """

    graph: GraphTensors
    signal_rows: Tensor  # int64 [T + 1, A] where the graph has each signal at each frame
    phase_rows: Tensor  # int64 [T, A] where the graph has the chosen phase
    log_probs: Tensor  # float32 [T, A] of the policy that acted
    rewards: Tensor  # float32 [T, A]
    costs: Tensor  # float32 [T, A]
    valid: Tensor  # bool [T, A]
    terminated: Tensor  # bool [T, A] the next frame is a terminal state
    versions: Tensor  # int64 [A] of the weights that acted
    maps: Tensor  # int64 [A] the network that each signal is in
    sources: tuple[tuple[int, int, int, int, int], ...]  # per fragment: env, episode, first decision, length, version
    summaries: tuple[dict[str, float], ...]  # of the episodes that ended
    ended_in: tuple[int, ...]  # the network of each of these
    seconds: float  # simulated s
    starts: dict[str, NDArray[np.int64]]  # [F + 1] of each kind of row, where those of each fragment begin in the graph

    @property
    def decisions(self) -> int:
        """Decisions of all envs in it."""
        return sum(length for _, _, _, length, _ in self.sources)

    def to(self, device: torch.device | str) -> Batch:
        """All tensors on a device; does not wait where they are pinned."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """All tensors in page-locked memory; called by ``DataLoader``."""
        return self._each(lambda part: part.pin_memory())

    def graphs(self, count: int) -> Iterator[GraphTensors]:
        """The graph in ``count`` parts, or as many as there are fragments; no edge and no history leads out of a part.

        The phases, and the signals, of all parts behind each other are those of the whole graph in their order.
        """
        fragments = len(self.sources)
        parts = min(count, fragments)
        for first, last in pairwise(part * fragments // parts for part in range(parts + 1)):
            yield self._part(first, last)

    def _part(self, first: int, last: int) -> GraphTensors:
        """The graph of the fragments ``first`` to ``last - 1``; features are views, indices copies."""
        begin = {kind: int(starts[first]) for kind, starts in self.starts.items()}
        rows = {kind: slice(begin[kind], int(starts[last])) for kind, starts in self.starts.items()}
        parts = {}
        for name, (own, counted) in _ROWS.items():
            part = getattr(self.graph, name)[rows[own]]
            parts[name] = part if counted is None else part - begin[counted]
        history = self.graph.history[:, rows["phase"]]
        return GraphTensors(**parts, history=torch.where(history < 0, history, history - begin["phase"]))

    def _each(self, change) -> Batch:  # type: ignore[no-untyped-def]
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: change(p) for n, p in parts.items() if isinstance(p, Tensor | GraphTensors)})


def make_batch(
    fragments: Sequence[Fragment], graphs: Graphs, leading: Sequence[int], history: int, maps: Sequence[int]
) -> Batch:
    """Put fragments and their graphs together.

    ``graphs`` holds, for each fragment in turn, ``leading[i]`` frames from before it and then its own; it is of network
    ``maps[i]``.
    """
    lengths = np.array([len(fragment) for fragment in fragments])
    frames = np.array(leading) + lengths + 1
    bounds = offsets_of(frames)
    first_frame = bounds[:-1] + np.array(leading)  # where each fragment's own first frame is
    longest = int(lengths.max())
    columns = offsets_of([fragment.actions.shape[1] for fragment in fragments])
    shape = (longest, int(columns[-1]))
    signal_rows = np.zeros((longest + 1, shape[1]), np.int64)
    phase_rows = np.zeros(shape, np.int64)
    valid = np.zeros(shape, bool)
    terminated = np.zeros(shape, bool)
    decided = {name: np.zeros(shape, np.float32) for name in ("log_probs", "rewards", "costs")}
    for i, fragment in enumerate(fragments):
        n, own = len(fragment), slice(columns[i], columns[i + 1])
        signals = graphs.signal_offsets[first_frame[i] : first_frame[i] + n + 1, None] + np.arange(own.stop - own.start)
        signal_rows[: n + 1, own] = signals
        starts = graphs.phase_offsets[first_frame[i] : first_frame[i] + n, None] + graphs.signal_start[signals[:n]]
        phase_rows[:n, own] = starts + fragment.actions
        valid[:n, own] = True
        terminated[n - 1, own] = fragment.terminated
        for name, array in decided.items():
            array[:n, own] = getattr(fragment, name)
    return Batch(
        graph=to_tensors(graphs, history, np.concatenate([np.arange(count) for count in frames])),
        signal_rows=torch.from_numpy(signal_rows),
        phase_rows=torch.from_numpy(phase_rows),
        valid=torch.from_numpy(valid),
        terminated=torch.from_numpy(terminated),
        versions=torch.from_numpy(np.repeat([fragment.version for fragment in fragments], np.diff(columns))),
        maps=torch.from_numpy(np.repeat(np.array(maps, np.int64), np.diff(columns))),
        sources=tuple((f.env, f.episode, f.first, len(f), f.version) for f in fragments),
        summaries=tuple(f.summary for f in fragments if f.summary is not None),
        ended_in=tuple(number for number, f in zip(maps, fragments, strict=True) if f.summary is not None),
        seconds=float(sum(f.time[-1] - f.time[0] for f in fragments)),
        starts={
            "vehicle": graphs.vehicle_offsets[bounds],
            "vehicle_edge": graphs.vehicle_edge_offsets[bounds],
            "phase": graphs.phase_offsets[bounds],
            "phase_edge": graphs.phase_edge_offsets[bounds],
            "signal": graphs.signal_offsets[bounds],
            "signal_edge": graphs.signal_edge_offsets[bounds],
        },
        **{name: torch.from_numpy(array) for name, array in decided.items()},
    )
