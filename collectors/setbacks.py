"""How often something is tried again, and after how long."""

from __future__ import annotations

_FIRST, _LONGEST = 0.5, 30.0  # s
_DOUBLINGS = 10  # that certainly lead from one to the other


class Setbacks:
    """Failures of one thing in a row: each makes the next attempt wait twice as long, up to 30 s.

    After more than ``limit`` failures in a row there is no next attempt. What counts as a success is the caller's to
    say.
    """

    def __init__(self, limit: int) -> None:
        self.in_a_row = 0
        self.total = 0
        self._limit = limit

    def add(self) -> float | None:
        """Count a failure; returns the seconds to wait before the next attempt, None when there is to be none."""
        self.in_a_row += 1
        self.total += 1
        if self.in_a_row > self._limit:
            return None
        return min(_LONGEST, _FIRST * 2.0 ** min(self.in_a_row - 1, _DOUBLINGS))

    def forget(self) -> None:
        """A success: the next failure is the first in a row again."""
        self.in_a_row = 0
