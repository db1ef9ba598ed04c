"""The command line that steers a run from another terminal.

``python -m collectors status|health|pause|resume|scale|stop``; under ``torchrun`` each command reaches all ranks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from collectors.client import Client, ask_all
from collectors.errors import NoRunError
from collectors.wire import socket_rank, sockets

Reply = dict[str, Any]

RUNS = Path("runs")
PATIENCE = 10.0  # s for a reply; a run answers within two, with how far it has come
WATCH_EVERY = 1.0  # s between two looks of ``--watch``
WIDTH = 110  # columns where the output is no terminal
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Do one command; returns the exit code: 0 done, 1 an error or no answer, or the run hangs, 2 no such run."""
    arguments = _parser().parse_args(argv)
    names = ("command", "collectors", "seconds", "num_envs")
    message = {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) not in (None, [])}
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if getattr(arguments, "watch", False):
        try:
            return watch(arguments.run_dir, arguments.json, console)
        except BrokenPipeError:  # whoever read it has had enough; nor can what is still to be written be
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    try:
        folder, replies = tell(arguments.run_dir, message)
    except NoRunError as error:
        _complain(str(error))
        return 2
    if arguments.json:
        print(json.dumps(replies, indent=2))
    else:
        show(folder, arguments.command, replies, console)
    for reply in replies:
        if not reply["ok"]:
            _complain(f"{arguments.command}, rank {reply['rank']}: {reply['error']}")
    return 0 if all(reply["ok"] and reply.get("healthy", True) for reply in replies) else 1


def tell(run_dir: Path | None, message: Reply) -> tuple[Path, list[Reply]]:
    """Give all ranks of a run one command; returns its folder and their replies. Raises ``NoRunError``."""
    with contextlib.ExitStack() as stack:
        folder, clients = reach(run_dir, PATIENCE, stack)
        return folder, ask(clients, message)


def watch(run_dir: Path | None, as_json: bool, console: Console) -> int:
    """Show the status again and again until Ctrl-C or the end of the run; as JSON one line each time."""
    seen = False
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, transient=as_json) as live:
        while True:
            try:
                run_dir, replies = tell(run_dir, {"command": "status"})
            except NoRunError as error:
                _complain(str(error))
                return 0 if seen else 2
            seen = True
            if as_json:
                print(json.dumps(replies), flush=True)
            else:
                live.update(Group(*picture(run_dir, replies)), refresh=True)
            time.sleep(WATCH_EVERY)
    return 0


def reach(run_dir: Path | None, timeout: float, stack: contextlib.ExitStack) -> tuple[Path, list[Client]]:
    """Connect to every rank of a run, of the newest one in ``./runs`` where none is named, until ``stack`` is closed.

    Raises:
        NoRunError: nobody answers.
    """
    if run_dir:
        return run_dir, _connect(run_dir, timeout, stack)
    for folder in _newest_first(RUNS):
        with contextlib.suppress(NoRunError):  # an older one may still run
            return folder, _connect(folder, timeout, stack)
    raise NoRunError(f"no run is answering in any folder of {RUNS.resolve()}; name its folder with --run-dir")


def ask(clients: Sequence[Client], message: Reply) -> list[Reply]:
    """Ask all ranks, then await their replies; what goes wrong with one becomes ``{"ok": False, "error": ...}``."""
    replies = ask_all(clients, message)
    return [{"rank": socket_rank(client.name), **reply} for client, reply in zip(clients, replies, strict=True)]


def show(folder: Path, command: str, replies: Sequence[Reply], console: Console) -> None:
    """Print what the ranks answered."""
    if command not in ("stop", "health"):
        for part in picture(folder, replies):
            console.print(part)
        return
    for reply in replies:
        if reply["ok"]:
            says = _condition(reply) if command == "health" else "will stop after the present step"
            console.print(f"{folder}, rank {reply['rank']}: {says}", style="bold", markup=False)


def _condition(reply: Reply) -> str:
    return f"{reply['state']}; {reply['seconds_since_progress']:,.0f} s since the last progress"


def picture(folder: Path, replies: Sequence[Reply]) -> list[RenderableType]:
    """Counters, the queue, and a row for each collector, of every rank that answered."""
    parts: list[RenderableType] = []
    for reply in replies:
        if not reply["ok"]:
            continue
        parts.append(Text(_headline(folder, reply), style="bold"))
        if "queue" in reply:
            slots = ", ".join(f"{count} {state}" for state, count in reply["queue"].items())
            parts.append(Text(f"slots: {slots}"))
        if reply.get("collectors"):
            parts.append(_table(reply["collectors"]))
    return parts


