"""A pool without processes: all envs in the learner's own, one decision after the other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board
from collectors.collector import Collector
from collectors.plan import CollectionPlan
from collectors.pool import check_numbers, describe

_NAP = 0.2  # s that a paused serial pool waits before it lets its caller look around


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
            "pid": os.getpid(),
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
