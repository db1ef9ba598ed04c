"""How well controllers do: statistics, a table for people, a record for programs, a picture of the learning."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich import box
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CONFIDENCE = 0.95
_FIGURES = (
    "delay",
    "full_delay",
    "travel_time",
    "waiting_time",
    "departed",
    "arrived",
    "never_departed",
    "teleports",
)
_NOTHING = "–"
_LEGEND = "seconds per vehicle, means of n episodes; ± is the 95 % interval of the mean"


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
            quantile = float(stdtrit(len(sample) - 1, (1 + _CONFIDENCE) / 2))
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
    None for the baseline itself.
    """

    controller: str
    figures: dict[str, Summary]
    difference: Summary | None


def results(trials: Sequence[Trial], baseline: str | None = None) -> list[Result]:
    """Sum up episodes by controller, in the order of appearance; ``baseline`` is the first unless named.

    Raises ``ValueError`` where the baseline has no episode, or controllers did not meet the same seeds.
    """
    by_controller: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        by_controller.setdefault(trial.controller, {})[trial.seed] = trial
    baseline = baseline if baseline is not None else next(iter(by_controller), None)
    if baseline is None or baseline not in by_controller:
        raise ValueError(f"baseline {baseline!r} has no episode: must be one of {', '.join(by_controller) or 'none'}")
    reference = by_controller[baseline]
    rows = []
    for name, own in by_controller.items():
        if own.keys() != reference.keys():
            raise ValueError(f"{name} ran on seeds {sorted(own)} and {baseline} on {sorted(reference)}: must be equal")
        figures = {
            figure: Summary.of(getattr(trial, figure) for trial in own.values())
            for figure in _FIGURES
            if hasattr(next(iter(own.values())), figure)
        }
        difference = Summary.of(own[seed].delay - reference[seed].delay for seed in own) if name != baseline else None
        rows.append(Result(name, figures, difference))
    return rows


def as_dict(trials: Sequence[Trial], baseline: str | None = None, **about: Any) -> dict[str, Any]:
    """What goes into report.json: ``about`` (scenario, settings, ...), every episode, and the results."""
    rows = results(trials, baseline)
    reference = next(row.controller for row in rows if row.difference is None)
    return {
        **about,
        "confidence": _CONFIDENCE,
        "baseline": reference,
        "controllers": {
            row.controller: {
                **{name: summary.as_dict() for name, summary in row.figures.items()},
                "delay_difference": row.difference.as_dict() if row.difference is not None else None,
            }
            for row in rows
        },
        "episodes": [_plain(trial) for trial in trials],
    }


def _plain(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in ("controller", "seed", *_FIGURES) if hasattr(trial, name)}


