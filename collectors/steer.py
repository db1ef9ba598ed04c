"""The command line that steers a run from another terminal: ``python -m collectors status|pause|resume|stop``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from collectors.client import Client
from collectors.errors import ControlError, NoRunError
from collectors.wire import socket_rank, sockets

Reply = dict[str, Any]

RUNS = Path("runs")
# Seconds. A pause or resume waits for the collectors' next decision, the others are answered from counters.
TIMEOUTS = {"status": 10.0, "pause": 60.0, "resume": 60.0, "stop": 10.0}
WIDTH = 110  # columns where the output is no terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Do one command; returns the exit code: 0 done, 1 the run answered with an error or not at all, 2 no such run."""
    arguments = _parser().parse_args(argv)
    message: Reply = {"command": arguments.command}
    if "collectors" in arguments:
        message["collectors"] = arguments.collectors or None
    with contextlib.ExitStack() as stack:
        try:
            folder, clients = reach(arguments.run_dir, TIMEOUTS[arguments.command], stack)
        except NoRunError as error:
            _complain(str(error))
            return 2
        replies = ask(clients, message)
    if arguments.json:
        print(json.dumps(replies, indent=2))
    else:
        show(folder, arguments.command, replies, Console(width=None if sys.stdout.isatty() else WIDTH))
    for reply in replies:
        if not reply["ok"]:
            _complain(f"{arguments.command}, rank {reply['rank']}: {reply['error']}")
    return 0 if all(reply["ok"] for reply in replies) else 1


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
    failures = [_attempt(client.send, message) for client in clients]
    replies = [failure or _attempt(client.receive) for client, failure in zip(clients, failures, strict=True)]
    return [{"rank": socket_rank(client.name), **reply} for client, reply in zip(clients, replies, strict=True)]


def show(folder: Path, command: str, replies: Sequence[Reply], console: Console) -> None:
    """Print what the ranks answered: counters, the queue, and a row for each collector."""
    for reply in replies:
        if not reply["ok"]:
            continue
        if command == "stop":
            console.print(
                f"{folder}, rank {reply['rank']}: will stop after the present step", style="bold", markup=False
            )
            continue
        console.print(_headline(folder, reply), style="bold", markup=False, highlight=False)
        if "queue" in reply:
            slots = ", ".join(f"{count} {state}" for state, count in reply["queue"].items())
            console.print(f"slots: {slots}", markup=False, highlight=False)
        if reply.get("collectors"):
            console.print(_table(reply["collectors"]))


def _headline(folder: Path, reply: Reply) -> str:
    counters = [
        f"{reply[name]:,.0f} {text}"
        for name, text in (("decisions", "decisions"), ("episodes", "episodes"), ("simulated_seconds", "simulated s"))
        if name in reply
    ]
    version = [f"version {reply['version']}"] if "version" in reply else []
    return " · ".join([f"{folder}, rank {reply['rank']}: {reply.get('state', 'unknown')}", *counters, *version])


def _table(collectors: Sequence[Reply]) -> Table:
    table = Table()
    for heading in ("collector", "state", "envs", "decisions", "episodes", "version", "pid", "SUMO"):
        # Folded, never cut off: a process id with a missing digit is worse than none.
        numeric = heading in ("decisions", "episodes", "version", "pid")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in collectors:
        counts = [f"{row.get(name, 0):,}" for name in ("decisions", "episodes")]
        rest = [str(row.get(name, "")) for name in ("version", "pid")]
        envs, sumo = (" ".join(map(str, row.get(name, ()))) for name in ("envs", "sumo"))
        table.add_row(str(row["collector"]), str(row.get("state", "")), envs, *counts, *rest, sumo)
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


def _attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns, or the error reply that stands for its failure."""
    try:
        return call(*arguments)
    except (ControlError, NoRunError) as error:
        return {"ok": False, "error": str(error)}


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


def _collector(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no collector's number; `status` lists them")
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
    for name, text, some in (
        ("status", "show what the run and its collectors are doing", False),
        ("pause", "let collectors rest at their next decision; their simulations stay alive", True),
        ("resume", "let them go on where they stood", True),
        ("stop", "end the run as the first Ctrl-C would: with a checkpoint", False),
    ):
        command = commands.add_parser(name, help=text, description=f"{name}: {text}", parents=[common])
        if some:
            command.add_argument(
                "collectors", nargs="*", type=_collector, metavar="COLLECTOR", help="numbers; none: all of them"
            )
    return parser
