"""The static side of a graph: what does not change from frame to frame of one network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.network import Network
from graph.ragged import Offsets
from graph.schema import LANES


class Repeated(NamedTuple):
    """What the graphs of N frames have in common, N times behind each other; see ``graph.graphs.Graphs``."""

    phase_signal: NDArray[np.int32]
    signal_start: NDArray[np.int32]
    signal_edges: NDArray[np.int32]
    phase_offsets: Offsets
    signal_offsets: Offsets
    signal_edge_offsets: Offsets


@dataclass(frozen=True, eq=False)
class Topology:
    """A network's lanes, phases and signals, laid out for building graphs.

    L lanes, S signals, P phases, K approaches, M pairs of neighbouring signals.
    """

    bounds: tuple[float, float, float, float]  # x min, y min, x max, y max in m
    lane_length: NDArray[np.float32]  # [L] m
    lane_feature: NDArray[np.float32]  # [L] index from the right, scaled
    lane_phase_start: NDArray[np.int64]  # [L + 1] into the three below
    lane_phases: NDArray[np.int32]  # [K] the phases that each lane approaches, lane by lane
    lane_distance: NDArray[np.float32]  # [K] m from the end of the lane to the stop line
    lane_shares: NDArray[np.float32]  # [K, 2] share of the ways on from there that are protected, and permissive
    phase_lanes: NDArray[np.float32]  # [P, 3] how many lanes each phase serves, protects and permits, scaled
    phase_signal: NDArray[np.int32]  # [P]
    phase_start: NDArray[np.int32]  # [S + 1]
    signal_edges: NDArray[np.int32]  # [M, 2] (from, to)

    @property
    def num_phases(self) -> int:
        """Green phases of all signals together."""
        return len(self.phase_signal)

    @property
    def num_signals(self) -> int:
        """Signals that are controlled."""
        return len(self.phase_start) - 1

    @lru_cache(maxsize=16)  # noqa: B019 - a process has one topology, or a few
    def repeated(self, frames: int) -> Repeated:
        """The static part of the graphs of so many frames; not to be written to."""
        every = np.arange(frames + 1)
        return Repeated(
            phase_signal=np.tile(self.phase_signal, frames),
            signal_start=np.tile(self.phase_start[:-1], frames),
            signal_edges=np.tile(self.signal_edges, (frames, 1)),
            phase_offsets=every * self.num_phases,
            signal_offsets=every * self.num_signals,
            signal_edge_offsets=every * len(self.signal_edges),
        )

    @classmethod
    def of(cls, network: Network) -> Topology:
        """Lay out a network."""
        phases, lanes = network.approaches.T
        served = network.phase_lanes[:, 0]
        protected, permissive = network.phase_lane_shares.T
        by_lane = np.argsort(lanes, kind="stable")
        per_lane = np.bincount(lanes, minlength=len(network.lane_ids))
        return cls(
            bounds=network.bounds,
            lane_length=network.lane_length,
            lane_feature=(network.lane_index / LANES).astype(np.float32),
            lane_phase_start=np.concatenate([[0], np.cumsum(per_lane)]),
            lane_phases=phases[by_lane],
            lane_distance=network.approach_distance[by_lane],
            lane_shares=network.phase_lane_shares[network.approach_stop[by_lane]],
            phase_lanes=np.stack(
                [np.bincount(served, each, network.num_phases) for each in (None, protected, permissive)], axis=1
            ).astype(np.float32)
            / np.float32(LANES),
            phase_signal=network.phase_signal,
            phase_start=network.phase_start,
            signal_edges=network.neighbours,
        )
