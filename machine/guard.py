"""Watching that a run keeps within its memory, and that the machine keeps some for itself."""

from __future__ import annotations

import enum
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from machine.memory import ProcessMemory, available_memory, free_memory, tree_memory_by_process
from machine.sizes import size_text

_EVERY = 3.0  # s: measuring takes some ms for every ten processes


class _Mark(NamedTuple):
    used: float  # share of the budget that is in use, this or more
    free: float  # share of all memory that is still available, less than this


# Each level ends at a mark before the one that it begins at, so that a value which trembles around one changes nothing.
_CLEAR = _Mark(0.80, 0.08)  # TIGHT ends
_FIRST = _Mark(0.85, 0.06)  # TIGHT begins, OVER ends
_SECOND = _Mark(1.00, 0.03)  # OVER begins


class Level(enum.IntEnum):
    """How a run stands with its memory."""

    FINE = 0
    TIGHT = 1
    OVER = 2


@dataclass(frozen=True)
class Verdict:
    """How a run stands with its memory, in bytes, and one line for people about it."""

    level: Level
    changed: bool  # this look is the first one with this level
    used: int
    budget: int
    free: int  # of the machine or the container
    over_since: float | None  # on the guard's clock; None when not OVER
    text: str


class MemoryGuard:
    """Says whether a run uses more memory than its ``budget`` or leaves the machine too little, both in bytes.

    ``measure`` gives the memory of the run's processes, ``free`` the bytes that could be had now of ``total`` in all;
    by default those of this process and its descendants, and of the machine or the container.
    """

    def __init__(
        self,
        budget: int,
        measure: Callable[[], Sequence[ProcessMemory]] | None = None,
        free: Callable[[], int] = free_memory,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if budget < 1:
            raise ValueError(f"the memory budget is {budget} bytes, must be at least 1")
        self._budget = budget
        self._measure = measure or (lambda: tree_memory_by_process(os.getpid()))
        self._free = free
        self._total = available_memory() if total is None else total
        self._clock = clock
        self._measured_at = -math.inf
        self._last = Verdict(Level.FINE, False, 0, budget, self._total, None, "memory has not been looked at yet")

    def look(self) -> Verdict:
        """How things stand; measured every few seconds at most, so that this may be called often."""
        now = self._clock()
        if now - self._measured_at < _EVERY:
            return replace(self._last, changed=False)
        self._measured_at = now
        processes, free = self._measure(), self._free()
        used = sum(process.size for process in processes)
        before, level = self._last.level, self._level(used, free)
        since = None if level is not Level.OVER else now if before is not Level.OVER else self._last.over_since
        text = self._text(level, used, free, processes)
        self._last = Verdict(level, level is not before, used, self._budget, free, since, text)
        return self._last

    def _level(self, used: int, free: int) -> Level:
        over_until = _FIRST if self._last.level is Level.OVER else _SECOND
        tight_until = _CLEAR if self._last.level is not Level.FINE else _FIRST
        if self._in_use(used, over_until) or self._needed_back(free, over_until):
            return Level.OVER
        if self._in_use(used, tight_until) or self._needed_back(free, tight_until):
            return Level.TIGHT
        return Level.FINE

    def _in_use(self, used: int, mark: _Mark) -> bool:
        return used >= mark.used * self._budget

    def _needed_back(self, free: int, mark: _Mark) -> bool:
        return free < mark.free * self._total

    def _text(self, level: Level, used: int, free: int, processes: Sequence[ProcessMemory]) -> str:
        biggest = sorted(processes, key=lambda process: process.size, reverse=True)[:3]
        names = ", ".join(f"{name} {pid} ({size_text(size)})" for pid, name, size in biggest)
        return (
            f"{self._reason(level, used, free)}: {size_text(used)} in use of a budget of {size_text(self._budget)}, "
            f"{size_text(free)} available of {size_text(self._total)}; biggest: {names or 'nobody'}"
        )

    def _reason(self, level: Level, used: int, free: int) -> str:
        """What the level is about: the mark that is passed furthest decides between the machine and the budget."""
        if level is Level.FINE:
            return "memory is fine"
        for mark in (_SECOND, _FIRST, _CLEAR):
            if self._needed_back(free, mark):
                return "the machine needs its memory back" if level is Level.OVER else "the machine is short of memory"
            if self._in_use(used, mark):
                break
        if level is Level.OVER:
            return f"the run must come below {_FIRST.used:.0%} of its memory budget"
        return "the run is close to its memory budget"
