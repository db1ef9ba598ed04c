"""Pictures of episodes: how the controllers' delays compare, and how they went on over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from report.figures import COLOURS, new_figure, tidy
from report.statistics import Trial, results


class Course(Protocol):
    """An episode that knows its delay over time: mean s by planned departure, None where nobody meant to depart."""

    @property
    def controller(self) -> str: ...
    @property
    def course(self) -> Sequence[float | None]: ...


def comparison(path: Path, trials: Sequence[Trial], title: str = "") -> None:
    """Draw the delay of every episode, and each controller's mean with its 95 % interval, as a PNG."""
    rows = results(trials)[::-1]  # the first on top
    figure = new_figure(height=1.2 + 0.5 * len(rows), title=title)
    axes = figure.subplots()
    for place, row in enumerate(rows):
        own = [trial.delay for trial in trials if trial.controller == row.controller]
        delay = row.figures["delay"]
        axes.plot(own, [place + 0.2] * len(own), "o", color="tab:gray", alpha=0.6, markersize=4, markeredgewidth=0)
        axes.plot(delay.mean, place, "o", color="tab:blue", markersize=7)
        if math.isfinite(delay.low):
            axes.plot([delay.low, delay.high], [place, place], color="tab:blue", linewidth=2)
    axes.set_yticks(range(len(rows)), [row.controller for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("mean delay per vehicle (s) of each episode (gray), their mean and its 95 % interval (blue)")
    tidy(axes)
    figure.savefig(path, format="png")


def over_time(path: Path, trials: Sequence[Course], bin_seconds: float, title: str = "") -> None:
    """Draw each controller's delay over planned departure: the mean of its seeds, within their lowest and highest.

    Course values are means over ``bin_seconds`` s each, from the beginning of the episode on.
    """
    figure = new_figure(height=3.8, title=title)
    axes = figure.subplots()
    for number, (name, courses) in enumerate(_courses(trials).items()):
        colour = COLOURS[number % len(COLOURS)]
        known = ~np.isnan(courses).all(axis=0)
        minutes = (np.flatnonzero(known) + 0.5) * bin_seconds / 60.0
        low, mean, high = (of(courses[:, known], axis=0) for of in (np.nanmin, np.nanmean, np.nanmax))
        axes.plot(minutes, mean, "o-", color=colour, linewidth=1.8, markersize=3, label=name)
        if len(courses) > 1:
            axes.fill_between(minutes, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("planned departure (min after the beginning)")
    axes.set_ylabel("mean delay of these vehicles (s)")
    axes.set_ylim(bottom=0)
    tidy(axes)
    seeds = "mean of seeds,\nlowest to highest"
    figure.legend(loc="outside right upper", frameon=False, title=seeds, title_fontsize="small", fontsize="small")
    figure.savefig(path, format="png")


def busiest_moment(trials: Sequence[Course], bin_seconds: float) -> float:
    """When delays were worst on the average of the first controller's seeds, s after the beginning of the episode."""
    courses = next(iter(_courses(trials).values()))
    total = np.nan_to_num(courses).sum(axis=0)
    return float(total.argmax()) * bin_seconds


def _courses(trials: Sequence[Course]) -> dict[str, NDArray[np.float64]]:
    """The courses of each controller, [seeds, bins]; NaN where there is nothing."""
    groups: dict[str, list[Sequence[float | None]]] = {}
    for trial in trials:
        groups.setdefault(trial.controller, []).append(trial.course)
    return {name: np.array(courses, np.float64) for name, courses in groups.items()}
