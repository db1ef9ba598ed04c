"""The way of the weights from the learner to the collectors: numbered versions, the newest wins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from buffers.shared import SharedMemory

_ATTEMPTS = 100_000  # a copy takes microseconds, an update milliseconds
_HEADER = 64  # bytes: the version, on a cache line of its own


class WeightsChannel:
    """Weights as one float32 vector [``count``] in shared memory, written by one process and read by many.

    Two copies take turns: readers copy the newest one while the next is written into the other, so that nobody ever
    waits. A reader that was overtaken sees it from the version and copies again. Version 0: nothing yet.
    """

    def __init__(self, count: int, memory: SharedMemory | None = None) -> None:
        self._memory = memory or SharedMemory(_HEADER + 2 * 4 * count)
        self._count = count
        self._version = self._memory.array(np.int64, 1)
        self._copies = self._memory.array(np.float32, (2, count), _HEADER)

    @property
    def version(self) -> int:
        """The newest version that has been published."""
        return int(self._version[0])

    def publish(self, weights: NDArray[np.float32], version: int) -> None:
        """Make ``weights`` [count] the newest; versions must grow by one each time after the first."""
        if self.version and version != self.version + 1:
            raise ValueError(f"version {version} was published after version {self.version}; they grow by one")
        self._copies[version % 2] = weights
        self._version[0] = version

    def read(self) -> tuple[NDArray[np.float32], int]:
        """A copy of the newest weights, and their version."""
        for _ in range(_ATTEMPTS):
            version = self.version
            weights = self._copies[version % 2].copy()
            if self.version == version:  # else overtaken: the copy may be torn, and a newer one is there
                return weights, version
        raise RuntimeError(f"weights were published faster than they can be read, {_ATTEMPTS} times in a row")

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def __reduce__(self) -> tuple[type[WeightsChannel], tuple[int, SharedMemory]]:
        return WeightsChannel, (self._count, self._memory)
