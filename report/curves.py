"""Pictures of learning: the delay of one run, or of several with the band between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from report.figures import COLOURS, new_figure, tidy
from report.statistics import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]

_AXES = {"trained": (60.0, "training time (min)"), "decisions": (1000.0, "decisions (thousands)")}  # unit and label
_POINTS = 200  # of a mean curve


def learning_curve(path: Path, metrics: Rows, baselines: Mapping[str, Summary], title: str = "") -> None:
    """Draw a run's mean delay over training time and over decisions as a PNG, on each of its scenarios.

    ``metrics`` are rows as ``learner.metrics.read`` gives them, of which ``trained`` (s of training), ``decisions`` and
    ``delay`` (s, mean of the latest episodes) are used, or ``delay/NAME`` where there are several scenarios.
    ``baselines`` are those of the fixed-time programs (s) by scenario, each drawn as a line with its 95 % band. Where
    no episode has ended yet the picture says so.
    """
    groups = {"policy, latest training episodes": [metrics]}
    if len(baselines) > 1:
        groups = {name: [on_scenario(metrics, name)] for name in baselines}
    learning_curves(path, groups, {f"{name}, fixed time": known for name, known in baselines.items()}, title)


def on_scenario(metrics: Rows, name: str) -> Rows:
    """The rows of a run on several scenarios with the delay on one of them."""
    return [{**row, "delay": row.get(f"delay/{name}")} for row in metrics]


def learning_curves(
    path: Path, groups: Mapping[str, Sequence[Rows]], baselines: Mapping[str, Summary], title: str = ""
) -> None:
    """Draw the delay of groups of runs over training time and over decisions as a PNG.

    The runs of a group differ in their seed: their mean is a line, from where all of them have ended an episode to
    where the first of them ends, within the band from the lowest to the highest. One baseline is for all groups;
    several are for one group each, in their order, and have its colour. For rows and baselines see ``learning_curve``.
    """
    figure = new_figure(height=3.6, title=title)
    for axes, (name, (unit, label)) in zip(figure.subplots(1, 2, sharey=True), _AXES.items(), strict=True):
        for (group, runs), colour in zip(groups.items(), cycle(COLOURS), strict=False):
            curves = [_curve(rows, name, unit) for rows in runs]
            _draw(axes, [curve for curve in curves if len(curve)], group, colour)
        if not axes.lines:
            axes.text(0.5, 0.5, "no training episode has ended", transform=axes.transAxes, ha="center", va="center")
        colours = ["tab:gray"] if len(baselines) == 1 else cycle(COLOURS)
        for (baseline, known), colour in zip(baselines.items(), colours, strict=False):
            _draw_baseline(axes, known, baseline, colour)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
        tidy(axes)
    left, right = figure.axes
    left.set_ylabel("mean delay per vehicle (s)")
    handles, labels = right.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # bands are called alike
    if once:
        look: dict[str, Any] = {"loc": "upper right", "fontsize": "small", "edgecolor": "none", "framealpha": 1.0}
        right.legend(once.values(), once.keys(), **look)  # opaque: a baseline may pass behind it
    figure.savefig(path, format="png")


def _curve(metrics: Rows, name: str, unit: float) -> NDArray[np.float64]:
    """(something that grows, delay) of each row that has both, float64 [N, 2]."""
    rows = _in_order([row for row in metrics if row.get("delay") is not None])
    return np.array([(row[name] / unit, float(row["delay"])) for row in rows]).reshape(-1, 2)


def _in_order(metrics: Rows) -> Rows:
    """Without the rows of what a run had learned when it died: it was resumed from a checkpoint before them."""
    kept: list[Mapping[str, Any]] = []
    for row in reversed(metrics):
        if not kept or row["trained"] <= kept[-1]["trained"]:
            kept.append(row)
    return kept[::-1]


def _draw(axes: Axes, curves: Sequence[NDArray[np.float64]], label: str, colour: str) -> None:
    """One curve as it is; of several their mean and the band between them, where all of them are."""
    if len(curves) == 1:
        axes.plot(*curves[0].T, color=colour, linewidth=1.8, label=label)
    elif len(across := _common(curves)):
        delays = np.array([np.interp(across, *curve.T) for curve in curves])
        axes.plot(across, delays.mean(axis=0), color=colour, linewidth=1.8, label=f"{label}, mean of {len(curves)}")
        lowest, highest = delays.min(axis=0), delays.max(axis=0)
        axes.fill_between(across, lowest, highest, color=colour, alpha=0.18, linewidth=0, label="lowest to highest")


def _common(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Evenly spaced points that all curves [N, 2] reach, float64 [_POINTS]; empty where there are none."""
    first = max((curve[0, 0] for curve in curves), default=np.inf)
    last = min((curve[-1, 0] for curve in curves), default=-np.inf)
    return np.linspace(first, last, _POINTS) if first <= last else np.empty(0)


def _draw_baseline(axes: Axes, baseline: Summary, name: str, colour: str) -> None:
    axes.axhline(baseline.mean, color=colour, linestyle="--", linewidth=1.4, label=name)
    if math.isfinite(baseline.low):
        axes.axhspan(baseline.low, baseline.high, color=colour, alpha=0.2, linewidth=0, label="95 % interval")
