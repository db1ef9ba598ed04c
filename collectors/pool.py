"""The pool: starts collectors, watches over them, pauses and stops them."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from buffers.children import FOR_THE_PARENT
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board
from collectors.collector import Collector
from collectors.errors import CollectorError
from collectors.plan import CollectionPlan
from collectors.worker import Order, Report, run_collector

_FORKSERVER_PRELOAD = ["collectors.worker"]  # torch, SUMO's clients and our rooms, imported once for all collectors
_NAP = 0.2  # s that a paused serial pool waits before it lets its caller look around


class Pool(Protocol):
    """Collectors at work, in processes of their own or in this one."""

    board: Board

    def start(self) -> None:
        """Start collecting; returns when every collector has its simulations. Raises ``CollectorError``."""

    def check(self) -> None:
        """Raise ``CollectorError`` when a collector has failed, died, or shows no sign of life."""

    def pause(self, collectors: Sequence[int] | None = None) -> None:
        """Stop some collectors, or all, before their next decision; returns when they stand."""

    def resume(self, collectors: Sequence[int] | None = None) -> None:
        """Let some collectors, or all, go on where they stand."""

    def status(self) -> dict[str, Any]:
        """What every collector is doing."""

    def close(self, timeout: float = 10.0) -> None:
        """End everything within ``timeout`` s, by force where asking does not help; closing twice is fine."""

    work: Callable[[], None] | None  # what collects in serial mode; None where collectors do it themselves


def share_out(num_envs: int, num_collectors: int) -> list[list[int]]:
    """Which envs each collector drives: as even as can be, neighbours apart."""
    return [list(range(collector, num_envs, num_collectors)) for collector in range(num_collectors)]


def start_forkserver() -> None:
    """Start the process that collectors and loader workers come from, deaf to the signals that are for this one.

    Children inherit blocked signals, so that there is no moment at which one of them could be hit.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(_FORKSERVER_PRELOAD)
    resource_tracker.ensure_running()  # its start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass
class _Member:
    """A collector process as the pool sees it."""

    envs: list[int]
    process: BaseProcess
    orders: Connection
    sumo_pids: list[int]
    paused: bool = False


