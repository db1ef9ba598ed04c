"""A pool of processes: starts collectors, watches over them, replaces them, pauses, resizes and stops them."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from buffers.children import kill_forkserver, start_child, start_forkserver, why_not_started, without_main
from buffers.shared import Descriptor
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Board, Wish
from collectors.errors import CollectorError
from collectors.holds import REQUEST
from collectors.member import GLANCE, Member, patience
from collectors.plan import CollectionPlan
from collectors.pool import ANSWER, NEWS, check_numbers, describe, refuse_when, resize
from collectors.worker import FAILED, GIVEN_UP, run_collector

START_LIMIT = 60.0  # s for one simulation to load its network; --stall-limit where that is longer
_PRELOAD = ["collectors.preload"]
_SUMO_SHARE = 0.8  # of the pool's patience
_CALLS = 3  # of those under way, that are quoted when a collector hangs


def sumo_limits(stall_limit: float) -> dict[str, float]:
    """Settings of ``envs.Simulation`` with which a SUMO that hangs is replaced by its collector, not with it."""
    return {
        "step_limit": _SUMO_SHARE * patience(stall_limit),
        "start_limit": _SUMO_SHARE * patience(max(START_LIMIT, stall_limit)),
    }


def prepare(*modules: str) -> None:
    """Have the process that collectors are forked from load what they need, and these modules, while others go on.

    Raises ``CollectorError`` where the machine does not let us have it.
    """
    try:
        start_forkserver([*_PRELOAD, *modules])
    except OSError as error:  # no room in the folder for temporary files, for example
        raise CollectorError(f"the process that collectors are forked from cannot be started: {error}") from error


class ProcessPool:
    """Collectors in processes of their own, started from a forkserver that has imported our rooms once.

    A thread of this process watches over them: it is woken when one ends or has obeyed, and looks at all of them now
    and then. What they share needs no lock (``buffers.slots``, ``collectors.board``), so that any of them can be
    killed at any instant. A collector that dies is replaced after a growing delay: what it announced is kept, what it
    was writing is dropped. One that shows no sign of life is killed by the time that has lasted for ``stall_limit`` s;
    while SUMO loads, for ``START_LIMIT`` where that is longer. ``check`` raises when one has failed more than
    ``plan.restart_limit`` times without an episode that ended in between.

    Methods may be called from several threads. The constructor raises ``CollectorError`` where the machine does not let
    it have a process to fork from.
    """

    work: Callable[[], None] | None = None

    def __init__(
        self, plan: CollectionPlan, slots: Slots, weights: WeightsChannel, num_envs: int, *, stall_limit: float = 30.0
    ) -> None:
        self.board = Board(slots.collectors, num_envs, slots.capacity, plan.first_episode)
        self._plan = plan
        self._slots = slots
        self._weights = weights
        self._stall_limit = stall_limit
        self._members = [
            Member(number, self._launch, self.board, plan.restart_limit) for number in range(slots.collectors)
        ]
        self._news: deque[str] = deque(maxlen=NEWS)
        self._failure: Exception | None = None
        self._changed = threading.Condition()  # its lock guards the members
        self._closing = False
        self._started = False
        self._watch = threading.Thread(target=self._keep_watch, name="pool", daemon=True)
        self._context = multiprocessing.get_context("forkserver")
        prepare()

    def _launch(self, number: int, words: Descriptor) -> BaseProcess:
        slots = self._slots.for_collector(number)
        server = start_forkserver(_PRELOAD)  # it may have been killed itself
        process = self._context.Process(
            target=run_collector,
            args=(self._plan, number, slots, self._weights, self.board, words, server),
            name=f"collector-{number}",
            daemon=True,
        )
        with without_main():
            start_child(process, server)
        return process

    def start(self, on_wait: Callable[[], object] | None = None) -> None:
        with self._changed:
            for member in self._members:
                self._order(member)
        self._watch.start()
        while not self._await(self._all_work, GLANCE):
            self.check()
            if on_wait is not None:
                on_wait()
        self.check()
        self._started = True

    @property
    def _start_limit(self) -> float:
        return max(START_LIMIT, self._stall_limit)

    def _all_work(self) -> bool:
        return all(member.is_up for member in self._busy())

    def _busy(self) -> list[Member]:
        """The members that have envs to drive."""
        return self._members[: self.board.num_envs]

    # Watching

    def _keep_watch(self) -> None:
        """Look after all collectors until the end; what goes wrong with that is for ``check`` to raise."""
        before = time.monotonic()
        try:
            while not self._closing:
                now = time.monotonic()
                with self._changed:
                    for member in self._members:
                        self._look_after(member, min(now - before, 2 * GLANCE))
                    self._tidy()
                    self._changed.notify_all()
                before = now
                # What follows may take a while, and nobody who asks for something has to wait for it.
                for member in self._members:
                    if self._is_due(member):
                        self._start_member(member)
                ends = {member.pidfd: member for member in self._members if member.pidfd is not None}
                for ready in wait([self.board.bell.fileno(), *ends], GLANCE):
                    if ready in ends:
                        ends[ready].await_code()
                self.board.bell.answer()
        except Exception:  # noqa: BLE001 - the learner must not wait for a pool that nobody looks after
            if not self._closing:
                self._fail(CollectorError(f"the watch over the collectors has failed:\n{traceback.format_exc()}"))

    def _start_member(self, member: Member) -> None:
        """Start a collector, or take note that the machine does not let us, which may pass."""
        try:
            member.start()
        except (OSError, EOFError, RuntimeError) as error:  # no memory, no process, no thread, no forkserver
            with self._changed:
                self._set_back(member, f"collector {member.number} could not be started", why_not_started(error))
        if self._closing:  # and may be waiting for it no more
            member.kill()

    def _look_after(self, member: Member, passed: float) -> None:
        """Whatever a collector needs now: an end, a beginning, another order; ``passed`` is s since the last look."""
        if self._closing:
            return
        if member.holds.expire():
            self._order(member)
        if member.has_ended:
            self._bury(member)
        if member.process is None:
            return
        member.execute()
        member.note_progress()
        if member.is_up and not member.is_condemned:  # else it is about to say where it hangs
            for line in member.take_words().splitlines():
                self._tell(member, f"collector {member.number}: {line}")
        limit = max(self._stall_limit, min(self._start_limit, member.loading))
        if member.silent_for(passed) > patience(limit):
            member.condemn()

    def _is_due(self, member: Member) -> bool:
        """Whether a collector is to be started now."""
        wanted = member.number < self.board.num_envs and not self._closing and self._failure is None
        return wanted and member.process is None and time.monotonic() >= member.due

    def _bury(self, member: Member) -> None:
        """A collector has ended: tidy up after it, and see when the next one is due."""
        condemned, pid = member.is_condemned, member.pid
        member.note_progress()
        code = member.bury()
        for env in range(member.number, self._slots.capacity, len(self._members)):
            record = self.board.envs[env]
            record["fragments"] = self._slots.recover(env, int(record["fragments"]))
            record["sumo"] = 0
        if code == 0 or self.board.ordered(member.number)[1] is Wish.STOP:  # as told; it may be wanted again by now
            member.due = 0.0
            return
        words = member.take_words()
        if condemned:
            what = "showed no sign of life (--stall-limit) and was killed"
        elif words and code in (FAILED, GIVEN_UP):
            what = "failed"
        else:
            what = f"died ({_ending(code)})"
        title = f"collector {member.number} (process {pid}) {what}"
        never_worked = not self._started and not self.board.rows[member.number]["decisions"]
        if code == GIVEN_UP or (code == FAILED and never_worked):
            self._fail(CollectorError(f"{title}:\n{words}"))
        else:
            self._set_back(member, title, words)

    def _set_back(self, member: Member, title: str, words: str) -> None:
        """Try again later what has failed, or give up; ``words`` are what it said about it."""
        delay = member.setbacks.add()
        if delay is None:
            self._fail(
                CollectorError(
                    f"{title}, as {member.setbacks.in_a_row - 1} times before with no episode ended in between; "
                    f"--restart-limit is {self._plan.restart_limit}:\n{words or 'it left no word'}"
                )
            )
            return
        member.due = time.monotonic() + delay
        said = f": {_gist(words)}" if words else ""
        self._tell(member, f"{title}; the next one starts in {delay:g} s{said}")

    def _tidy(self) -> None:
        """Take the slots of envs away that are wanted no more, once their fragments have been read."""
        for env in range(self.board.num_envs, self._slots.capacity):
            member = self._members[env % len(self._members)]
            if member.process is None or self.board.has_obeyed(member.number):
                self._slots.strip(env)

    def _tell(self, member: Member, line: str) -> None:
        """Something has gone wrong with a collector that is being mended."""
        member.trouble = line
        self._news.append(line)

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def news(self) -> list[str]:
        lines = []
        while self._news:
            lines.append(self._news.popleft())
        return lines

    # Steering

    def pause(self, collectors: Sequence[int] | None = None, seconds: float | None = None, why: str = REQUEST) -> None:
        self._hold(collectors, lambda member: member.holds.put(why, seconds))

    def resume(self, collectors: Sequence[int] | None = None, why: str = REQUEST) -> None:
        self._hold(collectors, lambda member: member.holds.lift(why))

    def _hold(self, collectors: Sequence[int] | None, change: Callable[[Member], None]) -> None:
        with self._changed:
            refuse_when(self._closing)
            chosen = [self._members[number] for number in check_numbers(collectors, len(self._members))]
            for member in chosen:
                change(member)
                self._order(member)
        self._await(lambda: self._have_obeyed(chosen), ANSWER)

    def scale(self, num_envs: int) -> None:
        with self._changed:
            refuse_when(self._closing)
            resize(self.board, self._slots, num_envs)
            for member in self._members:
                self._order(member)
        self._await(lambda: self._have_obeyed(self._members), ANSWER)

    def _order(self, member: Member) -> None:
        """Tell a collector what is wanted of it now; one that is not there yet will read it."""
        wanted = member.number < self.board.num_envs and not self._closing
        self.board.order(member.number, Wish.STOP if not wanted else Wish.PAUSE if member.holds else Wish.RUN)
        self._slots.doorbell(member.number).ring()
        self.board.bell.ring()

    def _have_obeyed(self, members: Sequence[Member]) -> bool:
        """Whether these stand as they were told; one whose process starts will, before it decides anything."""
        return all(not member.is_up or self.board.has_obeyed(member.number) for member in members)

    def _await(self, condition: Callable[[], bool], limit: float) -> bool:
        """Wait until a condition on the members holds, or for ``limit`` s."""
        with self._changed:
            return self._changed.wait_for(lambda: self._failure is not None or condition(), limit)

    def status(self) -> dict[str, Any]:
        with self._changed:
            members = []
            for member in self._members:
                row: dict[str, Any] = {
                    "pid": member.pid,
                    "restarts": member.setbacks.total,
                    "trouble": member.trouble,
                }
                if member.holds:
                    row["paused_for"] = member.holds.reasons()
                if member.process is None and member.number < self.board.num_envs and not self._closing:
                    row["state"] = "recovering" if member.setbacks.total else "starting"
                members.append(row)
            return describe(self.board, self._slots, self._weights, members)

    def close(self, timeout: float = 10.0) -> None:
        with self._changed:
            if self._closing:
                return
            self._closing = True
            for member in self._members:
                self._order(member)
        deadline = time.monotonic() + timeout
        if self._watch.ident is not None:
            self._end_watch(timeout / 2)
        for member in self._members:
            if not member.is_up:  # it holds nothing that is worth a farewell, and SUMO may take long to load
                member.kill()
        for limit in (deadline - time.monotonic(), 1.0):
            self._await_ends(limit)
            for member in self._members:
                member.kill()  # SUMO goes with it
        for member in self._members:
            member.close()
        self._slots.end()
        self.board.close()

    def _end_watch(self, limit: float) -> None:
        """Wait for the watch, which may itself wait for the forkserver to start a collector."""
        self._watch.join(limit)
        if self._watch.is_alive():
            kill_forkserver()
            self._watch.join(1.0)

    def _await_ends(self, limit: float) -> None:
        """Bury the collectors that end within ``limit`` s."""
        deadline = time.monotonic() + limit
        while left := [member for member in self._members if member.pidfd is not None]:
            ended = wait([member.pidfd for member in left], max(0.0, deadline - time.monotonic()))  # type: ignore[misc]
            if not ended:
                return
            for member in left:
                if member.pidfd in ended:
                    member.bury()


def _gist(words: str) -> str:
    """What a collector said, in one line: the innermost calls of its stack, or else the error that it ended with."""
    lines = words.splitlines()
    if "(most recent call first)" not in words:
        return lines[-1]
    return " < ".join([line.strip() for line in lines if line.lstrip().startswith("File ")][:_CALLS])


def _ending(code: int | None) -> str:
    """How a process ended, by its exit code."""
    if code is None or code == 255:  # nobody is left who could tell
        return "with the process that it was forked from"
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, or the machine ran out of memory" if name == "SIGKILL" else name
