"""A pool without processes: all envs in the learner's own, one decision after the other."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Board, Wish
from collectors.collector import Collector
from collectors.errors import ControlError
from collectors.holds import REQUEST, Holds
from collectors.plan import CollectionPlan
from collectors.pool import ANSWER, NEWS, check_numbers, describe, refuse_when, resize

_NAP = 0.2  # s that a paused serial pool waits before it lets its caller look around


class SerialPool:
    """All envs in this very process, one collector, no concurrency: reproducible to the bit.

    ``work`` makes one decision of every env; whoever wants experience calls it until there is some. The pool is
    steered by orders on its board, as collectors in other processes are.
    """

    def __init__(self, plan: CollectionPlan, slots: Slots, weights: WeightsChannel, num_envs: int) -> None:
        if slots.collectors != 1:
            raise ValueError(f"the slots were made for {slots.collectors} collectors and a serial pool is one")
        self.board = Board(1, num_envs, slots.capacity, plan.first_episode)
        self._plan = plan
        self._slots = slots
        self._weights = weights
        self._collector: Collector | None = None
        self._holds = Holds()
        self._news: deque[str] = deque(maxlen=NEWS)
        self._trouble: str | None = None  # the latest
        self._closed = False
        self._steering = threading.RLock()  # guards orders and holds
        self._obeyed = threading.Condition()
        self._woken = threading.Event()
        self._worker = 0  # the thread that works
        self.work: Callable[[], None] | None = self._work

    def start(self, on_wait: Callable[[], object] | None = None) -> None:
        self._order()
        self._collector = Collector(self._plan, 0, self._slots, self._weights, self.board, self._tell)
        self._worker = threading.get_ident()
        self._collector.obey()

    def _tell(self, line: str) -> None:
        self._trouble = line
        self._news.append(line)

    def check(self) -> None:
        """Nothing to do: what goes wrong is raised where it happens."""

    def news(self) -> list[str]:
        return [self._news.popleft() for _ in range(len(self._news))]

    def _work(self) -> None:
        collector = self._collector
        if collector is None:
            return
        with self._steering:
            if self._holds.expire():
                self._order()
        self._woken.clear()
        self._worker = threading.get_ident()
        wish = collector.obey()
        with self._obeyed:
            self._obeyed.notify_all()
        with self._steering:
            if self.board.has_obeyed(0):  # else an env that is wanted no more may still be driven
                for env in range(self.board.num_envs, self._slots.capacity):
                    self._slots.strip(env)
        if wish is Wish.PAUSE:
            collector.rest()
            self._woken.wait(_NAP)
        elif not collector.round():
            self._woken.wait(min(_NAP, collector.patience()))

    def pause(self, collectors: Sequence[int] | None = None, seconds: float | None = None, why: str = REQUEST) -> None:
        refuse_when(self._closed)
        check_numbers(collectors, 1)
        with self._steering:
            self._holds.put(why, seconds)
            self._order()
        self._await()

    def resume(self, collectors: Sequence[int] | None = None, why: str = REQUEST) -> None:
        refuse_when(self._closed)
        check_numbers(collectors, 1)
        with self._steering:
            self._holds.lift(why)
            self._order()
        self._await()

    def scale(self, num_envs: int) -> None:
        refuse_when(self._closed)
        if self._plan.backend == "libsumo":
            raise ControlError("one process holds one libsumo simulation: start the run with --num-collectors to scale")
        with self._steering:
            resize(self.board, self._slots, num_envs)
            self._order()
        self._await()

    def _order(self) -> None:
        self.board.order(0, Wish.PAUSE if self._holds else Wish.RUN)
        self._woken.set()

    def _await(self) -> None:
        """Wait until the thread that works has followed; it may be learning meanwhile, so not for long."""
        if threading.get_ident() == self._worker and self._collector is not None:
            self._collector.obey()
            return
        with self._obeyed:
            self._obeyed.wait_for(lambda: self.board.has_obeyed(0), ANSWER)

    def status(self) -> dict[str, Any]:
        member: dict[str, Any] = {"pid": os.getpid(), "trouble": self._trouble}
        with self._steering:
            if self._holds:
                member["paused_for"] = self._holds.reasons()
        return describe(self.board, self._slots, self._weights, [member])

    def close(self, timeout: float = 10.0) -> None:
        self._closed = True
        if self._collector is not None:
            self._collector.close()
            self._collector = None
            self._slots.end()
            self.board.close()
