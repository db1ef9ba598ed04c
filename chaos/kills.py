"""Collectors and SUMOs killed again and again: each is replaced, and nothing is lost but what was being written."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from chaos.harm import (
    SLOTS,
    Result,
    Status,
    adds_up,
    ask,
    check_books,
    check_checkpoint,
    ends_well,
    noting,
    shown,
    spread,
    start,
    wait_until,
)
from chaos.processes import helpers, strangers, victim
from tests.support.runs import TrainRun

FLAGS = ("--episode-seconds", "300", "--checkpoint-every", "5")
_HELPERS = 3  # processes of a run beside collectors, SUMOs and loader workers: itself, forkserver, resource tracker
_MUSTER = 10  # kills after which all processes are looked at
_RECOVERY = 60.0  # s that one may take until all is given up


class Kind(NamedTuple):
    """A kind of run."""

    name: str
    flags: tuple[str, ...]
    loaders: int = 0
    unread: bool = False  # fragments wait to be read nearly all the time


PLAIN = Kind("plain", ())
SLOW = Kind("slow learner", ("--hidden", "256"), unread=True)
LOADERS = Kind("two loader workers", ("--loader-workers", "2"), loaders=2)


@dataclass(frozen=True)
class Settings:
    """How many kills each kind of run gets, and s: between two of them, until a step of learning, until all is well."""

    plain: int = 120
    slow_learner: int = 40
    loader_workers: int = 40
    every: float = 3.0
    step: float = 3.0
    slow_step: float = 10.0
    replaced: float = 5.0

    @property
    def kills(self) -> int:
        """In all."""
        return self.plain + self.slow_learner + self.loader_workers


# On a machine that is busy with other tests.
QUICK = Settings(plain=0, slow_learner=0, loader_workers=4, every=1.0, step=20.0, replaced=20.0)


@dataclass
class Kill:
    """One process that was killed, and when its place was seen to be taken."""

    kind: str  # collector or SUMO
    collector: int
    pid: int
    unread: int  # fragments, a moment before
    killed: float  # monotonic s
    replaced: float | None = None

    @property
    def seconds(self) -> float:
        """From the kill until its place was taken."""
        assert self.replaced is not None
        return self.replaced - self.killed

    def is_undone(self, row: Status) -> bool:
        """Whether its collector's row shows everybody at work, and not this one."""
        everybody = row["pid"] is not None and len(row["sumo"]) == len(row["envs"])
        return everybody and self.pid not in (row["pid"], *row["sumo"])


