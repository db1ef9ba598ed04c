"""The pictures of docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from report.curves import by_scenario, learning_curves
from report.figures import COLOURS, new_figure, tidy
from report.statistics import Summary
from results.protocol import Found, Row, median_delay

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(path: Path, result: Row, found: Found) -> None:
    """How training episodes went: phases sampled, departures jittered; on each scenario, with fixed time if known.

    Dots are the policies that were judged.
    """
    yardsticks = found.get("yardsticks", {}).get("rows", [])
    fixed = {row["network"]: Summary.of(row["delays"]) for row in yardsticks if row["controller"] == "fixed"}
    runs = [run["curve"] for run in result["runs"]]
    several = by_scenario(runs)
    groups = several or {"training episodes": runs}
    known = [name for name in several or [result["scenario"]] if name in fixed]
    baselines = {f"{name}, fixed time": fixed[name] for name in known}
    judged = {
        group: [dots(result, run, network) for run in result["runs"]]
        for group, network in zip(groups, several or [result["scenario"]], strict=True)
    }
    learning_curves(path, groups, baselines, f"Learning on {result['scenario']}", judged)


def dots(result: Row, run: Row, network: str) -> list[Row]:
    """What the policies of a run were worth on one network, at their places on the run's curve."""
    if not run["curve"]:  # no training episode has ended
        return []
    decisions, trained = ([row[name] for row in run["curve"]] for name in ("decisions", "trained"))
    return [
        {
            "decisions": row["decisions"],
            "trained": float(np.interp(row["decisions"], decisions, trained)),
            "delay": row["delay"]["mean"],
        }
        for row in result["rows"]
        if (row["seed"], row["network"]) == (run["seed"], network)
    ]


def controllers(path: Path, result: Row, found: Found) -> None:
    """A panel for each network, a bar for each controller."""
    rows = result["rows"]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    names = list(dict.fromkeys(row["controller"] for row in rows))
    figure = new_figure(height=1.0 + 0.3 * len(names), title="Median full delay of classical controllers (s)")
    panels = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    for axes, network in zip(panels, networks, strict=True):
        medians = {row["controller"]: row["full_delay"]["median"] for row in rows if row["network"] == network}
        _bars(axes, {name: medians[name] for name in names if name in medians})
        axes.set_title(network, fontsize="medium", loc="left")
    figure.savefig(path, format="png")


def variants(path: Path, result: Row, found: Found) -> None:
    """A bar for each variant."""
    figure = new_figure(height=1.0 + 0.3 * len(result["rows"]), title="Median delay over training runs (s)")
    _bars(figure.subplots(), {row["variant"]: row["delay"]["median"] for row in result["rows"]})
    figure.savefig(path, format="png")


def _bars(axes: Axes, values: Mapping[str, float]) -> None:
    places = range(len(values))
    axes.barh(places, list(values.values()), color=COLOURS[0])
    axes.set_yticks(places, list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)  # the first one on top
    tidy(axes)


def moments(path: Path, result: Row, found: Found) -> None:
    """Delay over wall time, ours and each variant of theirs; of several runs the median, from when most have one."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure = new_figure(height=4.0, title="Mean delay of the policy as it was at each moment")
    axes = figure.subplots()
    runs = result["runs"]
    groups = {"platoon": (result["own"], runs["own"])}
    for row in result["theirs"]:
        groups.setdefault(f"sumo-rl + PPO, {row['variant']}", ([], runs["theirs"]))[0].append(row)
    for (name, (rows, count)), colour in zip(groups.items(), cycle(COLOURS), strict=False):
        by_moment: dict[float, list[Row]] = {}
        for row in rows:
            by_moment.setdefault(row["moment"], []).append(row)
        moments = sorted(by_moment)
        medians = [median_delay(by_moment[moment], count) for moment in moments]
        axes.plot(moments, np.array(medians, float), "o-", color=colour, label=name)  # infinite ones are left out
    tidy(axes)
    axes.set_xlabel("s after the start of the process")
    axes.set_ylabel("mean delay per vehicle (s)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside lower left", fontsize="small", frameon=False, ncols=3)
    figure.savefig(path, format="png")
