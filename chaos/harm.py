"""What every harm has in common: a run that it is done to, what is looked at, and what was seen."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collectors.client import request
from collectors.errors import ControlError, NoRunError
from collectors.wire import socket_name
from learner import checkpoints
from learner.errors import CheckpointError
from tests.learner.full_disk import PRIVATE
from tests.support.runs import SCRIPT, TrainRun

Status = dict[str, Any]

# A run that goes on until it is told to stop, on the default scenario, with what it reads overwritten at once, so that
# a frame that was read too late shows.
ENDLESS = (
    *("--scenario", "grid4x4", "--episode-seconds", "none", "--num-envs", "4"),
    *("--time-limit", "none", "--eval-seeds", "0", "--poison"),
)
# The smallest scenario instead: learns within five seconds.
SINGLE = ("--scenario", "single", "--episode-seconds", "200", "--num-envs", "2")
PROGRAM = (sys.executable, SCRIPT)
SLOTS = 12  # of a run with --queue-size as it is by default


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and what was seen."""

    what: str
    holds: bool
    seen: str
    timed: bool = False  # it is a time that was limited: a busy machine misses it, a fault need not be there


@dataclass(frozen=True)
class Answer:
    """What was said to one mistake, and whether that was right."""

    mistake: str
    said: str
    right: bool


@dataclass
class Result:
    """What came of one harm: ``checks`` that must hold, ``figures`` to be told, ``series`` to be drawn."""

    harm: str  # the row of the table
    about: str = ""  # the runs that it was done to: their flags, and the reasons for them
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[list[float]]] = field(default_factory=dict)  # name → [s since the start, value] pairs

    def check(self, what: str, holds: Any, seen: object, timed: bool = False) -> None:
        """Note one thing that must hold."""
        self.checks.append(Check(what, bool(holds), str(seen), timed))

    @property
    def holds(self) -> bool:
        """Whether all of it did; nothing checked is nothing held."""
        return bool(self.checks) and all(check.holds for check in self.checks)


def start(
    folder: Path, *flags: str, program: Sequence[str] = PROGRAM, environment: Mapping[str, str] | None = None
) -> TrainRun:
    """An endless run in a folder of its own; later flags win."""
    folder.mkdir(parents=True, exist_ok=True)
    return TrainRun(folder, *ENDLESS, *flags, program=program, environment=environment)


def shown(*flags: str) -> str:
    """The command line of a run that ``start`` makes of these flags, for people."""
    given: dict[str, list[str]] = {}
    name = ""
    for word in (*ENDLESS, *flags):
        if word.startswith("--"):
            name = word
            given[name] = []
        else:
            given[name].append(word)
    return f"`train_rl.py {' '.join(word for flag, values in given.items() for word in (flag, *values))}`"


def with_tmpfs(place: Path, size: int) -> tuple[str, ...]:
    """The program of a run that sees, in this place, a file system of its own of ``size`` MiB."""
    mount = f'mount -t tmpfs -o size={size}m small "$0" && exec "$@"'
    return (*PRIVATE, "sh", "-c", mount, str(place), *PROGRAM)


def ask(run: TrainRun, command: str, timeout: float = 10.0, rank: int = 0, **fields: Any) -> Status:
    """Give a run a command over its socket; raises ``ControlError`` or ``NoRunError``."""
    return request(run.folder, socket_name(rank), {"command": command, **fields}, timeout)


def try_to_ask(run: TrainRun, command: str, **fields: Any) -> Status | None:
    """The same; None where nobody answers yet, or any more."""
    try:
        return ask(run, command, **fields)
    except (ControlError, NoRunError):
        return None


def wait_until(run: TrainRun, condition: Callable[[Status], Any], what: str, limit: float = 60.0) -> Status:
    """The first status for which a condition holds; fails when the run ends or ``limit`` s have passed before."""
    deadline = time.monotonic() + limit
    while True:
        status = try_to_ask(run, "status")
        if status is not None and condition(status):
            return status
        assert run.process.poll() is None, f"it ended with {run.process.returncode} before {what}:\n{run.said()}"
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}; {status}\n{run.said()}"
        time.sleep(0.05)


def learns(run: TrainRun, steps: int = 3, limit: float = 60.0) -> Status:
    """Wait until a run has made so many further steps of learning: it goes on, and is not only alive."""
    before = try_to_ask(run, "status")
    version = before["version"] if before is not None else 0
    return wait_until(run, lambda status: status["version"] >= version + steps, f"{steps} more steps", limit)


def ends_well(run: TrainRun, result: Result, what: str = "the run is unharmed", restarts: int = 0) -> None:
    """Check that a run learns on, with so many restarts at most, stops when it is told to, and leaves nothing."""
    with noting(result, what):
        status = learns(run)
        ask(run, "stop")
        run.finish()
        seen = f"learns on, {status['restarts']} restarts, exit code 0, nothing left behind"
        result.check(what, status["restarts"] <= restarts, seen)


@contextmanager
def noting(result: Result, what: str) -> Iterator[None]:
    """What does not come, or cannot be asked, in here is a check that does not hold."""
    try:
        yield
    except (AssertionError, ControlError, NoRunError) as error:
        result.check(what, False, error)


def check_books(run: TrainRun, result: Result, slots: int = SLOTS) -> None:
    """Check that a run, at rest, has had every fragment that was finished.

    At rest every slot is free but those of open fragments, one per env at most: one that nobody gave back shows.
    """
    ask(run, "pause")
    wait_until(run, lambda status: status["state"] == "paused" and not _unread(status), "a pause with nothing unread")
    with suppress(AssertionError):  # the figures are as of the learner's last look
        wait_until(run, lambda status: _outstanding(status) == 0, "the last fragments to be counted", 5.0)
    status = ask(run, "status")
    figures, queue = status["figures"], status["queue"]
    seen = f"{status['fragments']} finished, {figures['fragments']} delivered"
    result.check("the books close: every fragment that was finished is delivered", _outstanding(status) == 0, seen)
    at_rest = not _unread(status) and adds_up(status, slots)
    result.check("at rest every slot is free, but for one open fragment per env", at_rest, queue)
    ask(run, "resume")


def _unread(status: Status) -> int:
    return int(status["queue"]["ready"] + status["queue"]["reading"])


def _outstanding(status: Status) -> int:
    """Fragments that were finished and are not delivered yet."""
    return int(status["fragments"] - status["figures"]["fragments"])


def check_checkpoint(run: TrainRun, result: Result, what: str = "the last checkpoint loads") -> None:
    """Check that a run's newest checkpoint can be gone on from."""
    newest = checkpoints.latest(run.folder / "checkpoints")
    try:
        seen = "there is none" if newest is None else f"version {checkpoints.load(newest)['version']}"
    except CheckpointError as error:
        newest, seen = None, str(error)
    result.check(what, newest is not None, seen)


def spread(seconds: Sequence[float]) -> str:
    """The median and the maximum of some durations, in words."""
    return f"median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s" if seconds else "none"


def adds_up(status: Status, slots: int = SLOTS, readers: int = 1) -> bool:
    """Whether there are so many slots, and no more of them in use than there are envs to write and readers to read."""
    queue = status["queue"]
    return sum(queue.values()) == slots and queue["writing"] <= status["num_envs"] and queue["reading"] <= readers
