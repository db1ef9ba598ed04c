"""One episode of one controller, measured by SUMO's own record of every trip."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch.nn.utils import parameters_to_vector

from envs.backends import open_session
from envs.controllers import CLASSICAL, Controller
from envs.errors import ScenarioError
from envs.network import Network
from envs.scenarios import Scenario
from envs.session import Session
from envs.signals import Frame, SignalControl
from envs.simulation import no_signals
from envs.trips import Trips, read_trips, trip_options
from graph.acting import Actor
from graph.policy import PolicyShape, SignalPolicy
from graph.topology import Topology


@dataclass(frozen=True, eq=False)
class Policy:
    """A trained policy as a controller's recipe; it can travel to another process.

    ``weights`` float32 [parameters]; ``radius`` m; ``sampled`` draws phases by their probabilities, as in training,
    instead of choosing the likeliest.
    """

    name: str
    weights: NDArray[np.float32]
    shape: PolicyShape
    radius: float
    sampled: bool = False

    @classmethod
    def of(cls, name: str, model: SignalPolicy, radius: float, *, sampled: bool = False) -> Self:
        """The present weights of a model, copied."""
        vector = parameters_to_vector(model.parameters()).detach().float().cpu().numpy().copy()
        return cls(name, vector, model.shape, radius, sampled)


class PolicyController:
    """A policy that chooses the phases of one simulation."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Lay out the network, and install the programs that show what is asked for."""
        session.install(task.programs)
        policy = self._policy
        self._actor = Actor(Topology.of(session.network), policy.shape, policy.radius)
        self._actor.policy.load(policy.weights)
        self._generators = [np.random.default_rng(seed)] if policy.sampled else None

    def act(self, frame: Frame) -> NDArray[np.int16]:
        """The wanted phase of each signal."""
        phases, _ = self._actor.act([0], [frame], self._generators)
        return phases[0]


def make_controller(recipe: str | Policy) -> Controller:
    """The controller of a recipe; raises ``ValueError`` for a name that is not in ``envs.controllers.CLASSICAL``."""
    if isinstance(recipe, Policy):
        return PolicyController(recipe)
    if recipe not in CLASSICAL:
        raise ValueError(f"controller {recipe!r}: must be one of {', '.join(CLASSICAL)}, or a policy")
    return CLASSICAL[recipe]()


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what all controllers act; times in s, as in ``envs.Simulation``."""

    backend: str = "traci"
    decision_interval: float = 10.0
    yellow_time: float = 3.0
    min_green: float = 5.0
    episode_seconds: float | None = None
    time_to_teleport: float = -1.0


@dataclass(frozen=True, slots=True)
class Episode:
    """What one controller made of one seed's traffic.

    Means over all vehicles that entered the network, those still under way included, s: ``delay`` is time lost
    against driving freely plus the wait to enter. ``never_departed`` vehicles found no place on their first road until
    the end; ``full_delay`` counts their wait too. ``wall`` is how long the episode took, in s.
    """

    controller: str
    seed: int
    delay: float
    full_delay: float
    travel_time: float
    waiting_time: float
    departed: int
    arrived: int
    never_departed: int
    teleports: int
    collisions: int
    wall: float


def run_episode(
    scenario: Scenario, network: Network | None, recipe: str | Policy, seed: int, conditions: Conditions
) -> Episode:
    """Run one episode in this process.

    Raises ``ScenarioError`` where there is no signal to control or no vehicle, ``SumoError`` when SUMO fails.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as file:
        session = open_session(
            scenario, conditions.backend, conditions.time_to_teleport, network, extra_options=trip_options(file)
        )
        try:
            if not session.network.signals:
                raise ScenarioError(no_signals(scenario, session.network))
            _drive(session, make_controller(recipe), seed, conditions)
            totals = session.totals()
            session.finish()
        finally:
            session.close()
        trips = read_trips(file)
    if not trips.departed.any():
        raise ScenarioError(f"scenario {scenario.name}: no vehicle enters the network within its time window")
    name = recipe.name if isinstance(recipe, Policy) else recipe
    return _measure(name, seed, trips, totals, time.monotonic() - began)


def _drive(session: Session, controller: Controller, seed: int, conditions: Conditions) -> None:
    """Let a controller act from the beginning to the end of an episode."""
    scenario = session.scenario
    end = min(scenario.end, scenario.begin + (conditions.episode_seconds or float("inf")))
    task = SignalControl(session.network, conditions.yellow_time, conditions.min_green)
    session.reset(seed)
    controller.begin(session, task, seed)
    snapshot = session.observe()
    task.begin(snapshot.time)
    while snapshot.time < end - 1e-6:
        wanted = controller.act(task.frame(snapshot))
        commands = [] if wanted is None else task.commands(wanted, snapshot.time)
        session.send(commands, min(snapshot.time + conditions.decision_interval, end))
        snapshot = session.receive()


def _measure(controller: str, seed: int, trips: Trips, totals: dict[str, float], wall: float) -> Episode:
    departed = trips.departed
    delay = trips.depart_delay + trips.time_loss  # s
    return Episode(
        controller=controller,
        seed=seed,
        delay=float(delay[departed].mean()),
        full_delay=float(delay.mean()),
        travel_time=float(trips.duration[departed].mean()),
        waiting_time=float(trips.waiting_time[departed].mean()),
        departed=int(departed.sum()),
        arrived=int(trips.arrived.sum()),
        never_departed=int((~departed).sum()),
        teleports=int(totals["teleports"]),
        collisions=int(totals["collisions"]),
        wall=wall,
    )
