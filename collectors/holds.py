"""Reasons to rest."""

from __future__ import annotations

import math
import time

# Somebody asked for it; there is too little memory; the whole run was stopped by Ctrl-Z.
REQUEST, MEMORY, SUSPENDED = "request", "memory", "suspended"


class Holds:
    """Why a collector is to rest, each reason until it is lifted or has run out."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # monotonic s

    def put(self, why: str, seconds: float | None = None) -> None:
        """Rest for this reason from now on, for so many seconds at most; replaces what the reason said before."""
        self._until[why] = math.inf if seconds is None else time.monotonic() + seconds

    def lift(self, why: str) -> None:
        """Rest for this reason no more."""
        self._until.pop(why, None)

    def expire(self) -> bool:
        """Lift what has run out; True when that ends the rest."""
        now = time.monotonic()
        left = {why: until for why, until in self._until.items() if until > now}
        ended = bool(self._until) and not left
        self._until = left
        return ended

    def reasons(self) -> list[str]:
        """All that hold now."""
        return sorted(self._until)

    def __bool__(self) -> bool:
        return bool(self._until)
