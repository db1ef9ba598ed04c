"""A learner that stops reading: collectors fill the queue, wait without work or growth, and go on when it does."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos.harm import SLOTS, Result, Status, ask, check_books, ends_well, learns, noting, shown, start, wait_until
from chaos.processes import pids
from chaos.ranks import RANKS, SINGLE_THREAD, TORCHRUN, rank_of
from collectors.errors import ControlError, NoRunError
from tests.support.runs import TrainRun

_BUSY = 0.01  # share of a core that a process which only waits may use
_GROWTH = 0.02  # of its memory
_ANSWER = 2.0  # s
_STILL = 2.0  # s
# A slow learner: when its process stands still it is in the middle of a step, so that it answers before it reads.
_ONE = ("--episode-seconds", "300", "--hidden", "256")
_TWO = (*RANKS, "--episode-seconds", "300", "--stall-limit", "60")


@dataclass(frozen=True)
class Settings:
    """For how many s nobody reads, as its process stands still, and as it waits for another rank; 0: not tried."""

    stopped: float = 60.0
    blocked: float = 60.0


QUICK = Settings(stopped=0.0, blocked=6.0)


@dataclass(frozen=True)
class Look:
    """What the processes of a run had used by a moment (monotonic s): processor time in s, resident memory in bytes."""

    at: float
    cpu: dict[int, float]
    memory: dict[int, int]


@dataclass
class Watch:
    """Looks at a process and its descendants; ``names`` are those of its collectors and SUMOs."""

    parent: int
    names: dict[int, str]
    looks: list[Look] = field(default_factory=list)

    def look(self) -> None:
        """See what everybody has used by now."""
        top = psutil.Process(self.parent)
        memory = {one.pid: one.memory_info().rss for one in (top, *top.children(recursive=True))}
        cpu = {pid: sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.names}
        self.looks.append(Look(time.monotonic(), cpu, memory))


class Starved:
    """Whether nothing has been left to do for ``_STILL`` s, asked of one status after another.

    One look is not enough: a learner may be between its last step and the batch that it reads before it waits.
    """

    def __init__(self) -> None:
        self._decisions, self._since = -1, math.inf  # monotonic s

    def __call__(self, status: Status) -> bool:
        own = [row["state"] for row in status["collectors"] if row["envs"]]
        now = time.monotonic()
        if status["queue"]["ready"] < SLOTS or set(own) != {"waiting"} or status["decisions"] != self._decisions:
            self._decisions, self._since = status["decisions"], now
        return now - self._since >= _STILL


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Stop a run's learner, first with its process, then alone, and see what the others do."""
    result = Result(
        f"the learner's process stands still for {settings.stopped:g} s (SIGSTOP); one of two ranks stands still for "
        f"{settings.blocked:g} s, so that the learner of the other one is blocked, and nothing else of it",
        f"{shown(*_ONE)}, with a learner that is slow, so that it is in the middle of a step when it is stopped, and "
        f"the queue can be seen before it reads again. Then `torchrun --nproc-per-node 2` with {shown(*_TWO)}; ranks "
        "wait for each other for twice the stall limit.",
    )
    if settings.stopped:
        with noting(result, "the learner's process stood still: the run lives through it"):
            _stop(settings.stopped, folder / "stopped", result)
    with noting(result, "the learner was blocked: the run lives through it"):
        _block(settings.blocked, folder / "blocked", result)
    return result


