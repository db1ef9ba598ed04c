"""The report's pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Result = dict[str, Any]

_OWN, _OTHERS = "tab:blue", "tab:gray"
_COLOURS = {"platoon-traci": "tab:blue", "platoon-libsumo": "tab:cyan", "sumo-rl-libsumo": "tab:gray"}


def stepping(path: Path, result: Result) -> None:
    """Bars: processor time relative to bare SUMO, a panel per network, bars of each client by interval."""
    rows = [row for row in result["rows"] if "cpu_vs_bare" in row and row["client"] != "bare"]
    networks, clients = _distinct(rows, "network"), _distinct(rows, "client")
    intervals = sorted({row["interval"] for row in rows})
    figure, panels = _figure(len(networks), height=1.2 + 0.45 * len(clients))
    for axes, network in zip(panels, networks, strict=True):
        for place, client in enumerate(reversed(clients)):
            for number, interval in enumerate(intervals):
                found = [r for r in rows if (r["network"], r["client"], r["interval"]) == (network, client, interval)]
                if not found:
                    continue
                figures = found[0]["cpu_vs_bare"]
                thick = 0.8 / len(intervals)
                axes.barh(
                    place + 0.4 - thick * (number + 0.5),
                    figures["median"],
                    height=thick,
                    color=_OWN if client.startswith("platoon") else _OTHERS,
                    alpha=0.4 + 0.6 * (number + 1) / len(intervals),
                    xerr=[[figures["median"] - figures["low"]], [figures["high"] - figures["median"]]],
                    error_kw={"linewidth": 0.8},
                )
        axes.set_title(network, fontsize="medium", loc="left")
        axes.set_yticks(range(len(clients)), list(reversed(clients)) if axes is panels[0] else [""] * len(clients))
        axes.axvline(1.0, color="black", linewidth=0.8)
    said = ", ".join(f"{interval:g} s" for interval in intervals)
    figure.supxlabel(
        f"simulated s per CPU s, relative to bare SUMO; decisions every {said} (from pale to full)", fontsize="medium"
    )
    figure.savefig(path, format="png")


def scaling(path: Path, result: Result) -> None:
    """Lines: decisions per second over the number of envs, a panel per network, at the interval with most numbers."""
    rows = result["rows"]
    networks = _distinct(rows, "network")
    counts = {interval: len({r["envs"] for r in rows if r["interval"] == interval}) for interval in _intervals(rows)}
    interval = max(counts, key=lambda one: counts[one])
    figure, panels = _figure(len(networks), height=3.4)
    for axes, network in zip(panels, networks, strict=True):
        for contender, colour in _COLOURS.items():
            found = [r for r in rows if (r["network"], r["contender"], r["interval"]) == (network, contender, interval)]
            if found:
                rates = [row["per_wall"]["median"] for row in found]
                axes.plot([row["envs"] for row in found], rates, "o-", color=colour, markersize=4, label=contender)
        axes.set_title(network, fontsize="medium", loc="left")
        axes.set_xscale("log", base=2)
        ticks = sorted({row["envs"] for row in rows if row["interval"] == interval})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("decisions per s")
    figure.supxlabel(f"envs; decisions every {interval:g} s", fontsize="medium")
    _legend(figure, panels)
    figure.savefig(path, format="png")


def memory(path: Path, result: Result) -> None:
    """The memory of a run by its number of simulations, and of a long run over its episodes."""
    figure, (left, right) = _figure(2, height=3.2)
    rows = result["rows"]
    left.plot([row["envs"] for row in rows], [row["bytes"]["median"] / 1e6 for row in rows], "o-", color=_OWN)
    left.set_xlabel("simulations")
    left.set_xticks([row["envs"] for row in rows])
    left.set_ylabel("MB (PSS), all processes")
    curve = np.array(result["long"]["curve"], float).reshape(-1, 2)
    right.plot(curve[:, 0], curve[:, 1] / 1e6, color=_OWN)
    right.set_xlabel(f"episodes of each of {result['long']['envs']} simulations")
    top = max(float(curve[:, 1].max(initial=0.0)), *(row["bytes"]["high"] for row in rows))
    for axes in (left, right):
        axes.set_ylim(0, 1.1 * top / 1e6)
    figure.savefig(path, format="png")


DRAW: dict[str, Callable[[Path, Result], None]] = {"stepping": stepping, "scaling": scaling, "memory": memory}


def _figure(panels: int, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure with panels side by side; it shares nothing with any other."""
    figure = Figure(figsize=(max(6.0, 3.0 * panels), height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(1, panels, squeeze=False)[0])
    for one in axes:
        one.grid(alpha=0.25)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize="small")
    return figure, axes


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels."""
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=len(entries), frameon=False)


def _distinct(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    """The values of a column in order of appearance."""
    return list(dict.fromkeys(row[name] for row in rows))


def _intervals(rows: Sequence[dict[str, Any]]) -> list[float]:
    return sorted({row["interval"] for row in rows})
