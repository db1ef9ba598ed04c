"""SUMOs and collectors that hang are replaced within the stall limit; a run that stood still as a whole is not."""

from __future__ import annotations

import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.harm import (
    Result,
    Status,
    adds_up,
    ask,
    check_books,
    ends_well,
    learns,
    noting,
    shown,
    start,
    wait_until,
)
from chaos.processes import everybody, processes_of
from tests.support.leftovers import alive
from tests.support.runs import TrainRun

KINDS = ("SUMO", "collector", "collector and its SUMOs")
_GRAIN = 0.5  # s: how exactly the end of a process is seen here
_SLACK = 90.0  # s; that it was late is a check's to say
_PACE = 10  # steps of learning by which the pace is measured
_SHARE = 0.25  # of the pace before that must be kept while half of the envs stand


@dataclass(frozen=True)
class Settings:
    """How often one of each kind is stopped, how often everything; the stall limit in s."""

    rounds: int = 3
    freezes: int = 2
    stall_limit: float = 5.0


QUICK = Settings(rounds=1, freezes=1, stall_limit=3.0)


@dataclass(frozen=True)
class Stall:
    """What came of stopping some processes of one collector."""

    kind: str
    noticed: float  # s from the stop until the process was gone
    replaced: float  # s until its place was taken
    pace: float  # steps of learning per s before
    steps: int  # of learning, before it was noticed
    left: list[int]  # process ids of the stopped ones that live on
    disturbed: list[str]  # others that were replaced too

    @property
    def share(self) -> float:
        """Of the pace before that was kept."""
        return self.steps / self.noticed / self.pace


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Stop SUMOs and collectors with SIGSTOP, one after the other, and then everything."""
    limit = settings.stall_limit
    flags = ("--episode-seconds", "900", "--num-collectors", "2", "--stall-limit", f"{limit:g}")
    result = Result(
        f"SIGSTOP of a SUMO, a collector, a collector with its SUMOs, and everything, with --stall-limit {limit:g}",
        f"{shown(*flags)}. Two collectors on any machine, so that half of the envs go on while one stands; "
        f"--stall-limit is {limit:g} s instead of 30 to save time.",
    )
    chance = random.Random(seed)
    with start(folder, *flags) as run, noting(result, "the run lives through it"):
        stalls = [_stall(run, kind, limit, chance) for _ in range(settings.rounds) for kind in KINDS]
        _judge(result, stalls, limit)
        restarts = ask(run, "status")["restarts"]
        result.check("each is one restart", restarts == len(stalls), f"{restarts} restarts, {len(stalls)} stalls")
        for _ in range(settings.freezes):
            _freeze(run, 2 * limit, result)
        check_books(run, result)
        ends_well(run, result, restarts=restarts)
    return result


def _stall(run: TrainRun, kind: str, limit: float, chance: random.Random) -> Stall:
    """Stop what belongs to a random collector, and watch until its place has been taken."""
    before = wait_until(run, _complete, "everybody at work")
    pace = _pace(run)
    number = chance.randrange(len(before["collectors"]))
    row = before["collectors"][number]
    chosen = [chance.choice(row["sumo"])] if kind == "SUMO" else [row["pid"]]
    chosen += row["sumo"] if kind == "collector and its SUMOs" else []
    version = ask(run, "status")["version"]
    _send(run, chosen, signal.SIGSTOP)
    began = time.monotonic()
    at_end = wait_until(run, lambda status: not set(chosen) & everybody(status), f"the end of a {kind}", _SLACK)
    noticed = time.monotonic() - began
    after = wait_until(run, _complete, f"another {kind}", _SLACK)
    kept = set(chosen) | (set(row["sumo"]) if kind != "SUMO" else set())
    others = everybody(before) - kept
    return Stall(
        kind=kind,
        noticed=noticed,
        replaced=time.monotonic() - began,
        pace=pace,
        steps=at_end["version"] - version,
        left=[pid for pid in chosen if alive(pid)],
        disturbed=[str(pid) for pid in others - everybody(after)],
    )


def _complete(status: Status) -> bool:
    """Whether every collector and every SUMO is at work."""
    return adds_up(status) and all(
        row["state"] in ("running", "waiting") and len(row["sumo"]) == len(row["envs"]) for row in status["collectors"]
    )


def _pace(run: TrainRun) -> float:
    """Steps of learning per s."""
    before, began = learns(run, 1)["version"], time.monotonic()
    return (learns(run, _PACE)["version"] - before) / (time.monotonic() - began)


def _send(run: TrainRun, chosen: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to some processes of a run."""
    for process in processes_of(run, set(chosen)):
        process.send_signal(number)


def _judge(result: Result, stalls: list[Stall], limit: float) -> None:
    """Note what must hold for all stalls."""
    for kind in KINDS:
        seconds = [stall.noticed for stall in stalls if stall.kind == kind]
        seen = f"median {statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s"
        what = f"a stopped {kind} is gone within the stall limit, {limit:g} s (± {_GRAIN:g} s of this measurement)"
        result.check(what, max(seconds) <= limit + _GRAIN, seen, timed=True)
        result.figures[kind] = {
            "gone after s": [round(stall.noticed, 2) for stall in stalls if stall.kind == kind],
            "replaced after s": [round(stall.replaced, 2) for stall in stalls if stall.kind == kind],
        }
    left = [pid for stall in stalls for pid in stall.left]
    result.check("the stopped process is gone", not left, f"{len(left)} live on")
    disturbed = [pid for stall in stalls for pid in stall.disturbed]
    result.check("nobody else is replaced", not disturbed, f"{len(disturbed)} others were")
    slowest = min(stalls, key=lambda stall: stall.share)
    seen = f"{slowest.kind}: {slowest.steps} steps meanwhile, {slowest.share:.0%} of the pace"
    what = f"the others keep at least {_SHARE:.0%} of the pace of learning"
    result.check(what, slowest.share >= _SHARE, seen, timed=True)


def _freeze(run: TrainRun, seconds: float, result: Result) -> None:
    """Stop every process of a run for a while, as a container is frozen, and see that nobody is taken for dead."""
    before = wait_until(run, _complete, "everybody at work")
    frozen = run.processes()
    for process in frozen:
        process.suspend()
    time.sleep(seconds)
    for process in frozen:
        process.resume()
    learns(run, steps=10)
    time.sleep(seconds / 2)  # in which somebody could still be condemned
    after = ask(run, "status")
    new = everybody(after) ^ everybody(before)
    same = not new and after["restarts"] == before["restarts"]
    what = f"all {len(frozen)} processes stand still for {seconds:g} s: nobody is replaced"
    result.check(what, same, f"{len(new)} other processes, {after['restarts'] - before['restarts']} restarts")
