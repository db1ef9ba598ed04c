"""One episode of one controller: measured, recorded, or shown in SUMO's own window."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from collectors.measures import Episode, measure
from collectors.policies import Policy, make_controller, name_of
from envs.backends import open_session
from envs.errors import ScenarioError
from envs.jams import JamWatch, LightWatch
from envs.network import Network
from envs.recording import Camera, Lens, Recording
from envs.scenarios import Scenario
from envs.session import Session, Snapshot
from envs.signals import SignalControl
from envs.simulation import no_signals
from envs.trips import read_trips, trip_options
from envs.variation import AS_IT_IS, Variation


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what all controllers act; times in s, as in ``envs.Simulation``."""

    backend: str = "traci"
    decision_interval: float = 10.0
    yellow_time: float = 3.0
    min_green: float = 5.0
    max_red: float = 120.0
    max_hold: float = 60.0
    episode_seconds: float | None = None
    time_to_teleport: float = -1.0
    demand_scale: str = "1"
    departure_jitter: float = 0.0

    def __str__(self) -> str:
        return "; ".join(
            [
                f"a decision every {self.decision_interval:g} s, {self.yellow_time:g} s of yellow, "
                f"{self.min_green:g} s of green at least",
                *([f"the first {self.episode_seconds:g} s"] if self.episode_seconds is not None else []),
                *([f"teleports after {self.time_to_teleport:g} s"] if self.time_to_teleport > 0 else []),
                *(
                    [f"{self.demand_scale} times the demand"]
                    if Variation.of(self.demand_scale, 0.0) != AS_IT_IS
                    else []
                ),
                *([f"departures up to {self.departure_jitter:g} s later"] if self.departure_jitter > 0 else []),
                f"policies: --max-red {self.max_red:g}, --max-hold {self.max_hold:g}",
            ]
        )

    @property
    def variation(self) -> Variation:
        """What each episode draws from its seed."""
        return Variation.of(self.demand_scale, self.departure_jitter)

    def window(self, scenario: Scenario) -> tuple[float, float]:
        """When an episode begins and when it is over, s of the simulation's clock."""
        return scenario.begin, min(scenario.end, scenario.begin + (self.episode_seconds or float("inf")))

    def shortened(self, scenario: Scenario) -> Scenario:
        """The scenario with that end: what looks at a scenario, as Webster's timing does, finds the end that counts."""
        return replace(scenario, end=self.window(scenario)[1])


def run_episode(
    scenario: Scenario, network: Network | None, recipe: str | Policy, seed: int, conditions: Conditions
) -> Episode:
    """Run one episode in this process and measure it.

    Raises ``ScenarioError`` where there is no signal to control or no vehicle, ``SumoError`` when SUMO fails.
    """
    began = time.monotonic()
    window = conditions.window(scenario)
    with tempfile.TemporaryFile() as file:
        with closing(_open(scenario, network, conditions, trip_options(file))) as session:
            jams = JamWatch(session.network)
            last = _drive(session, recipe, seed, conditions, window[1], LightWatch(session, jams).look)
            totals, gridlocked = session.totals(), jams.gridlocked(last)
            session.finish()
        trips = read_trips(file)
    if not trips.departed.any():
        raise ScenarioError(f"scenario {scenario.name}: no vehicle enters the network within its time window")
    return measure(
        name_of(recipe),
        seed,
        trips,
        window,
        teleports=int(totals["teleports"]),
        collisions=int(totals["collisions"]),
        gridlocked=gridlocked,
        wall=time.monotonic() - began,
    )


def record_episode(
    scenario: Scenario, network: Network | None, recipe: str | Policy, seed: int, conditions: Conditions, lens: Lens
) -> Recording:
    """Run an episode in this process for as long as the lens looks, and return what it has seen; raises likewise."""
    with closing(_open(scenario, network, conditions)) as session:
        camera = Camera(session, lens)
        _drive(session, recipe, seed, conditions, min(lens.end, conditions.window(scenario)[1]), camera.look, lens)
        return camera.recording(name_of(recipe), seed)


def show_episode(session: Session, recipe: str | Policy, seed: int, conditions: Conditions) -> None:
    """Run an episode on a session that somebody looks at; raises ``SumoError`` when its window is closed."""
    _drive(session, recipe, seed, conditions, conditions.window(session.scenario)[1])


def _open(scenario: Scenario, network: Network | None, conditions: Conditions, options: Sequence[str] = ()) -> Session:
    teleport, variation = conditions.time_to_teleport, conditions.variation
    return open_session(
        conditions.shortened(scenario), conditions.backend, teleport, network, options, variation=variation
    )


def _drive(
    session: Session,
    recipe: str | Policy,
    seed: int,
    conditions: Conditions,
    end: float,
    look: Callable[[Snapshot], object] = lambda _: None,
    lens: Lens | None = None,
) -> Snapshot:
    """Let a controller act from the beginning of an episode to ``end`` (s), and return the last instant.

    ``look`` sees every instant at which there is something to decide, and those of the lens, and the last one.
    """
    if not session.network.signals:
        raise ScenarioError(no_signals(session.scenario, session.network))
    controller = make_controller(recipe)
    task = SignalControl(
        session.network,
        conditions.yellow_time,
        conditions.min_green,
        conditions.max_red,
        conditions.max_hold,
    )
    session.reset(seed)
    controller.begin(session, task, seed)
    snapshot = session.observe()
    task.begin(snapshot.time)
    look(snapshot)
    while snapshot.time < end - 1e-6:
        wanted = controller.act(task.frame(snapshot))
        commands = [] if wanted is None else task.commands(wanted, snapshot.time)
        until = min(snapshot.time + conditions.decision_interval, end)
        for moment in (*(lens.between(snapshot.time, until) if lens is not None else ()), until):
            session.send(commands, moment)
            snapshot, commands = session.receive(), []
            look(snapshot)
    return snapshot
