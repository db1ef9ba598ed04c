"""Waiting for something to become true, never longer than a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
POLL = 0.02  # s


def wait_for(condition: Callable[[], Found], what: str, limit: float = 30.0) -> Found:
    """The first true value of ``condition``; fails with ``what`` when none comes within ``limit`` s."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(POLL)
