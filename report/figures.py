"""Empty figures that share nothing with any other: no pyplot, no global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:gray")


def new_figure(height: float, title: str = "") -> Figure:
    """An empty figure, 9 in wide and ``height`` in high."""
    # Matplotlib takes half a second to import, and not everybody who sums up draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def tidy(axes: Axes) -> None:
    """From zero on, with a pale grid, without a frame."""
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def clock(seconds: float) -> str:
    """A time of the simulation's day, hh:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"
