"""A collector: several envs, one policy copy, decision after decision."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from buffers.fragments import Decision
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board
from collectors.driver import EnvDriver
from collectors.plan import CollectionPlan
from envs.simulation import Simulation
from graph.acting import Actor
from graph.topology import Topology


class Collector:
    """Collects experience with some envs of a pool, in whatever process it lives.

    All its envs act with one forward pass, so that they share one version of the weights. New weights are read when
    ``fragment_length`` decisions have been made with the present ones; fragments that are open then end there: one
    fragment, one version.
    """

    def __init__(
        self,
        plan: CollectionPlan,
        number: int,
        envs: Sequence[int],
        slots: Slots,
        weights: WeightsChannel,
        board: Board,
        incarnation: int = 0,
    ) -> None:
        self.envs = tuple(envs)
        self._plan = plan
        self._slots = slots
        self._weights = weights
        self._row = board.row(number)
        self._row["activity"] = Activity.STARTING
        self._beat()
        self._actor = Actor(Topology.of(plan.network), plan.shape, plan.radius)
        self._version = 0
        self._left = 0  # decisions until new weights are read
        self._drivers: list[EnvDriver] = []
        try:
            for env in envs:
                self._drivers.append(EnvDriver(plan, env, slots, self._simulation(), incarnation))
                self._beat()
        except BaseException:
            self.close()
            raise

    def _simulation(self) -> Simulation:
        plan = self._plan
        return Simulation(
            plan.scenario, plan.backend, network=plan.network, extra_options=plan.extra_options, **plan.simulation
        )

    @property
    def sumo_pids(self) -> list[int]:
        """Process ids of its SUMOs; none with libsumo."""
        return [pid for driver in self._drivers for pid in driver.sumo_pids]

    def round(self) -> bool:
        """One decision of every env that has a slot to write into; False where none has."""
        if self._left == 0:
            self._renew()
        acting = [driver for driver in self._drivers if self._is_ready(driver)]
        self._beat(Activity.RUNNING if acting else Activity.WAITING)
        if not acting:
            self._left = 0  # nothing is open: whenever it goes on, it may as well be with the newest weights
            return False
        actions, log_probs = self._actor.act(
            [driver.env for driver in acting],
            [driver.frame for driver in acting],
            [driver.generator for driver in acting],
        )
        # All simulations run while the first reply is awaited.
        for driver, chosen in zip(acting, actions, strict=True):
            driver.send(chosen)
        for driver, chosen, log_prob in zip(acting, actions, log_probs, strict=True):
            self._conclude(driver, chosen, log_prob)
        self._left -= 1
        return True

    def _is_ready(self, driver: EnvDriver) -> bool:
        """Whether an env has a slot to write into; a decision that is still unwritten may end its episode here."""
        episode = driver.episode
        ready = driver.open(self._version)
        self._count_episode(driver, episode)
        return ready

    def _conclude(self, driver: EnvDriver, actions: NDArray[np.int16], log_probs: NDArray[np.float32]) -> None:
        """Receive and write down what came of one env's decision."""
        before = driver.frame.time
        outcome = driver.receive()
        self._row["decisions"] += 1
        self._row["seconds"] += outcome.frame.time - before
        episode = driver.episode
        driver.record(Decision(actions, log_probs, outcome.rewards, outcome.costs), outcome, self._version)
        self._count_episode(driver, episode)

    def _count_episode(self, driver: EnvDriver, before: int) -> None:
        """Take note of it when an env is in another episode than ``before``."""
        if driver.episode != before:
            self._row["episodes"] += 1
            self._actor.forget(driver.env)

    def _renew(self) -> None:
        """End all open fragments and read the newest weights."""
        for driver in self._drivers:
            driver.cut()
        if self._weights.version != self._version:
            vector, self._version = self._weights.read()
            self._actor.policy.load(vector)
            self._row["version"] = self._version
        self._left = self._plan.fragment_length

    def _beat(self, activity: Activity | None = None) -> None:
        """Show a sign of life."""
        self._row["heartbeat"] = time.monotonic()
        if activity is not None:
            self._row["activity"] = activity

    def rest(self, activity: Activity) -> None:
        """Show that it does nothing, and why."""
        self._beat(activity)

    def doorbells(self) -> list[int]:
        """Descriptors that become readable when a slot of one of its envs becomes free."""
        return [self._slots.doorbell(env).fileno() for env in self.envs]

    def answer_doorbells(self) -> None:
        """Take note of the slots that became free so far; to be called before looking for one."""
        for env in self.envs:
            self._slots.doorbell(env).answer()

    def close(self) -> None:
        """End all simulations; closing twice is fine."""
        for driver in self._drivers:
            driver.close()
        self._row["activity"] = Activity.STOPPED
