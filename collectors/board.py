"""The board: numbers in shared memory by which collectors show what they are doing."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from buffers.shared import SharedMemory


class Activity(IntEnum):
    """What a collector is doing."""

    STARTING = 0
    RUNNING = 1
    WAITING = 2  # for a free slot
    PAUSED = 3
    STOPPED = 4


ROW = np.dtype(
    [
        ("activity", "i8"),
        ("heartbeat", "f8"),  # time.monotonic() of the last sign of life
        ("decisions", "i8"),  # of all its envs
        ("episodes", "i8"),  # ended
        ("seconds", "f8"),  # simulated
        ("version", "i8"),  # of the weights that act
    ]
)


class Board:
    """One row per collector, written by that collector only and read by anybody."""

    def __init__(self, collectors: int, memory: SharedMemory | None = None) -> None:
        self._memory = memory or SharedMemory(collectors * ROW.itemsize)
        self._collectors = collectors
        self.rows = self._memory.array(ROW, collectors)

    def row(self, collector: int) -> Any:
        """A collector's own row, as a structured scalar that writes through."""
        return self.rows[collector]

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def __reduce__(self) -> tuple[type[Board], tuple[int, SharedMemory]]:
        return Board, (self._collectors, self._memory)
