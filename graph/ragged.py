"""Index arithmetic on ragged arrays: rows of all frames behind each other, with offsets that say whose they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]  # [N + 1]: frame n owns rows offsets[n] to offsets[n + 1]


def offsets_of(counts: Sequence[int] | NDArray[np.integer]) -> Offsets:
    """Offsets of N frames with these numbers of rows."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def ranges(starts: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """The numbers ``starts[n] ... starts[n] + counts[n] - 1`` of every n, behind each other."""
    ends = np.cumsum(counts, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(np.asarray(starts, np.int64) - (ends - counts), counts)


def rows_of(offsets: Offsets, frames: NDArray[np.integer]) -> tuple[NDArray[np.int64], Offsets]:
    """The rows of the chosen frames, in their order, and the offsets that these rows then have."""
    counts = np.diff(offsets)[frames]
    return ranges(offsets[:-1][frames], counts), offsets_of(counts)


def frame_of(offsets: Offsets) -> NDArray[np.int64]:
    """The frame that each row belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def each_row(values: NDArray[np.integer], offsets: Offsets) -> NDArray[np.int64]:
    """For each row the value of its frame; ``values`` [N]."""
    return np.repeat(np.asarray(values, np.int64), np.diff(offsets))
