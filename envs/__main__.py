"""``python -m envs list`` and ``python -m envs check SCENARIO``: what there is to simulate, and whether it works."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from envs.check import TRIAL_LIMIT, Report, check
from envs.errors import ScenarioError, SumoError, SumoMissingError
from envs.scenarios import RESCO_INSTALL, Entry, available, find

_NO_LIMIT = 100_000  # columns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2, with one line on stderr, for a scenario that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "list":
            return _list(options.json)
        return _check(options.scenario, options.json)
    except (ScenarioError, SumoError, SumoMissingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m envs", description="Scenarios: which there are, and what is in one."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    lister = commands.add_parser("list", help="list the scenarios that have a name")
    checker = commands.add_parser(
        "check",
        help="say whether a scenario can be used, and what is in it",
        description=f"Open a scenario in SUMO and simulate its time window, for {TRIAL_LIMIT:g} s at most.",
    )
    checker.add_argument("scenario", metavar="SCENARIO", help="a name from the list, or the path of a .sumocfg")
    for command in (lister, checker):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _list(as_json: bool) -> int:
    entries = available()
    if as_json:
        print(json.dumps([entry._asdict() for entry in entries], indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "what it is"):
        table.add_column(heading)
    for entry in entries:
        table.add_row(entry.name, entry.description, style=None if entry.present else "dim")
    _print(table, escape(_footer(entries)))
    return 0


def _footer(entries: Sequence[Entry]) -> str:
    missing = [entry.name for entry in entries if not entry.present]
    hint = f"\nNot installed: {', '.join(missing)}. To have them: {RESCO_INSTALL}" if missing else ""
    return f"\nAny .sumocfg of your own can be used too, by its path.{hint}"


def _check(name: str, as_json: bool) -> int:
    with Console(stderr=True).status(f"simulating {escape(name)}"):
        report = check(find(name))
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        _show(report)
    if not report.usable:
        print(f"error: {report.notes[0]}", file=sys.stderr)
        return 2
    return 0


def _show(report: Report) -> None:
    parts: list[Table | str] = [_overview(report)]
    if report.network.signals or report.network.fixed_signals:
        parts += ["", _signals(report)]
    notes = report.notes if report.usable else report.notes[1:]  # the first is why it is not, said on stderr
    _print(*parts, *([""] if notes else []), *(f"• {escape(note)}" for note in notes))


def _print(*parts: Table | str) -> None:
    """On a terminal as wide as that is; elsewhere in whole lines, which nobody has to put together again."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_NO_LIMIT)
    with console.capture() as text:
        for part in parts:
            console.print(part, highlight=False)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in text.get().splitlines())


def _overview(report: Report) -> Table:
    scenario, network, demand = report.scenario, report.network, report.demand
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        "scenario": scenario.name if scenario.name == str(scenario.config) else f"{scenario.name} ({scenario.config})",
        "time window": f"{scenario.begin:g} s to {scenario.end:g} s ({(scenario.end - scenario.begin) / 60:g} min)",
        "signals": f"{len(network.signals)} controllable, {len(network.fixed_signals)} not",
        "green phases": f"{network.num_phases}",
        "lanes": f"{report.road_lanes}, {report.road_km:.1f} km",
        "vehicles per hour": f"{demand.vehicles_per_hour:.0f}",
        "delay": f"{demand.delay:.1f} s per vehicle under the network's own signal programs",
        "speed": f"{demand.wall_per_hour:.2g} s of real time per simulated hour, SUMO alone",
    }
    for label, text in rows.items():
        table.add_row(label, escape(text))
    return table


def _signals(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("green phases", "lanes", "neighbours"):
        table.add_column(heading, justify="right")
    table.add_column("controllable")
    table.add_column("signal", overflow="fold")  # last: a name may be long
    for signal in (*report.network.signals, *report.network.fixed_signals):
        numbers = (len(signal.greens), len(signal.incoming), len(report.neighbours(signal)))
        controllable = f"no: {signal.why_fixed}" if signal.why_fixed else "yes"
        table.add_row(*map(str, numbers), escape(controllable), escape(signal.id))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
