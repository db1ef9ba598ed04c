"""The board: numbers in shared memory by which the pool says what it wants and collectors show what they do.

Every number has one writer. Who waits for one to change is rung awake: a collector by its doorbell, the pool by the
board's own ``bell``. Nothing here can be half written, and nobody can die holding anything.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from buffers.queue import Doorbell
from buffers.shared import SharedMemory


class Activity(IntEnum):
    """What a collector is doing."""

    STARTING = 0
    RUNNING = 1
    WAITING = 2  # for a free slot
    PAUSED = 3
    STOPPED = 4
    RECOVERING = 5  # all its SUMOs are lost, and it waits to start others


class Wish(IntEnum):
    """What the pool wants a collector to do."""

    RUN = 0
    PAUSE = 1
    STOP = 2


# One per collector, written by it; by the pool while there is no process.
ROW = np.dtype(
    [
        ("activity", "i8"),
        ("heartbeat", "f8"),  # time.monotonic() of the last sign of life
        ("loading", "f8"),  # s that it may be silent for because a SUMO of it loads its scenario; 0: none does
        ("obeyed", "i8"),  # the latest order that it knows
        ("decisions", "i8"),  # of all its envs
        ("episodes", "i8"),  # ended
        ("seconds", "f8"),  # simulated
        ("version", "i8"),  # of the weights that act
    ]
)
# One per env, written by its collector. It outlives that, so that whoever replaces it goes on counting.
ENV = np.dtype(
    [
        ("sumo", "i8"),  # process id; 0: none
        ("episode", "i8"),  # the latest that was begun
        ("fragments", "i8"),  # number of the latest
        ("losses", "i8"),  # SUMOs that died, hung or refused
    ]
)
# Written by the pool.
_HEAD = np.dtype([("num_envs", "i8")])
_WISHES = len(Wish)


class Board:
    """A row per collector, a row per env, and the pool's orders."""

    def __init__(
        self,
        collectors: int,
        num_envs: int,
        capacity: int | None = None,
        first_episode: int = 0,
        *,
        _shared: tuple[SharedMemory, Doorbell] | None = None,
    ) -> None:
        capacity = capacity or num_envs
        size = _HEAD.itemsize + capacity * ENV.itemsize + collectors * (ROW.itemsize + 8)
        self._memory, self.bell = _shared or (SharedMemory(size), Doorbell())
        self._numbers = (collectors, num_envs, capacity)
        at = _HEAD.itemsize
        self._head = self._memory.array(_HEAD, 1)
        self.envs = self._memory.array(ENV, capacity, at)
        at += self.envs.nbytes
        self.rows = self._memory.array(ROW, collectors, at)
        at += self.rows.nbytes
        self._orders = self._memory.array(np.int64, collectors, at)  # number of the order × _WISHES + wish: one word
        if _shared is None:
            self.num_envs = num_envs
            self.envs["episode"] = first_episode - 1
            self._orders[:] = Wish.STOP

    @property
    def num_envs(self) -> int:
        """How many envs are wanted: those with lower numbers."""
        return int(self._head["num_envs"][0])

    @num_envs.setter
    def num_envs(self, count: int) -> None:
        self._head["num_envs"] = count

    def order(self, collector: int, wish: Wish) -> None:
        """Give a collector a new order, which it has to look at even when its wish is the same."""
        number = int(self._orders[collector]) // _WISHES + 1
        self._orders[collector] = number * _WISHES + wish

    def ordered(self, collector: int) -> tuple[int, Wish]:
        """A collector's latest order, for ``obeyed``, and what is wished in it."""
        order = int(self._orders[collector])
        return order, Wish(order % _WISHES)

    def has_obeyed(self, collector: int) -> bool:
        """Whether a collector has followed its latest order."""
        return int(self.rows[collector]["obeyed"]) == int(self._orders[collector])

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        self.bell.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self._numbers, self._memory, self.bell)


def _receive(numbers: tuple[int, int, int], memory: SharedMemory, bell: Doorbell) -> Board:
    return Board(*numbers, _shared=(memory, bell))