def _stop(seconds: float, folder: Path, result: Result) -> None:
    """Stop the process of a run, and let it go on."""
    with start(folder, *_ONE) as run:
        watch = _watch(run.process.pid, learns(run))
        os.kill(run.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        _keep_looking(watch, seconds)
        watch.looks = [look for look in watch.looks if look.at - began >= seconds / 2]  # until then they may fill slots
        status, took = _first_answer(run)
        _judge(result, watch, "process stopped")
        queue = status["queue"]
        result.check("process stopped: the queue is full when it goes on, all slots", queue["ready"] == SLOTS, queue)
        result.check(
            f"process stopped: then it answers within {_ANSWER:g} s", took < _ANSWER, f"{took:.2f} s", timed=True
        )
        learns(run)
        check_books(run, result)
        ends_well(run, result)


def _block(seconds: float, folder: Path, result: Result) -> None:
    """Stop one of two ranks: the learner of the other waits in an all-reduce, and its pool goes on."""
    with start(folder, *_TWO, program=TORCHRUN, environment=SINGLE_THREAD) as run:
        learns(run)
        parent, other = rank_of(run, 0), rank_of(run, 1)
        other.suspend()
        status = wait_until(run, Starved(), "a full queue, all slots, and collectors that wait")
        watch = _watch(parent.pid, status)
        took, least = 0.0, SLOTS

        def question() -> None:
            nonlocal took, least
            began = time.monotonic()
            least = min(least, ask(run, "status")["queue"]["ready"])
            took = max(took, time.monotonic() - began)

        _keep_looking(watch, seconds, question)
        version = ask(run, "status")["version"]
        other.resume()
        _judge(result, watch, "learner blocked")
        full = least == SLOTS and version == status["version"]
        result.check(
            "learner blocked: the queue is full all the while, all slots", full, f"{least} of {SLOTS} at least"
        )
        result.check(
            f"learner blocked: status is answered within {_ANSWER:g} s", took < _ANSWER, f"{took:.2f} s", timed=True
        )
        learns(run)
        check_books(run, result)
        ends_well(run, result)


def _watch(parent: int, status: Status) -> Watch:
    return Watch(parent, {pid: kind for kind, found in pids(status).items() for pid in found})


def _keep_looking(watch: Watch, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Look every second."""
    end = time.monotonic() + seconds
    watch.look()
    while time.monotonic() < end:
        time.sleep(1.0)
        meanwhile()
        watch.look()


def _first_answer(run: TrainRun) -> tuple[Status, float]:
    """Let a process go on that stands; returns the first status that it gives, and after how many s."""
    answers: list[Status | Exception] = []

    def first() -> None:
        try:
            answers.append(ask(run, "status"))
        except (ControlError, NoRunError) as error:
            answers.append(error)

    asking = threading.Thread(target=first)
    asking.start()  # its question is there before anybody can answer
    asking.join(0.2)
    began = time.monotonic()
    os.kill(run.process.pid, signal.SIGCONT)
    asking.join()
    answer = answers[0]
    if isinstance(answer, Exception):
        raise answer
    return answer, time.monotonic() - began


def _judge(result: Result, watch: Watch, whose: str) -> None:
    """Note what must hold for those who wait."""
    first, last, names = watch.looks[0], watch.looks[-1], watch.names
    wall = last.at - first.at
    shares = {pid: (last.cpu[pid] - first.cpu[pid]) / wall for pid in names}
    busiest = max(shares, key=lambda pid: shares[pid])
    what = f"{whose}: collectors and SUMOs wait, below {_BUSY:.0%} of a core each for {wall:.0f} s"
    result.check(what, shares[busiest] < _BUSY, f"the busiest is a {names[busiest]} with {shares[busiest]:.2%}")
    same = first.memory.keys() == last.memory.keys()
    growth = {pid: last.memory.get(pid, 0) / size - 1 for pid, size in first.memory.items()}
    most = max(growth, key=lambda pid: growth[pid])
    who = "parent" if most == watch.parent else names.get(most, "helper")
    seen = f"{len(growth)} processes, the most: {growth[most]:+.2%} ({who})"
    result.check(f"{whose}: nobody ends, and nobody grows by more than 2 %", same and growth[most] < _GROWTH, seen)
    total = [[look.at - first.at, sum(look.memory.values()) / 2**20] for look in watch.looks]
    result.series[f"{whose}: resident memory of all processes in MiB"] = total
    result.figures[f"{whose}: resident memory of all processes in MiB, at first and at last"] = [
        round(total[0][1]),
        round(total[-1][1]),
    ]
    result.figures[f"{whose}: busiest share of a core"] = round(shares[busiest], 5)
