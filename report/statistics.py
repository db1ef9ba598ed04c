"""How well controllers do: episodes summed up by controller, and compared on the same traffic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scipy.special import stdtrit

CONFIDENCE = 0.95
# What an episode may have, as ``collectors.measures.Episode`` explains it.
FIGURES = (
    "delay",
    "full_delay",
    "travel_time",
    "waiting_time",
    "worst_waiting",
    "queue",
    "stops",
    "co2",
    "throughput",
    "departed",
    "arrived",
    "never_departed",
    "teleports",
    "collisions",
)


class Trial(Protocol):
    """One episode of one controller, as ``collectors.evaluation`` gives it; times in s, means over vehicles."""

    @property
    def controller(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def delay(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample in numbers; ``low`` to ``high`` is the 95 % interval of the mean (Student's t), NaN for one value."""

    n: int
    mean: float
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Sum up a sample. Raises ``ValueError`` where it is empty."""
        sample = [float(value) for value in values]
        if not sample:
            raise ValueError("a summary of no values: there must be at least one")
        mean, half = statistics.fmean(sample), math.nan
        if len(sample) > 1:
            quantile = float(stdtrit(len(sample) - 1, (1 + CONFIDENCE) / 2))
            half = quantile * statistics.stdev(sample) / math.sqrt(len(sample))
        return cls(len(sample), mean, statistics.median(sample), mean - half, mean + half)

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON: NaN becomes null."""
        values = {"n": self.n, "mean": self.mean, "median": self.median, "low": self.low, "high": self.high}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Result:
    """One controller: each figure of its episodes summed up, and how its delay differs from the baseline's.

    ``difference`` is this controller's delay minus the baseline's, s, paired by seed, since both met the same traffic;
    None for the baseline itself. ``gridlocked`` episodes got stuck for good; None where nobody looked.
    """

    controller: str
    figures: dict[str, Summary]
    difference: Summary | None
    gridlocked: int | None


def results(trials: Sequence[Trial], baseline: str | None = None) -> list[Result]:
    """Sum up episodes by controller, in the order of appearance; ``baseline`` is the first unless named.

    Raises ``ValueError`` where the baseline has no episode, or controllers did not meet the same seeds.
    """
    groups = by_controller(trials)
    baseline = baseline if baseline is not None else next(iter(groups), None)
    if baseline is None or baseline not in groups:
        raise ValueError(f"baseline {baseline!r} has no episode: must be one of {', '.join(groups) or 'none'}")
    reference = {trial.seed: trial for trial in groups[baseline]}
    rows = []
    for name, own in groups.items():
        if (seeds := sorted(trial.seed for trial in own)) != sorted(reference):
            raise ValueError(f"{name} ran on seeds {seeds} and {baseline} on {sorted(reference)}: must be equal")
        figures = {
            figure: Summary.of(getattr(trial, figure) for trial in own) for figure in FIGURES if hasattr(own[0], figure)
        }
        difference = None
        if name != baseline:
            difference = Summary.of(trial.delay - reference[trial.seed].delay for trial in own)
        locks = [getattr(trial, "gridlocked", None) for trial in own]
        rows.append(Result(name, figures, difference, None if None in locks else sum(map(bool, locks))))
    return rows


def by_controller(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The episodes of each controller, both in the order of appearance."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.controller, []).append(trial)
    return groups
