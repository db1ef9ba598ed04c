"""Pictures of learning: the delay of one run, or of several with the band between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path
from types import MappingProxyType
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
    ``delay`` (s, mean of the latest episodes) are used, or ``delay/NAME`` where there are several scenarios. An episode
    that was cut by a gridlock has the delay of until then: where there is one scenario, and some were cut, the share of
    them, ``gridlocked``, is drawn above. ``baselines`` are delays under the fixed-time programs (s) by scenario, each
    drawn as a line with its 95 % band. Where no episode has ended yet the picture says so.
    """
    groups = {"policy, latest training episodes": [metrics]}
    if len(baselines) > 1:
        groups = {name: [_on_scenario(metrics, name)] for name in baselines}
    learning_curves(path, groups, {f"{name}, fixed time": known for name, known in baselines.items()}, title)


def _on_scenario(metrics: Rows, name: str) -> Rows:
    """The rows of a run on several scenarios with the delay on one of them, without what is a mean over all."""
    return [{**row, "delay": row.get(f"delay/{name}"), "gridlocked": None} for row in metrics]


def by_scenario(runs: Sequence[Rows]) -> dict[str, list[Rows]]:
    """Runs on several scenarios, once for each of these by its name; empty where there is one scenario."""
    columns = dict.fromkeys(chain.from_iterable(row for rows in runs for row in rows))
    names = [name.removeprefix("delay/") for name in columns if name.startswith("delay/")]
    return {name: [_on_scenario(rows, name) for rows in runs] for name in names}


def learning_curves(
    path: Path,
    groups: Mapping[str, Sequence[Rows]],
    baselines: Mapping[str, Summary],
    title: str = "",
    judged: Mapping[str, Sequence[Rows]] = MappingProxyType({}),
) -> None:
    """Draw the delay of groups of runs over training time and over decisions as a PNG.

    The runs of a group differ in their seed: their mean is a line, from where all of them have ended an episode to
    where the first of them ends, within the band from the lowest to the highest. One baseline is for all groups;
    several are for one group each, in their order, and have its colour. ``judged`` has what policies of a group's runs
    had over whole episodes, as dots. For rows and baselines see ``learning_curve``.
    """
    figure = new_figure(height=4.0, title=title)
    panels = figure.subplots(1, 2, sharey=True)
    cut = any(row.get("gridlocked") for runs in groups.values() for rows in runs for row in rows)
    for axes, (name, (unit, label)) in zip(panels, _AXES.items(), strict=True):
        for (group, runs), colour in zip(groups.items(), cycle(COLOURS), strict=False):
            _draw(axes, _curves(runs, name, unit), group, colour)
            for dots in _curves(judged.get(group, ()), name, unit):
                axes.plot(*dots.T, "o", color=colour, markersize=4.0, label="judged, whole episodes")
        if not axes.lines:
            axes.text(0.5, 0.5, "no training episode has ended", transform=axes.transAxes, ha="center", va="center")
        colours = ["tab:gray"] if len(baselines) == 1 else cycle(COLOURS)
        for (baseline, known), colour in zip(baselines.items(), colours, strict=False):
            _draw_baseline(axes, known, baseline, colour)
        axes.set_xlabel(label)
        axes.set_ylim(bottom=0)
        tidy(axes)
        if cut:
            _add_cuts(axes, [_curves(runs, name, unit, "gridlocked") for runs in groups.values()])
    left, right = panels
    left.set_ylabel("mean delay per vehicle (s)")
    handles, labels = right.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # bands are called alike
    if once:
        figure.legend(once.values(), once.keys(), loc="outside lower left", fontsize="small", frameon=False, ncols=3)
    figure.savefig(path, format="png")


def _curves(runs: Sequence[Rows], name: str, unit: float, figure: str = "delay") -> list[NDArray[np.float64]]:
    """Of each run that has any, (something that grows, delay or another figure) of its rows, float64 [N, 2]."""
    known = [_in_order([row for row in rows if row.get(figure) is not None]) for rows in runs]
    return [np.array([(row[name] / unit, float(row[figure])) for row in rows]) for rows in known if rows]


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


def _add_cuts(axes: Axes, groups: Sequence[Sequence[NDArray[np.float64]]]) -> None:
    """A low panel above, with the share of episodes that were cut, for each group of runs."""
    above = axes.inset_axes((0.0, 1.05, 1.0, 0.2), sharex=axes)
    for curves, colour in zip(groups, cycle(COLOURS), strict=False):
        _draw(above, curves, "", colour)
    above.set_ylim(0.0, 1.0)
    above.set_ylabel("gridlocked", fontsize="small")
    tidy(above)
    above.tick_params(labelbottom=False)


def _draw_baseline(axes: Axes, baseline: Summary, name: str, colour: str) -> None:
    axes.axhline(baseline.mean, color=colour, linestyle="--", linewidth=1.4, label=name)
    if math.isfinite(baseline.low):
        axes.axhspan(baseline.low, baseline.high, color=colour, alpha=0.2, linewidth=0, label="95 % interval")
