"""The page that the results become: docs/results.md and its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.kept import Measured
from benchmarks.report import on_what
from benchmarks.tables import NOTHING, paragraph, table, targets
from results import pictures
from results.protocol import CONDITIONS, Row
from results.targets import judge

_INTRODUCTION = f"""
`make results` trains, judges and writes this page; `python -m results report` writes it again from what was found. Each
part is a script of its own that prints JSON: `python -m results.learning --help`. Every run is
`python train_rl.py --scenario S --num-envs 4` with the one default profile and nothing tuned to a map.

Everybody is judged alike: the scenario's own hour, a decision every {CONDITIONS.decision_interval:g} s,
{CONDITIONS.yellow_time:g} s of yellow, no teleporting, seeds from 1 on that nobody was trained on, the likeliest
phase, delays from SUMO's own record of trips (time lost and the wait to enter, mean over vehicles). Intervals are 95 %
(Student's t) over episodes. Moments count from the start of the process.
"""
_TITLES = {
    "yardsticks": "Classical controllers",
    "cologne1": "One signal: cologne1",
    "cologne8": "Eight signals: cologne8",
    "grid4x4": "Sixteen signals: RESCO's grid4x4",
    "ingolstadt21": "Twenty-one signals: ingolstadt21",
    "transfer": "A map that it has never seen",
    "rival": "Side by side with sumo-rl and PPO",
    "ablation": "What matters",
}
_TEXTS = {
    "rival": "At each moment the best of several settings of PPO counts. `short`: rollouts of 256 decisions, step size "
    "0.001, discount 0.95; `queue`: sumo-rl's queue as reward instead of its difference of waiting times.",
    "ablation": "Runs that differ in one setting, after as many decisions: serial, and so reproducible to the bit on "
    "one machine. Mean delay of the last checkpoint; the interval is over training seeds.",
}


def write(folder: Path, measured: Mapping[str, Measured]) -> Path:
    """Write the page and its pictures into a folder; returns the page's path."""
    shown = folder / "pictures"
    shown.mkdir(parents=True, exist_ok=True)
    found = {part: one.result for part, one in measured.items()}
    for part in found:
        pictures.draw(shown / picture_name(part), part, found)
    page = folder / "results.md"
    page.write_text(text(measured), encoding="utf-8")
    return page


def picture_name(part: str) -> str:
    """The file of a part's picture."""
    return f"results-{part}.png"


def text(measured: Mapping[str, Measured]) -> str:
    """The page."""
    judgements = judge({part: one.result for part, one in measured.items()})
    known = [judgement for judgement in judgements if judgement.met is not None]
    lines = [
        *("# Results", "", paragraph(_INTRODUCTION), ""),
        *(f"{sum(bool(one.met) for one in known)} of {len(known)} targets are met.", ""),
        *targets(known),
    ]
    for part, one in measured.items():
        lines += [f"## {_TITLES[part]}", ""]
        lines += [paragraph(_TEXTS[part]), ""] if part in _TEXTS else []
        lines += [*_tables(one.result), f"![{_TITLES[part]}](pictures/{picture_name(part)})", ""]
    return "\n".join([*lines, "## On what", "", *on_what(measured)]).rstrip() + "\n"


def _tables(result: Row) -> list[str]:
    """A part's tables, by what it has found."""
    if "theirs" in result:
        return _side_by_side(result)
    first = result["rows"][0]
    if "controller" in first:
        return _controllers(result["rows"])
    if "variant" in first:
        return _variants(result["rows"])
    return _snapshots(result)


def _controllers(rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for network in dict.fromkeys(row["network"] for row in rows):
        header = ("controller", "delay (s)", "median", "waiting (s)", "travel (s)", "veh/h", "gridlocked")
        cells = [
            (f"`{row['controller']}`", *_delay(row), *_means(row), _gridlocked(row))
            for row in rows
            if row["network"] == network
        ]
        lines += [f"`{network}`:", "", *table(header, cells)]
    return lines


def _snapshots(result: Row) -> list[str]:
    """What each snapshot of each run is worth."""
    header = ("judged on", "training seed", "s after the start", "decisions", "delay (s)", "median", "gridlocked")
    cells = [
        (
            f"`{row['network']}`",
            f"{row['seed']}",
            f"{row['wall']:.0f}" + ("" if row["moment"] is not None else ", the last"),
            f"{row['decisions']:,.0f}",
            *_delay(row),
            _gridlocked(row),
        )
        for row in result["rows"]
    ]
    commands = dict.fromkeys(run["command"] for run in result["runs"])
    return [*table(header, cells), *(f"- `{command}`" for command in commands), ""]


def _side_by_side(result: Row) -> list[str]:
    header = ("who", "s after the start", "decisions", "delay (s)", "median")
    named = [("**platoon**", row) for row in result["own"]]
    named += [(f"sumo-rl + PPO, `{row['variant']}`", row) for row in result["theirs"]]
    named.sort(key=lambda one: one[1]["moment"])
    cells = [(name, f"{row['moment']:g}", f"{row['decisions']:,.0f}", *_delay(row)) for name, row in named]
    return table(header, cells)


def _variants(rows: Iterable[Row]) -> list[str]:
    header = ("variant", "flags", "delay (s)", "median", "of each run (s)", "gridlocked episodes")
    cells = [
        (
            row["variant"],
            f"`{row['flags']}`" if row["flags"] else NOTHING,
            *_delay(row),
            ", ".join(f"{delay:.1f}" for delay in row["delays"]),
            f"{row['gridlocked']}",
        )
        for row in rows
    ]
    return table(header, cells, words=2)


def _delay(row: Row) -> tuple[str, str]:
    """The mean with its interval, and the median."""
    delay = row["delay"]
    half = "" if delay["high"] is None else f" ± {delay['high'] - delay['mean']:.1f}"
    return f"{delay['mean']:.1f}{half}", f"{delay['median']:.1f}"


def _means(row: Row) -> tuple[str, ...]:
    digits = (("waiting_time", 1), ("travel_time", 1), ("throughput", 0))
    return tuple(f"{row[name]['mean']:,.{places}f}" for name, places in digits)


def _gridlocked(row: Row) -> str:
    return f"{row['gridlocked']} of {len(row['delays'])}"
