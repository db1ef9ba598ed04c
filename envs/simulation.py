"""One env: a session, a task on it, and the bookkeeping of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.backends import open_session
from envs.errors import ScenarioError, SumoError
from envs.jams import JamWatch
from envs.network import Network
from envs.scenarios import Scenario
from envs.session import SPEED, WAITING, Session
from envs.signals import HALTING, Frame, SignalControl
from envs.variation import Variation

GRIDLOCKS = ("ends", "stays")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one decision.

    ``frame`` is the successor; ``rewards`` and ``costs`` are float32 [S]. ``truncated`` marks the end of the time
    window, or of an episode that a gridlock has ended; signal control has no terminal state, so ``terminated`` stays
    False.
    """

    frame: Frame
    rewards: NDArray[np.float32]
    costs: NDArray[np.float32]
    terminated: bool
    truncated: bool


class Simulation:
    """An env for signal control with its decision split in two, ``send`` and ``receive``.

    Several simulations in one process then run side by side: send to all, receive from all. Times in s:
    ``decision_interval`` between two decisions, ``yellow_time``, ``min_green``, ``max_red``, ``max_hold`` (see
    ``envs.signals.SignalControl``); ``episode_seconds`` cuts the scenario's own time window; ``time_to_teleport`` -1
    for never; ``step_limit`` and ``start_limit`` in real s that SUMO may take to answer and to load the scenario. Each
    episode draws from its seed by which factor it has more vehicles, from ``demand_scale`` ("0.8:1.2", or a single
    one), and how much later each of these departs, up to ``departure_jitter``. With ``gridlock`` "ends" an episode is
    over as soon as it is gridlocked (``envs.jams``): what is left of it would take long and teach nothing; with "stays"
    it lasts until its time is over.

    Raises ``ScenarioError`` for a network with no signal to control, ``SumoError`` when SUMO fails, and ``ValueError``
    for a scale, a jitter or a ``gridlock`` that cannot be.
    """

    def __init__(
        self,
        scenario: Scenario,
        backend: str = "traci",
        *,
        decision_interval: float = 10.0,
        yellow_time: float = 3.0,
        min_green: float = 5.0,
        max_red: float = 120.0,
        max_hold: float = 60.0,
        reward: str = "delay",
        episode_seconds: float | None = None,
        time_to_teleport: float = -1.0,
        demand_scale: float | str = 1.0,
        departure_jitter: float = 0.0,
        gridlock: str = "stays",
        network: Network | None = None,
        extra_options: Sequence[str] = (),
        step_limit: float = 60.0,
        start_limit: float = 60.0,
    ) -> None:
        self.scenario = scenario
        if gridlock not in GRIDLOCKS:
            raise ValueError(f"gridlock {gridlock!r}: must be one of {', '.join(GRIDLOCKS)}")
        variation = Variation.of(demand_scale, departure_jitter)
        self.end = scenario.end if episode_seconds is None else min(scenario.end, scenario.begin + episode_seconds)
        self._interval = decision_interval
        self.session: Session = open_session(
            scenario, backend, time_to_teleport, network, extra_options, step_limit, start_limit, variation
        )
        self.network = self.session.network
        if not self.network.signals:
            self.close()
            raise ScenarioError(no_signals(scenario, self.network))
        self.task = SignalControl(self.network, yellow_time, min_green, max_red, max_hold, reward)
        self._jams = JamWatch(self.network)
        self._ends_early = gridlock == "ends"

    def reset(self, seed: int) -> Frame:
        """Begin an episode; ``seed`` decides everything random in it."""
        self.session.reset(seed)
        self.session.install(self.task.programs)
        self._snapshot = self.session.observe()
        self.task.begin(self._snapshot.time)
        self._jams.begin()
        self._costs = np.zeros(len(self.network.signals), np.float32)  # of the last decision
        self._returns = np.zeros(len(self.network.signals))  # sums of rewards so far
        return self.task.frame(self._snapshot)

    def send(self, actions: Sequence[int] | NDArray[np.integer]) -> None:
        """Start a decision: the wanted green phase of each signal, int [S]."""
        now = self._snapshot.time
        self.session.send(self.task.commands(actions, now), min(now + self._interval, self.end))

    def receive(self) -> Outcome:
        """Wait for what the decision led to."""
        snapshot = self._snapshot = self.session.receive()
        rewards, self._costs = self.task.rewards(snapshot), self.task.costs(snapshot)
        self._returns += rewards
        frame = self.task.frame(snapshot)
        green = self.network.phase_start[:-1] + frame.shown
        self._jams.see(green[frame.elapsed >= 0.0], snapshot.time)
        return Outcome(frame, rewards, self._costs, False, self.ended)

    @property
    def ended(self) -> bool:
        """Whether the time window is over, or a gridlock has ended the episode."""
        return self._snapshot.time >= self.end - 1e-6 or (self._ends_early and self._jams.gridlocked(self._snapshot))

    def info(self) -> dict[str, float]:
        """The episode so far in numbers; asks SUMO, so that it is not for every decision of a collector.

        ``delay``: mean time loss plus departure delay of the vehicles that have arrived so far (s, 0 before the first
        one does); at the end of the episode those still under way count too; ``queue``: standing vehicles;
        ``waiting_time``: their mean waiting time (s); ``throughput``: vehicles arrived; ``running``,
        ``waiting_to_depart``: vehicles; ``teleports``, ``collisions``; ``gridlocked``: 1 where it is; ``cost`` of the
        last decision; ``return``: sum of all rewards so far.
        """
        totals = self.session.totals()
        vehicles = self._snapshot.vehicles
        standing = vehicles[:, SPEED] < HALTING
        delay = totals["time_loss"] + totals["depart_delay"]
        return {
            "time": self._snapshot.time,
            "delay": self._final_delay(totals["arrived"], delay) if self.ended else delay,
            "queue": float(standing.sum()),
            "waiting_time": float(vehicles[standing, WAITING].mean()) if standing.any() else 0.0,
            "throughput": totals["arrived"],
            "running": totals["running"],
            "waiting_to_depart": totals["waiting_to_depart"],
            "teleports": totals["teleports"],
            "collisions": totals["collisions"],
            "gridlocked": float(self._jams.gridlocked(self._snapshot)),
            "cost": float(self._costs.sum()),
            "return": float(self._returns.sum()),
        }

    def _final_delay(self, arrived: float, mean: float) -> float:
        """Mean delay of all vehicles that departed (s), as an evaluation has it: congestion must not hide vehicles.

        ``arrived`` vehicles have a ``mean`` delay.
        """
        under_way = self.session.delays_under_way()
        total = arrived + len(under_way)
        if not total:
            raise ScenarioError(f"scenario {self.scenario.name}: no vehicle enters the network within its time window")
        return float((arrived * mean + under_way.sum()) / total)

    def close(self) -> None:
        """End SUMO; closing twice is fine."""
        self.session.close()


def probe(scenario: Scenario, start_limit: float = 60.0) -> Network:
    """The network of a scenario, as SUMO sees it once it has loaded it, within ``start_limit`` s.

    Raises ``ScenarioError`` when SUMO cannot load it, with SUMO's own words, or when there is nothing to control.
    """
    try:
        session = open_session(scenario, "traci", start_limit=start_limit)
    except SumoError as error:
        raise ScenarioError(str(error)) from error
    try:
        if not session.network.signals:
            raise ScenarioError(no_signals(scenario, session.network))
        return session.network
    finally:
        session.close()


def no_signals(scenario: Scenario, network: Network) -> str:
    """Why nothing can be controlled in a scenario, in one line."""
    if not network.fixed_signals:
        return f"scenario {scenario.name}: its network has no traffic lights; choose one that has"
    reasons = "; ".join(f"{signal.id}: {signal.why_fixed}" for signal in network.fixed_signals[:3])
    return f"scenario {scenario.name}: none of its {len(network.fixed_signals)} signals can be controlled ({reasons})"
