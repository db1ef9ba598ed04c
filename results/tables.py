"""The tables of docs/results.md, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pages.tables import NOTHING, table
from results.differences import Difference
from results.protocol import Row


def controllers(result: Row) -> list[str]:
    """A table for each network, a row for each controller."""
    lines: list[str] = []
    header = (
        "controller",
        "delay (s)",
        "median",
        "full",
        "waiting",
        "travel",
        "veh/h",
        "teleports",
        "gridlocked",
    )
    for network in dict.fromkeys(row["network"] for row in result["rows"]):
        cells = [
            (f"`{row['controller']}`", *_delay(row), *_means(row), f"{row['teleports']}", _gridlocked(row))
            for row in result["rows"]
            if row["network"] == network
        ]
        lines += [f"`{network}`:", "", *table(header, cells)]
    return lines


def snapshots(result: Row) -> list[str]:
    """What each snapshot of each run is worth, and the commands of the runs."""
    header = ("judged on", "training seed", "at (s)", "decisions", "delay (s)", "median", "full", "gridlocked")
    cells = [
        (
            f"`{row['network']}`",
            f"{row['seed']}",
            f"{row['wall']:.0f}" + ("" if row["moment"] is not None else ", the last"),
            f"{row['decisions']:,.0f}",
            *_delay(row),
            f"{row['full_delay']['mean']:.1f}",
            _gridlocked(row),
        )
        for row in result["rows"]
    ]
    commands = [run["command"] for run in result["runs"]]
    return [*table(header, cells), *(f"- `{command}`" for command in commands), *_failed(result), ""]


def differences(found: Sequence[Difference]) -> list[str]:
    """A row for each network."""
    header = ("network", "against", "training runs", "difference (s)")
    cells = [
        (f"`{one.network}`", f"`{one.controller}`", f"{one.runs}", _interval(one.summary.mean, one.summary.high))
        for one in found
    ]
    return table(header, cells, words=2)


def side_by_side(result: Row) -> list[str]:
    """Everybody at each moment, what the variants are, and the commands."""
    header = ("who", "training seed", "at (s)", "decisions", "delay (s)", "median", "full")
    named = [("**platoon**", row) for row in result["own"]]
    named += [(f"`{row['variant']}`", row) for row in result["theirs"]]
    named.sort(key=lambda one: one[1]["moment"])
    cells = [
        (
            name,
            f"{row['seed']}",
            f"{row['moment']:g}",
            f"{row['decisions']:,.0f}",
            *_delay(row),
            f"{row['full_delay']['mean']:.1f}",
        )
        for name, row in named
    ]
    lines = [*table(header, cells), f"- **platoon**: `{result['command']}`"]
    return [*lines, *(f"- `{name}`: {words}" for name, words in result["variants"].items()), *_failed(result), ""]


def variants(result: Row) -> list[str]:
    """A row for each variant."""
    header = ("variant", "flags", "delay (s)", "median", "of each run (s)", "gridlocked episodes")
    cells = [
        (
            row["variant"],
            f"`{row['flags']}`" if row["flags"] else NOTHING,
            *_delay(row),
            ", ".join(f"{delay:.1f}" for delay in row["delays"]),
            f"{row['gridlocked']}",
        )
        for row in result["rows"]
    ]
    return [*table(header, cells, words=2), *_failed(result)]


def _failed(result: Row) -> list[str]:
    """Runs that came to nothing, in a line each."""
    return [f"- failed: {' '.join(words.split())[:300]}" for words in result["failed"]]


def _delay(row: Row) -> tuple[str, str]:
    """The mean with its interval, and the median."""
    delay = row["delay"]
    return _interval(delay["mean"], delay["high"]), f"{delay['median']:.1f}"


def _interval(mean: float, high: float | None) -> str:
    return f"{mean:.1f}" + ("" if high is None else f" ± {high - mean:.1f}")


def _means(row: Row) -> Sequence[str]:
    digits = (("full_delay", 1), ("waiting_time", 1), ("travel_time", 1), ("throughput", 0))
    return [f"{row[name]['mean']:,.{places}f}" for name, places in digits]


def _gridlocked(row: Row) -> str:
    return f"{row['gridlocked']} of {len(row['delays'])}"