def table(trials: Sequence[Trial], baseline: str | None = None, title: str = "") -> Table:
    """A table for people: delay with its interval, the paired difference, and what else there is to know."""
    rows = results(trials, baseline)
    header, *lines = _lines(rows)
    grid = Table(title=title or None, caption=_LEGEND, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.title_justify = grid.caption_justify = "left"
    grid.add_column(header[0], min_width=12)  # a path may be long and wraps
    for name in header[1:]:
        grid.add_column(name, justify="right", no_wrap=True)
    best = min(rows, key=lambda row: row.figures["delay"].mean)
    for row, line in zip(rows, lines, strict=True):
        grid.add_row(*line, style="bold" if row is best and len(rows) > 1 else "")
    return grid


def show(trials: Sequence[Trial], console: Console, baseline: str | None = None, title: str = "") -> None:
    """Print the table: drawn on a terminal; elsewhere plain aligned columns, which no width breaks."""
    if console.is_terminal:
        console.print(table(trials, baseline, title))
        return
    lines = _lines(results(trials, baseline))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = (
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    )
    console.file.writelines(f"{line}\n" for line in [*([title] if title else []), *map("   ".join, aligned), _LEGEND])


def _lines(rows: Sequence[Result]) -> list[list[str]]:
    """The cells of the table, its header first."""
    several = len(rows) > 1
    return [_header(rows, several), *(_cells(row, several) for row in rows)]


def _header(rows: Sequence[Result], several: bool) -> list[str]:
    against = next(row.controller for row in rows if row.difference is None)
    difference = [f"vs {against}"] if several else []
    return ["controller", "delay", "median", *difference, "waiting", "travel", "arrived", "n"]


def _cells(row: Result, several: bool) -> list[str]:
    figures = row.figures
    difference = [_interval(row.difference, signed=True) if row.difference else _NOTHING] if several else []
    others = [
        f"{figures[name].mean:,.{digits}f}" if name in figures else _NOTHING
        for name, digits in (("waiting_time", 1), ("travel_time", 1), ("arrived", 0))
    ]
    delay = figures["delay"]
    return [row.controller, _interval(delay), f"{delay.median:.1f}", *difference, *others, str(delay.n)]


def _interval(summary: Summary, signed: bool = False) -> str:
    """The mean and half the width of its interval."""
    mean = f"{summary.mean:+.1f}" if signed else f"{summary.mean:.1f}"
    half = summary.high - summary.mean
    return f"{mean} ± {half:.1f}" if math.isfinite(half) else mean


def comparison(path: Path, trials: Sequence[Trial], title: str = "") -> None:
    """Draw the delay of every episode, and each controller's mean with its 95 % interval, as a PNG."""
    rows = results(trials)[::-1]  # the first on top
    figure = _figure(height=1.2 + 0.5 * len(rows), title=title)
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
    _tidy(axes)
    figure.savefig(path, format="png")


def learning_curve(path: Path, metrics: Sequence[Mapping[str, Any]], baseline: Summary | None, title: str = "") -> None:
    """Draw a run's mean delay over training time and over decisions as a PNG.

    ``metrics`` are rows as ``learner.metrics.read`` gives them, of which ``trained`` (s of training), ``decisions`` and
    ``delay`` (s, mean of the latest episodes) are used; ``baseline`` is that of the fixed-time programs (s), drawn
    as a line with its 95 % band. Where no episode has ended yet the picture says so.
    """
    rows = _in_order([row for row in metrics if row.get("delay") is not None])
    delays = [float(row["delay"]) for row in rows]
    figure = _figure(height=3.6, title=title)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, [row["trained"] / 60.0 for row in rows], delays, baseline)
    _draw(right, [row["decisions"] / 1000.0 for row in rows], delays, baseline)
    left.set_xlabel("training time (min)")
    right.set_xlabel("decisions (thousands)")
    left.set_ylabel("mean delay per vehicle (s)")
    handles, labels = right.get_legend_handles_labels()
    if handles:
        right.legend(handles, labels, frameon=False, loc="upper right")
    figure.savefig(path, format="png")


def _in_order(metrics: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the rows of what a run had learned when it died: it was resumed from a checkpoint before them."""
    kept: list[Mapping[str, Any]] = []
    for row in reversed(metrics):
        if not kept or row["trained"] <= kept[-1]["trained"]:
            kept.append(row)
    return kept[::-1]


def _figure(height: float, title: str) -> Figure:
    """An empty figure that shares nothing with any other: no pyplot, no global state."""
    # Matplotlib takes half a second to import, and not everybody who sums up draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
    return figure


def _draw(axes: Axes, across: Sequence[float], delays: Sequence[float], baseline: Summary | None) -> None:
    """The delays over something that grows, and the baseline behind them."""
    if delays:
        axes.plot(across, delays, color="tab:blue", linewidth=1.8, label="policy, latest training episodes")
    else:
        axes.text(0.5, 0.5, "no training episode has ended", transform=axes.transAxes, ha="center", va="center")
    if baseline is not None:
        axes.axhline(baseline.mean, color="tab:gray", linestyle="--", linewidth=1.4, label="fixed-time programs")
        if math.isfinite(baseline.low):
            axes.axhspan(
                baseline.low, baseline.high, color="tab:gray", alpha=0.2, linewidth=0, label="its 95 % interval"
            )
    axes.set_ylim(bottom=0)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
