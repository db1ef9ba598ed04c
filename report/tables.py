"""Tables for people: drawn on a terminal; elsewhere plain aligned columns, which no width breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from report.statistics import Result, Summary, Trial, results

_NOTHING = "–"
_LEGEND = "seconds per vehicle, means of n episodes; ± is the 95 % interval of the mean"
_LEGEND_OF_ONE = "seconds per vehicle, means over the vehicles of one episode"
_DETAILS_LEGEND = (
    "full: delay of all, those that never got in with their wait so far, s; worst: longest standing of a vehicle, s\n"
    "queue: vehicles that stand; CO2: g per vehicle; veh/h: arrived"
)


def show(
    trials: Sequence[Trial], console: Console, baseline: str | None = None, title: str = "", details: bool = False
) -> None:
    """Print the table, and with ``details`` a second one with what else there is to know.

    That one is printed, too, where delays do not tell all: an episode was gridlocked, or somebody never got in.
    """
    rows = results(trials, baseline)
    details = details or any(map(_is_jammed, rows))
    legend = _LEGEND if len(trials) > len(rows) else _LEGEND_OF_ONE
    _print(console, _lines(rows), _best(rows), title, legend)
    if details:
        console.file.write("" if console.is_terminal else "\n")
        _print(console, _details(rows), _best(rows), "", _DETAILS_LEGEND)


def _print(console: Console, lines: list[list[str]], best: int | None, title: str, legend: str) -> None:
    """Print rows of cells, the header first; row number ``best`` stands out."""
    if console.is_terminal:
        console.print(_table(lines, best, title, legend))
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = (
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    )
    console.file.writelines(f"{line}\n" for line in [*([title] if title else []), *map("   ".join, aligned), legend])


def _table(lines: list[list[str]], best: int | None, title: str, legend: str) -> Table:
    header, *rows = lines
    grid = Table(title=title or None, caption=legend, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.title_justify = grid.caption_justify = "left"
    grid.add_column(header[0], min_width=12)  # a path may be long and wraps
    for name in header[1:]:
        grid.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        grid.add_row(*row, style="bold" if number == best else "")
    return grid


def _best(rows: Sequence[Result]) -> int | None:
    """Which of several controllers has the least delay, that of vehicles which never got in included where known."""
    delays = [row.figures.get("full_delay", row.figures["delay"]).mean for row in rows]
    return delays.index(min(delays)) if len(rows) > 1 else None


def _is_jammed(row: Result) -> bool:
    outside = row.figures.get("never_departed")
    return bool(row.gridlocked) or (outside is not None and outside.mean > 0)


def _lines(rows: Sequence[Result]) -> list[list[str]]:
    """The cells of the table, its header first: delay with its interval, and the paired difference."""
    several = len(rows) > 1
    return [_header(rows, several), *(_cells(row, several) for row in rows)]


def _header(rows: Sequence[Result], several: bool) -> list[str]:
    against = next(row.controller for row in rows if row.difference is None)
    difference = [f"vs {against}"] if several else []
    return ["controller", "delay", "median", *difference, "waiting", "travel", "arrived", "n"]


def _cells(row: Result, several: bool) -> list[str]:
    difference = [_interval(row.difference, signed=True) if row.difference else _NOTHING] if several else []
    others = [_mean(row, name, digits) for name, digits in (("waiting_time", 1), ("travel_time", 1), ("arrived", 0))]
    delay = row.figures["delay"]
    return [row.controller, _interval(delay), f"{delay.median:.1f}", *difference, *others, str(delay.n)]


def _details(rows: Sequence[Result]) -> list[list[str]]:
    """The cells of the second table."""
    columns = {
        "full": ("full_delay", 1),
        "worst": ("worst_waiting", 0),
        "queue": ("queue", 1),
        "stops": ("stops", 2),
        "CO2": ("co2", 0),
        "veh/h": ("throughput", 0),
        "teleports": ("teleports", 0),
    }
    lines = [["controller", *columns, "gridlocked"]]
    for row in rows:
        gridlocked = _NOTHING if row.gridlocked is None else f"{row.gridlocked} of {row.figures['delay'].n}"
        lines.append([row.controller, *(_mean(row, *column) for column in columns.values()), gridlocked])
    return lines


def _mean(row: Result, name: str, digits: int) -> str:
    return f"{row.figures[name].mean:,.{digits}f}" if name in row.figures else _NOTHING


def _interval(summary: Summary, signed: bool = False) -> str:
    """The mean and half the width of its interval."""
    mean = f"{round(summary.mean, 1) + 0.0:{'+' if signed else ''}.1f}"  # no -0.0
    half = summary.high - summary.mean
    return f"{mean} ± {half:.1f}" if math.isfinite(half) else mean
