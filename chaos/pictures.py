"""The pictures of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Series = dict[str, Any]  # name → [x, y] pairs

_BINS = 120


def throughput(path: Path, series: Series) -> None:
    """Steps of learning per second over time, with every kill marked."""
    figure, axes = _figure()
    steps = np.array(series["version"], float).reshape(-1, 2)
    edges = np.linspace(0.0, float(steps[-1, 0]), _BINS + 1)
    versions = np.interp(edges, steps[:, 0], steps[:, 1])
    axes.stairs(np.diff(versions) / np.diff(edges), edges, color="tab:blue")
    top = axes.get_ylim()[1]
    for name, colour, height in (("collector", "tab:red", 0.04), ("SUMO", "tab:orange", 0.02)):
        kills = np.array(series.get(f"{name} replaced in s", []), float).reshape(-1, 2)
        axes.vlines(kills[:, 0], 0.0, height * top, color=colour, linewidth=0.8, label=f"{name} killed")
    axes.set_xlabel("s")
    axes.set_ylabel("steps of learning per s")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, format="png")


def memory(path: Path, series: Series) -> None:
    """Resident memory of every process over the episodes that have ended."""
    figure, axes = _figure()
    suffix = ", MiB"
    for name, pairs in series.items():
        if name.endswith(suffix):
            curve = np.array(pairs, float).reshape(-1, 2)
            axes.plot(curve[:, 0], curve[:, 1], linewidth=1.0, label=name.removesuffix(suffix))
    axes.set_xlabel("episodes")
    axes.set_ylabel("MiB, resident")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(path, format="png")


DRAW: dict[str, Callable[[Path, Series], None]] = {"kills": throughput, "episodes": memory}
_NEEDS = {"kills": "version", "episodes": "parent, MiB"}


def can_draw(part: str, series: Series) -> bool:
    """Whether there is a picture of this harm, and what it shows was seen."""
    return part in DRAW and len(series.get(_NEEDS[part], [])) > 1


def _figure() -> tuple[Figure, Axes]:
    """An empty figure with one panel; it shares nothing with any other."""
    figure = Figure(figsize=(8.0, 3.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    return figure, axes
