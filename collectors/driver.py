"""One env and the fragment that it is writing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffers.fragments import Decision, FragmentWriter
from buffers.slots import Slots
from collectors.plan import CollectionPlan
from envs.signals import Frame
from envs.simulation import Outcome, Simulation


class EnvDriver:
    """Runs the episodes of one env and writes them down as fragments.

    A fragment ends with its episode, when it is full, when the next frame does not fit any more, or when ``cut`` says
    so. Whatever ends it, the next one begins with the frame that the last one ended with, or with a new episode.

    ``record`` is the env's row on the board: a driver goes on counting where the one before it died, with an episode
    of its own. Whatever raises ``SumoError`` is the end of the driver: ``abandon`` it. ``loading`` is entered while
    SUMO loads an episode, which may take longer than a decision.
    """

    def __init__(
        self,
        plan: CollectionPlan,
        env: int,
        slots: Slots,
        simulation: Simulation,
        record: Any,
        loading: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.env = env
        self._loading = loading
        self._plan = plan
        self._slots = slots
        self._simulation = simulation
        self._record = record
        self._views: dict[int, dict[str, Any]] = {}
        self._slot: int | None = None
        self._writer: FragmentWriter | None = None
        # A decision whose successor did not fit into its slot, and the version that made it: goes into the next one.
        self._unwritten: tuple[Decision, Outcome, int] | None = None
        self.frame: Frame
        self.generator: np.random.Generator
        self.begin_episode()

    def begin_episode(self) -> None:
        """Reset the simulation with the next episode's own seed."""
        self.episode = int(self._record["episode"]) + 1
        self._record["episode"] = self.episode  # before the reset: an episode that was begun is never begun again
        self._decision = 0
        seed, self.generator = self._plan.seeds(self.env, self.episode)
        with self._loading():
            self.frame = self._simulation.reset(seed)
        self._record["sumo"] = next(iter(self.sumo_pids), 0)  # now and then it is another one

    def open(self, version: int) -> bool:
        """Have a slot to write into, for a fragment of this version; False while all slots wait to be read."""
        while self._writer is None:
            slot = self._slots.begin(self.env)
            if slot is None:
                return False
            self._start_fragment(slot, version if self._unwritten is None else self._unwritten[2])
            if self._unwritten is not None:
                decision, outcome, old_version = self._unwritten
                self._unwritten = None
                self.record(decision, outcome, old_version)
                if old_version != version:
                    self.cut()
        return True

    def _start_fragment(self, slot: int, version: int) -> None:
        if slot not in self._views:
            self._views[slot] = self._slots.views(slot)
        self._slot = slot
        env = self._plan.env_number(self.env)
        self._writer = FragmentWriter(
            self._views[slot], env, self.episode, self._decision, version, checked=self._slots.poison
        )
        self._writer.begin(self.frame)

    def send(self, actions: NDArray[np.int16]) -> None:
        """Begin a decision."""
        self._simulation.send(actions)

    def receive(self) -> Outcome:
        """Wait for what came of it."""
        return self._simulation.receive()

    def record(self, decision: Decision, outcome: Outcome, version: int) -> None:
        """Write a decision and its successor down; a new episode begins where the old one ended."""
        assert self._writer is not None, "record() without open()"
        if not self._writer.append(decision, outcome.frame):
            self.cut()
            self._unwritten = (decision, outcome, version)
            return
        self.frame = outcome.frame
        self._decision += 1
        if outcome.terminated or outcome.truncated:
            seconds = outcome.frame.time - self._simulation.scenario.begin
            summary = {**self._simulation.info(), "seconds": seconds}
            self._writer.end_episode(outcome.terminated, outcome.truncated, summary)
            self.cut()
            self.begin_episode()
        elif self._writer.full:
            self.cut()

    def cut(self) -> None:
        """End the fragment here and announce it; nothing happens where it holds no decision yet."""
        if self._writer is None or self._writer.length == 0:
            return
        assert self._slot is not None
        self._writer.close()
        number = int(self._record["fragments"]) + 1
        self._slots.finish(self._slot, number)
        self._record["fragments"] = number
        self._writer = self._slot = None

    def abandon(self) -> None:
        """Throw away what has been written since the last fragment, and end the simulation."""
        if self._slot is not None:
            self._slots.abandon(self._slot)
        self._writer = self._slot = self._unwritten = None
        self.close()

    def check(self) -> None:
        """Raise ``SumoError`` when its SUMO has died while it had nothing to do."""
        self._simulation.session.check()

    @property
    def sumo_pids(self) -> list[int]:
        """The process id of its SUMO; none with libsumo."""
        return self._simulation.session.pids

    def close(self) -> None:
        """End the simulation."""
        self._simulation.close()