@dataclass
class Seen:
    """What was seen of one run."""

    kills: list[Kill] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)  # [s, version] whenever a step was seen
    torn: int = 0  # looks at which slots did not add up
    musters: list[list[str]] = field(default_factory=list)  # the strangers at each


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Kill a random collector or SUMO every few seconds, in runs of several kinds."""
    result = Result(
        f"SIGKILL of a random collector or SUMO every {settings.every:g} s, {settings.kills} times",
        f"{shown(*FLAGS)}. Episodes of 300 s, so that one ends between two kills in the same place: after more than "
        "`--restart-limit` failures in a row without an episode that ended, a run gives up, as it should. "
        f"{settings.slow_learner} of the kills are done to a learner made slow by `{' '.join(SLOW.flags)}`, so that "
        f"finished fragments wait to be read when a collector dies, and {settings.loader_workers} to a run with "
        f"`{' '.join(LOADERS.flags)}`.",
    )
    chance = random.Random(seed)
    counts = {PLAIN: settings.plain, SLOW: settings.slow_learner, LOADERS: settings.loader_workers}
    for number, (kind, count) in enumerate(counts.items()):
        if count:
            with noting(result, f"{kind.name}: the run lives through it"):
                _harm_one(folder / str(number), kind, count, settings, chance, result)
    return result


def _harm_one(folder: Path, kind: Kind, count: int, settings: Settings, chance: random.Random, result: Result) -> None:
    """Kill so many processes of one run, and see whether it is as good as new."""
    with start(folder, *FLAGS, *kind.flags) as run:
        wait_until(run, lambda status: status["version"] > 2 and _is_complete(status), "the first steps")
        others = helpers(run)
        known = len(others) == _HELPERS + kind.loaders
        result.check("all processes are known", known, f"{len(others)} beside collectors and SUMOs")
        seen = _kill(run, kind, count, settings.every, others, chance)
        _judge(result, kind, count, settings, seen)
        undone = ask(run, "status")
        wait_until(run, lambda status: _all_decided(status, undone), "further fragments of every env", _RECOVERY)
        if kind.unread:
            with noting(result, "every slot is still of use"):
                queue = wait_until(run, _is_full, "a full queue")["queue"]
                result.check("every slot is still of use", True, queue)
        check_books(run, result)
        restarts = ask(run, "status")["restarts"]
        said = f"{count} kills, {restarts} restarts"
        result.check("every kill was noticed, and only those", restarts == count, said)
        ends_well(run, result, restarts=restarts)
        check_checkpoint(run, result)


def _kill(run: TrainRun, kind: Kind, count: int, every: float, others: set[int], chance: random.Random) -> Seen:
    """Kill, and watch on until all are back; every now and then nobody is killed until all processes are counted."""
    seen = Seen()
    kills, began = seen.kills, time.monotonic()
    while len(kills) < count or any(kill.replaced is None for kill in kills):
        # A look every 50 ms or so, and the next kill once it is due.
        due = began + every * len(kills)
        status = wait_until(run, lambda status: True, "an answer")
        now = time.monotonic()
        _look(seen, status, kind, now - began, now)
        if len(kills) >= _MUSTER * (len(seen.musters) + 1) and all(kill.replaced is not None for kill in kills):
            seen.musters.append(strangers(run, others))
        if len(kills) < count and now >= due and (found := victim(run, status, chance)) is not None:
            found.process.kill()
            unread = status["queue"]["ready"]
            kills.append(Kill(found.kind, found.collector, found.process.pid, unread, time.monotonic()))
        time.sleep(0.05)
    seen.musters.append(strangers(run, others))
    return seen


def _look(seen: Seen, status: Status, kind: Kind, at: float, now: float) -> None:
    """Take note of a status; ``at`` is s since the beginning."""
    seen.torn += not adds_up(status, readers=max(1, kind.loaders))
    if not seen.steps or status["version"] > seen.steps[-1][1]:
        seen.steps.append([at, status["version"]])
    for kill in seen.kills:
        if kill.replaced is None and kill.is_undone(status["collectors"][kill.collector]):
            kill.replaced = now
    waiting = [kill for kill in seen.kills if kill.replaced is None]
    assert not waiting or now - waiting[0].killed < _RECOVERY, f"{waiting[0]} has not been replaced; {status}"


def _judge(result: Result, kind: Kind, count: int, settings: Settings, seen: Seen) -> None:
    """Write down how it went on while it was done."""
    kills = seen.kills
    result.check("slots add up at every look", not seen.torn, f"{seen.torn} looks at which they did not")
    longest = max((after[0] - before[0] for before, after in pairwise(seen.steps)), default=0.0)
    limit = settings.slow_step if kind is SLOW else settings.step
    what = f"{kind.name}: there is a step of learning at least every {limit:g} s"
    said = f"{len(seen.steps)} seen, {longest:.2f} s between two at most"
    result.check(what, 0 < longest < limit, said, timed=True)
    seconds = [kill.seconds for kill in kills]
    result.check("every one of them is replaced", len(kills) == count, f"{len(kills)} of {count}")
    in_time = max(seconds, default=0.0) < settings.replaced
    result.check(f"each within {settings.replaced:g} s", in_time, spread(seconds), timed=True)
    odd = [name for names in seen.musters for name in names]
    said = "; ".join(odd) or f"none at {len(seen.musters)} looks at all processes"
    result.check("collectors and SUMOs are those that the run tells of: no orphan", not odd, said)
    waiting = sum(kill.unread > 0 for kill in kills)
    if kind.unread:
        what = "fragments waited to be read at most of the kills"
        result.check(what, waiting > count / 2, f"at {waiting} of {count}")
    if not result.series:
        result.series["version"] = seen.steps
        for who in ("collector", "SUMO"):
            result.series[f"{who} replaced in s"] = _replaced(kills, who)
    killed = Counter(kill.kind for kill in kills)
    result.figures.setdefault("runs", []).append(
        {
            "run": kind.name,
            "collectors killed": killed["collector"],
            "SUMOs killed": killed["SUMO"],
            "of these with unread fragments": waiting,
            **{f"{who} replaced in s": _spread(kills, who) for who in ("collector", "SUMO")},
            "longest time without a step in s": round(longest, 2),
        }
    )


def _replaced(kills: Sequence[Kill], who: str) -> list[list[float]]:
    return [[kill.killed - kills[0].killed, kill.seconds] for kill in kills if kill.kind == who]


def _spread(kills: Sequence[Kill], who: str) -> dict[str, Any]:
    seconds = [kill.seconds for kill in kills if kill.kind == who]
    return {"median": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)} if seconds else {}


def _is_complete(status: Status) -> bool:
    """Whether everybody is at work."""
    return all(row["pid"] is not None and len(row["sumo"]) == len(row["envs"]) for row in status["collectors"])


def _is_full(status: Status) -> bool:
    """Whether every slot has been written and waits for the learner."""
    return int(status["queue"]["ready"]) == SLOTS


def _all_decided(status: Status, before: Status) -> bool:
    """Whether every collector has made enough decisions for each of its envs to have ended several fragments."""
    pairs = zip(status["collectors"], before["collectors"], strict=True)
    return all(after["decisions"] - row["decisions"] > 100 * len(row["envs"]) for after, row in pairs)
