"""A collector: several envs, one policy copy, decision after decision."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from buffers.fragments import Decision
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board, Wish
from collectors.driver import EnvDriver
from collectors.errors import GivenUpError
from collectors.plan import CollectionPlan
from collectors.setbacks import Setbacks
from envs.errors import SumoError
from envs.simulation import Simulation
from graph.acting import Actors
from graph.topology import Topology

_MUCH_LONGER = 10.0  # times as long as loading has taken so far; more than SUMO is given, which is to be replaced first
_REST = 0.25  # s between two signs of life of a collector that has nothing to do


class Collector:
    """Collects experience with its share of a pool's envs, in whatever process it lives.

    Collector c drives the envs c, c + C, c + 2 C, … of C collectors, as far as the board wants them. All of them act
    at once, those of one network with one forward pass, so that they share one version of the weights. New weights are
    read when ``fragment_length`` decisions have been made with the present ones; fragments that are open then end
    there: one fragment, one version.

    An env whose SUMO dies, hangs or refuses loses the fragment in writing and gets another SUMO after a while, with a
    new episode; ``say`` is told, in one line. Raises ``SumoError`` when one fails at the very start, and
    ``GivenUpError`` when one fails more than ``plan.restart_limit`` times without an episode that ends in between.
    """

    def __init__(
        self,
        plan: CollectionPlan,
        number: int,
        slots: Slots,
        weights: WeightsChannel,
        board: Board,
        say: Callable[[str], None] = print,
    ) -> None:
        self._plan = plan
        self._number = number
        self._slots = slots
        self._weights = weights
        self._board = board
        self._say = say
        self._row = board.rows[number]
        self._row["activity"] = Activity.STARTING
        self._beat()
        self._actors = Actors([Topology.of(place.network) for place in plan.places], plan.shape, plan.radius)
        self._version = 0
        self._left = 0  # decisions until new weights are read
        self._drivers: dict[int, EnvDriver] = {}
        self._setbacks: dict[int, Setbacks] = {}
        self._slowest = 0.0  # s that loading has taken at most
        self._due: dict[int, float] = {}  # monotonic s at which a failed env is tried again
        try:
            for env in self._share():
                if board.ordered(number)[1] is Wish.STOP:
                    break
                self._start(env)
        except BaseException:
            self.close()
            raise
        self._row["activity"] = Activity.RUNNING
        board.bell.ring()

    def _share(self) -> range:
        """The envs that are this collector's now."""
        return range(self._number, self._board.num_envs, self._slots.collectors)

    @property
    def sumo_pids(self) -> list[int]:
        """Process ids of its SUMOs; none with libsumo."""
        return [pid for driver in self._drivers.values() for pid in driver.sumo_pids]

    # Orders

    def obey(self) -> Wish:
        """Follow the pool's latest order, between two decisions; returns what it wishes.

        Simulations that are wanted and not there are started, one after the other, and after each of them there may be
        another order: the one that is followed is the newest.
        """
        while True:
            order, wish = self._board.ordered(self._number)
            if wish is not Wish.STOP:
                self._let_go()
                if missing := self._missing():
                    self._try_to_start(missing[0])
                    continue
            if int(self._row["obeyed"]) != order:
                self._beat(Activity.PAUSED if wish is Wish.PAUSE else Activity.RUNNING)
                self._row["obeyed"] = order
                self._board.bell.ring()
            return wish

    def _let_go(self) -> None:
        """End the envs that are this collector's no more."""
        share = self._share()
        for env in [env for env in self._drivers if env not in share]:
            driver = self._drivers.pop(env)
            driver.cut()
            driver.abandon()
            self._board.envs[env]["sumo"] = 0
            self._forget(env)
        for env in [env for env in self._due if env not in share]:
            del self._due[env]

    def _missing(self) -> list[int]:
        """This collector's envs that have no simulation and may be given one now."""
        now = time.monotonic()
        return [env for env in self._share() if env not in self._drivers and self._due.get(env, 0.0) <= now]

    def rest(self) -> None:
        """Show that it stands paused; a SUMO that dies meanwhile is noticed."""
        self._beat(Activity.PAUSED)
        for driver in list(self._drivers.values()):
            try:
                driver.check()
            except SumoError as error:
                self._lose(driver.env, error)

    def patience(self) -> float:
        """Seconds that it may sleep unless it is rung awake."""
        return max(0.0, min([_REST, *(due - time.monotonic() for due in self._due.values())]))

    # Envs

    def _start(self, env: int) -> None:
        """Give an env a simulation; raises ``SumoError``."""
        plan, place = self._plan, self._plan.place(env)
        record = self._board.envs[env]
        with self._loading():
            simulation = Simulation(
                place.scenario, plan.backend, network=place.network, extra_options=plan.extra_options, **plan.simulation
            )
        try:
            self._drivers[env] = EnvDriver(plan, env, self._slots, simulation, record, self._loading)
        except BaseException:
            simulation.close()
            raise
        self._board.bell.ring()

    def _try_to_start(self, env: int) -> None:
        """Give an env a simulation, or take note that it failed."""
        self._due.pop(env, None)
        try:
            self._start(env)
        except SumoError as error:
            self._lose(env, error)

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """While SUMO loads a scenario: the pool has more patience then, as far as loading has ever taken long."""
        began = time.monotonic()
        self._beat()
        self._row["loading"] = _MUCH_LONGER * self._slowest or math.inf
        try:
            yield
            self._slowest = max(self._slowest, time.monotonic() - began)
        finally:
            self._beat()
            self._row["loading"] = 0.0

    def _lose(self, env: int, error: SumoError) -> None:
        """An env's SUMO is gone: drop what was being written, and try again later."""
        driver = self._drivers.pop(env, None)
        if driver is not None:
            driver.abandon()
            self._forget(env)
        record = self._board.envs[env]
        record["sumo"] = 0
        record["losses"] += 1
        setbacks = self._setbacks.setdefault(env, Setbacks(self._plan.restart_limit))
        delay = setbacks.add()
        if delay is None:
            raise GivenUpError(
                f"env {env} failed {setbacks.in_a_row} times without an episode that ended in between, "
                f"--restart-limit is {self._plan.restart_limit}: {error}"
            ) from error
        self._say(f"env {env}: {error}; its next SUMO starts in {delay:g} s")
        self._due[env] = time.monotonic() + delay
        self._beat()
        self._board.bell.ring()

    # Decisions

    def round(self) -> bool:
        """One decision of every env that has a slot to write into; False where none has."""
        if self._left == 0:
            self._renew()
        acting = [driver for driver in list(self._drivers.values()) if self._is_ready(driver)]
        self._beat(Activity.RUNNING if acting else Activity.WAITING if self._drivers else Activity.RECOVERING)
        if not acting:
            self._left = 0  # nothing is open: whenever it goes on, it may as well be with the newest weights
            return False
        choices = self._actors.act(
            [self._plan.map_of(driver.env) for driver in acting],
            [driver.env for driver in acting],
            [driver.frame for driver in acting],
            [driver.generator for driver in acting],
        )
        # All simulations run while the first reply is awaited.
        for driver, (actions, _) in zip(acting, choices, strict=True):
            try:
                driver.send(actions)
            except SumoError as error:
                self._lose(driver.env, error)
        for driver, (actions, log_probs) in zip(acting, choices, strict=True):
            if driver.env in self._drivers:
                self._conclude(driver, actions, log_probs)
        self._left -= 1
        return True

    def _is_ready(self, driver: EnvDriver) -> bool:
        """Whether an env has a slot to write into; a decision that is still unwritten may end its episode here."""
        episode = driver.episode
        try:
            ready = driver.open(self._version)
        except SumoError as error:
            self._count_episode(driver, episode)  # it may have ended, and the next one not begun
            self._lose(driver.env, error)
            return False
        self._count_episode(driver, episode)
        return ready

    def _conclude(self, driver: EnvDriver, actions: NDArray[np.int16], log_probs: NDArray[np.float32]) -> None:
        """Receive and write down what came of one env's decision."""
        before, episode = driver.frame.time, driver.episode
        try:
            outcome = driver.receive()
            self._row["decisions"] += 1
            self._row["seconds"] += outcome.frame.time - before
            self._beat()  # several that hang, one after the other, are not one collector that does
            driver.record(Decision(actions, log_probs, outcome.rewards, outcome.costs), outcome, self._version)
        except SumoError as error:
            self._count_episode(driver, episode)  # it may have ended, and the next one not begun
            self._lose(driver.env, error)
            return
        self._count_episode(driver, episode)

    def _count_episode(self, driver: EnvDriver, before: int) -> None:
        """Take note of it when an env is in another episode than ``before``."""
        if driver.episode != before:
            self._row["episodes"] += 1
            self._forget(driver.env)
            if driver.env in self._setbacks:
                self._setbacks[driver.env].forget()

    def _forget(self, env: int) -> None:
        """Nothing before what comes now belongs to the episode of this env."""
        self._actors.forget(self._plan.map_of(env), env)

    def _renew(self) -> None:
        """End all open fragments and read the newest weights."""
        for driver in self._drivers.values():
            driver.cut()
        if self._weights.version != self._version:
            vector, self._version = self._weights.read()
            self._actors.load(vector)
            self._row["version"] = self._version
        self._left = self._plan.fragment_length

    def _beat(self, activity: Activity | None = None) -> None:
        """Show a sign of life."""
        self._row["heartbeat"] = time.monotonic()
        if activity is not None:
            self._row["activity"] = activity

    def close(self) -> None:
        """End all simulations; closing twice is fine."""
        for env, driver in self._drivers.items():
            driver.abandon()
            self._board.envs[env]["sumo"] = 0
        self._drivers.clear()
        self._row["activity"] = Activity.STOPPED
