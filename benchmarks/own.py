"""This project's simulations, one or several in a process, without and with the policy."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.acting import untrained_actor
from benchmarks.traffic import TICK, Plan
from envs.scenarios import Scenario
from envs.simulation import Simulation

_NEXT_ENV = 1000  # added to the seed from one env to the next


class Own:
    """``envs`` simulations side by side, every vehicle read at every decision.

    With ``policy`` the graphs are built, the policy runs and samples for all of them at once, at every decision; then
    its choice is overruled by the plan, since untrained as it is it would simulate another traffic than the others.
    """

    def __init__(
        self, scenario: Scenario, interval: float, seconds: float, backend: str, policy: bool = False, envs: int = 1
    ) -> None:
        torch.set_num_threads(1)
        self.begin = scenario.begin
        self.end = scenario.begin + seconds
        self.envs = envs
        self._simulations = [
            Simulation(scenario, backend, decision_interval=interval, episode_seconds=seconds) for _ in range(envs)
        ]
        network = self._simulations[0].network
        plan = Plan.of(self._simulations[0].session.client, network, scenario.begin)
        self._table = plan.table(self.end)
        self._actor = untrained_actor(network) if policy else None
        self._numbers = list(range(envs))
        self._generators = [np.random.default_rng(env) for env in range(envs)]

    def reset(self, seed: int) -> None:
        """Begin an episode in every env."""
        self._frames = [simulation.reset(seed + _NEXT_ENV * env) for env, simulation in enumerate(self._simulations)]
        if self._actor is not None:
            for env in self._numbers:
                self._actor.forget(env)

    def advance(self) -> tuple[float, float | None]:
        """One decision of every env; the time then (s), and how many vehicles were read in all of them."""
        frames = self._frames
        if self._actor is not None:
            self._actor.act(self._numbers, frames, self._generators)
        actions = self._table[int((frames[0].time - self.begin) // TICK)]
        for simulation in self._simulations:
            simulation.send(actions)
        self._frames = [simulation.receive().frame for simulation in self._simulations]
        return self._frames[0].time, sum(len(frame.lanes) for frame in self._frames)

    def arrived(self) -> int:
        """Vehicles that have arrived in this episode, in all envs."""
        key = "device.tripinfo.vehicleTripStatistics.count"
        return sum(int(simulation.session.client.simulation.getParameter("", key)) for simulation in self._simulations)

    def close(self) -> None:
        """End all simulations."""
        for simulation in self._simulations:
            simulation.close()
