"""Repeated measurements in few numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a few values, the least and the greatest of them, and how many there were."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Sum values up; raises ``ValueError`` where there is none."""
        sample = sorted(values)
        if not sample:
            raise ValueError("a spread of no values: there must be at least one")
        return cls(statistics.median(sample), sample[0], sample[-1], len(sample))

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Spread:
    """How values compare to a baseline that was measured beside them, round by round.

    Each round gives one ratio: what slows a machine down for some seconds slows both. Raises ``ValueError`` where the
    rounds are not the same.
    """
    return Spread.of(value / base for value, base in zip(values, baseline, strict=True))