def _headline(folder: Path, reply: Reply) -> str:
    counters = [
        f"{reply[name]:,.0f} {text}"
        for name, text in (("decisions", "decisions"), ("episodes", "episodes"), ("simulated_seconds", "simulated s"))
        if name in reply
    ]
    version = [f"version {reply['version']}"] if "version" in reply else []
    count = reply.get("restarts", 0)
    restarts = [f"{count} restart{'s' * (count > 1)}"] if count else []
    title = f"{folder}, rank {reply['rank']}: {reply.get('state', 'unknown')}"
    return " · ".join([title, *counters, *version, *restarts])


def _table(collectors: Sequence[Reply]) -> Table:
    table = Table()
    for heading in ("collector", "state", "envs", "decisions", "episodes", "version", "restarts", "pid", "SUMO"):
        # Folded, never cut off: a process id with a missing digit is worse than none.
        numeric = heading in ("decisions", "episodes", "version", "restarts", "pid")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in collectors:
        counts = [f"{row.get(name, 0):,}" for name in ("decisions", "episodes")]
        rest = ["-" if row.get(name) is None else str(row[name]) for name in ("version", "restarts", "pid")]
        envs, sumo = (" ".join(map(str, row.get(name, ()))) for name in ("envs", "sumo"))
        state = str(row.get("state", ""))
        if other := [why for why in row.get("paused_for", ()) if why != "request"]:
            state += f" ({', '.join(other)})"
        table.add_row(str(row["collector"]), state, envs, *counts, *rest, sumo)
    return table


def _connect(folder: Path, timeout: float, stack: contextlib.ExitStack) -> list[Client]:
    """Connections to all ranks that live; a rank that died is said and left out."""
    clients: list[Client] = []
    dead: list[NoRunError] = []
    for name in _sockets(folder):
        try:
            clients.append(stack.enter_context(Client(folder, name, timeout)))
        except NoRunError as error:
            dead.append(error)
    if not clients:
        raise dead[0] if dead else NoRunError(f"no run is answering in {folder}: {_why_empty(folder)}")
    for reason in dead:
        _complain(f"one rank is left out: {reason}")
    return clients


def _sockets(folder: Path) -> list[str]:
    try:
        return sockets(folder)
    except PermissionError:
        raise NoRunError(f"no run is answering in {folder}: the folder is another user's") from None


def _why_empty(folder: Path) -> str:
    return "it has no control.sock" if folder.is_dir() else "there is no such folder"


def _newest_first(runs: Path) -> list[Path]:
    """Folders that have a control socket, by the time when it was made, which is when the run began."""
    began = {path: _began(path) for path in runs.iterdir()} if runs.is_dir() else {}
    return sorted((path for path, when in began.items() if when), key=began.__getitem__, reverse=True)


def _began(folder: Path) -> float:
    """When the newest socket of a folder was made, in seconds since the epoch; 0 where it has none."""
    try:
        return max(((folder / name).stat().st_mtime for name in sockets(folder)), default=0.0)
    except (FileNotFoundError, PermissionError):  # the run has just ended, or is another user's
        return 0.0


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


def _collector(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no collector's number; `status` lists them")
    return int(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90, 90s, 10m or 2h")
    return float(match[1]) * UNITS[match[2]]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of simulations; at least 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line; the usage is shown by --help."""
        self.exit(2, f"{self.prog}: {message}; try --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m collectors", description="Steer a run from another terminal.")
    common = _Parser(add_help=False)
    common.add_argument(
        "--run-dir", type=Path, metavar="D", help="folder of the run; default: the newest in ./runs that answers"
    )
    common.add_argument("--json", action="store_true", help="print a list with each rank's reply")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    added = {
        name: commands.add_parser(name, help=text, description=f"{name}: {text}", parents=[common])
        for name, text in (
            ("status", "show what the run and its collectors are doing"),
            ("health", "say in one line whether the run learns, is paused, or hangs; exit code 1 if it hangs"),
            ("pause", "let collectors rest at their next decision; their simulations stay alive"),
            ("resume", "let them go on where they stood"),
            ("scale", "have more or fewer simulations, per rank"),
            ("stop", "end the run as the first Ctrl-C would: with a checkpoint"),
        )
    }
    added["status"].add_argument("--watch", action="store_true", help="show it every second until Ctrl-C")
    for name in ("pause", "resume"):
        added[name].add_argument(
            "collectors", nargs="*", type=_collector, metavar="COLLECTOR", help="numbers; none: all of them"
        )
    added["pause"].add_argument(
        "--for", dest="seconds", type=_seconds, metavar="TIME", help="at most so long: 90, 90s, 10m, 2h"
    )
    added["scale"].add_argument("num_envs", type=_count, metavar="ENVS", help="simulations of each rank")
    return parser
