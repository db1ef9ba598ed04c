"""What a pool of collectors is, whatever processes they live in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board
from collectors.errors import ControlError


class Pool(Protocol):
    """Collectors at work, in processes of their own or in this one."""

    board: Board

    def start(self) -> None:
        """Start collecting; returns when every collector has its simulations. Raises ``CollectorError``."""

    def check(self) -> None:
        """Raise ``CollectorError`` when a collector has failed, died, or shows no sign of life."""

    def pause(self, collectors: Sequence[int] | None = None) -> None:
        """Stop some collectors, or all, before their next decision; returns when they stand."""

    def resume(self, collectors: Sequence[int] | None = None) -> None:
        """Let some collectors, or all, go on where they stand."""

    def status(self) -> dict[str, Any]:
        """What every collector is doing."""

    def close(self, timeout: float = 10.0) -> None:
        """End everything within ``timeout`` s, by force where asking does not help; closing twice is fine."""

    work: Callable[[], None] | None  # what collects in serial mode; None where collectors do it themselves


def share_out(num_envs: int, num_collectors: int) -> list[list[int]]:
    """Which envs each collector drives: as even as can be, neighbours apart."""
    return [list(range(collector, num_envs, num_collectors)) for collector in range(num_collectors)]


def check_numbers(collectors: Sequence[int] | None, count: int) -> list[int]:
    """The collectors meant, all of them by default; raises ``ControlError`` for one that does not exist."""
    if collectors is None:
        return list(range(count))
    for number in collectors:
        if not isinstance(number, int) or not 0 <= number < count:
            raise ControlError(f"collector {number!r}: this run has collectors 0 to {count - 1}")
    return sorted(set(collectors))


def describe(board: Board, slots: Slots, weights: WeightsChannel, members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A pool in numbers: totals, the queue, and a row per collector."""
    rows = board.rows.copy()
    activities = [Activity(int(row["activity"])).name.lower() for row in rows]
    return {
        "state": "paused" if set(activities) == {"paused"} else "running",
        "decisions": int(rows["decisions"].sum()),
        "episodes": int(rows["episodes"].sum()),
        "simulated_seconds": float(rows["seconds"].sum()),
        "version": weights.version,
        "queue": slots.counts(),
        "collectors": [
            {
                "collector": number,
                **member,
                "state": activity,
                "decisions": int(row["decisions"]),
                "episodes": int(row["episodes"]),
                "version": int(row["version"]),
            }
            for number, (member, activity, row) in enumerate(zip(members, activities, rows, strict=False))
        ],
    }