class ProcessPool:
    """Collectors in processes of their own, started from a forkserver that has imported torch once.

    Every collector has its own connection for orders and reports; what they share needs no lock (``buffers.slots``).
    Methods may be called from several threads.
    """

    work: Callable[[], None] | None = None

    def __init__(
        self,
        plan: CollectionPlan,
        num_collectors: int,
        slots: Slots,
        weights: WeightsChannel,
        *,
        start_limit: float = 120.0,
        stall_limit: float = 60.0,
    ) -> None:
        self.board = Board(num_collectors)
        self._plan = plan
        self._slots = slots
        self._weights = weights
        self._start_limit = start_limit
        self._stall_limit = stall_limit
        self._shares = share_out(slots.num_envs, num_collectors)
        self._members: list[_Member] = []
        self._lock = threading.RLock()
        self._closed = False
        start_forkserver()

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        with self._lock:
            for number, envs in enumerate(self._shares):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=run_collector,
                    args=(self._plan, number, envs, self._slots, self._weights, self.board, theirs),
                    name=f"collector-{number}",
                    daemon=True,
                )
                process.start()
                theirs.close()
                self._members.append(_Member(envs, process, ours, []))
            for number, report in self._await(range(len(self._members)), "started", self._start_limit).items():
                self._members[number].sumo_pids = report.details

    def check(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # a pause or resume is under way, and looks at the same things
        try:
            for number, member in enumerate(self._members):
                while member.orders.poll():
                    self._expect(number, None)
                if not member.process.is_alive():
                    raise self._death(number)
                silent = time.monotonic() - float(self.board.rows[number]["heartbeat"])
                if silent > self._stall_limit:
                    raise CollectorError(
                        f"collector {number} (process {member.process.pid}) has shown no sign of life for "
                        f"{silent:.0f} s; --stall-limit is {self._stall_limit:g} s"
                    )
        finally:
            self._lock.release()

    def pause(self, collectors: Sequence[int] | None = None) -> None:
        self._order("pause", "paused", collectors)

    def resume(self, collectors: Sequence[int] | None = None) -> None:
        self._order("resume", "resumed", collectors)

    def _order(self, order: Any, answer: str, collectors: Sequence[int] | None) -> None:
        with self._lock:
            chosen = check_numbers(collectors, len(self._members))
            for number in chosen:
                try:
                    self._members[number].orders.send(Order(order))
                except OSError as error:
                    raise self._death(number) from error
            self._await(chosen, answer, self._stall_limit)
            for number in chosen:
                self._members[number].paused = answer == "paused"

    def _await(self, numbers: Iterable[int], what: str, limit: float) -> dict[int, Report]:
        """Wait until all of these collectors have reported ``what``; bounded by ``limit`` s."""
        deadline = time.monotonic() + limit
        missing = set(numbers)
        reports: dict[int, Report] = {}
        while missing:
            connections = {self._members[number].orders: number for number in missing}
            ready = wait(list(connections), timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                names = ", ".join(map(str, sorted(missing)))
                raise CollectorError(f"collector {names} has not {what} within {limit:g} s")
            for connection in ready:
                number = connections[connection]  # type: ignore[index]
                reports[number] = self._expect(number, what)
                missing.discard(number)
        return reports

    def _expect(self, number: int, what: str | None) -> Report:
        """The next report of a collector; raises ``CollectorError`` when it is that it failed, or another one."""
        try:
            report: Report = self._members[number].orders.recv()
        except (EOFError, OSError) as error:
            raise self._death(number) from error
        if report.what == "failed":
            raise CollectorError(f"collector {number} failed:\n{report.details}")
        if report.what != what:
            raise CollectorError(f"collector {number} reports {report.what!r} where {what!r} was expected")
        return report

    def _death(self, number: int) -> CollectorError:
        """Why a collector is no more: its own traceback, or how it ended."""
        member = self._members[number]
        try:
            while member.orders.poll():
                report: Report = member.orders.recv()
                if report.what == "failed":
                    return CollectorError(f"collector {number} failed:\n{report.details}")
        except (EOFError, OSError):
            pass  # it said no more
        member.process.join(1.0)
        return CollectorError(
            f"collector {number} (process {member.process.pid}) died with exit code {member.process.exitcode} "
            "and left no traceback: it was killed, or the machine ran out of memory"
        )

    def status(self) -> dict[str, Any]:
        with self._lock:
            members = [
                {"pid": member.process.pid, "sumo": member.sumo_pids, "envs": member.envs} for member in self._members
            ]
            return describe(self.board, self._slots, self._weights, members)

    def close(self, timeout: float = 10.0) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + timeout
        with self._lock:
            for member in self._members:
                with contextlib.suppress(OSError):  # it is gone already
                    member.orders.send(Order("stop"))
            for member in self._members:
                member.process.join(max(0.0, deadline - time.monotonic()))
                if member.process.is_alive():
                    member.process.kill()  # SUMO goes with it
                    member.process.join()
                member.orders.close()
            self._slots.end()
            self.board.close()


class SerialPool:
    """All envs in this very process, one collector, no concurrency: reproducible to the bit.

    ``work`` makes one decision of every env; whoever wants experience calls it until there is some.
    """

    def __init__(self, plan: CollectionPlan, slots: Slots, weights: WeightsChannel) -> None:
        self.board = Board(1)
        self._plan = plan
        self._slots = slots
        self._weights = weights
        self._collector: Collector | None = None
        self._may_go = threading.Event()
        self._may_go.set()
        self._deciding = threading.Lock()  # held during a decision: who pauses waits for its end
        self.work: Callable[[], None] | None = self._work

    def start(self) -> None:
        envs = range(self._slots.num_envs)
        self._collector = Collector(self._plan, 0, envs, self._slots, self._weights, self.board)

    def check(self) -> None:
        """Nothing to do: what goes wrong is raised where it happens."""

    def _work(self) -> None:
        if self._may_go.wait(timeout=_NAP):
            with self._deciding:
                if self._may_go.is_set() and self._collector is not None:
                    self._collector.round()

    def pause(self, collectors: Sequence[int] | None = None) -> None:
        check_numbers(collectors, 1)
        self._may_go.clear()
        self._show(Activity.PAUSED)

    def resume(self, collectors: Sequence[int] | None = None) -> None:
        check_numbers(collectors, 1)
        self._show(Activity.RUNNING)
        self._may_go.set()

    def _show(self, activity: Activity) -> None:
        """Wait for the end of the present decision, then say so on the board."""
        with self._deciding:
            if self._collector is not None:
                self._collector.rest(activity)

    def status(self) -> dict[str, Any]:
        collector = self._collector
        member = {
            "pid": multiprocessing.current_process().pid,
            "sumo": collector.sumo_pids if collector is not None else [],
            "envs": list(collector.envs) if collector is not None else [],
        }
        return describe(self.board, self._slots, self._weights, [member])

    def close(self, timeout: float = 10.0) -> None:
        if self._collector is not None:
            self._collector.close()
            self._collector = None
            self._slots.end()
            self.board.close()


def check_numbers(collectors: Sequence[int] | None, count: int) -> list[int]:
    """The collectors meant, all of them by default; raises ``ValueError`` for one that does not exist."""
    if collectors is None:
        return list(range(count))
    for number in collectors:
        if not isinstance(number, int) or not 0 <= number < count:
            raise ValueError(f"collector {number!r}: this run has collectors 0 to {count - 1}")
    return sorted(set(collectors))


def describe(board: Board, slots: Slots, weights: WeightsChannel, members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A pool in numbers: totals, the queue, and a row per collector."""
    rows = board.rows.copy()
    activities = [Activity(int(row["activity"])).name.lower() for row in rows]
    return {
        "state": "paused" if set(activities) == {"paused"} else "running",
        "decisions": int(rows["decisions"].sum()),
        "episodes": int(rows["episodes"].sum()),
        "simulated_seconds": float(rows["seconds"].sum()),
        "version": weights.version,
        "queue": slots.counts(),
        "collectors": [
            {
                "collector": number,
                **member,
                "state": activity,
                "decisions": int(row["decisions"]),
                "episodes": int(row["episodes"]),
                "version": int(row["version"]),
            }
            for number, (member, activity, row) in enumerate(zip(members, activities, rows, strict=False))
        ],
    }
