"""A pool of processes: starts collectors, watches over them, pauses and stops them."""

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
from typing import Any

from buffers.children import FOR_THE_PARENT
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Board
from collectors.errors import CollectorError
from collectors.plan import CollectionPlan
from collectors.pool import check_numbers, describe, share_out
from collectors.worker import Order, Report, run_collector

_START_LIMIT = 60.0  # s for one simulation, and at least this much also where --stall-limit is short
_FORKSERVER_PRELOAD = ["collectors.preload"]


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
        stall_limit: float = 60.0,
    ) -> None:
        self.board = Board(num_collectors)
        self._plan = plan
        self._slots = slots
        self._weights = weights
        self._stall_limit = stall_limit
        self._shares = share_out(slots.num_envs, num_collectors)
        self._members: list[_Member] = []
        self._lock = threading.RLock()
        self._closed = False
        start_forkserver()

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        # A collector starts its simulations one after the other; each may take as long as a sign of life may.
        limit = max(_START_LIMIT, self._stall_limit) * max(map(len, self._shares))
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
            for number, report in self._await(range(len(self._members)), "started", limit).items():
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
                raise CollectorError(
                    f"collector {names} has not {what} within {limit:g} s; --stall-limit is {self._stall_limit:g} s"
                )
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
