"""sumo-rl over libsumo in Gymnasium's ``AsyncVectorEnv``, with the same policy network acting in the parent.

``python -m benchmarks.vectorised --network N --envs 4`` prints one line of JSON. What sumo-rl observes knows no single
vehicles, so the policy acts on frames that were recorded on the same network before, one per env and step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv
from numpy.typing import NDArray

from benchmarks.acting import untrained_actor
from benchmarks.contest import Sample, add_turn_flag, take_turns
from benchmarks.networks import extent
from benchmarks.recording import record
from benchmarks.sumorl import make, speak_over
from benchmarks.usage import Meter
from envs.scenarios import Scenario, find
from envs.simulation import Simulation
from pages.output import results_only

_WARM_UP = 5  # steps before anything is measured
_NEXT_EPISODE = 1000  # added to the seeds from one episode to the next


class OneAgent(gymnasium.Env[NDArray[np.float32], NDArray[np.int64]]):
    """All signals of a sumo-rl environment as one agent: observations side by side, rewards added up."""

    def __init__(self, scenario: Scenario, interval: float, seconds: float, seed: int) -> None:
        self._env = make(scenario, interval, seconds, seed)
        self.signals: list[str] = list(self._env.ts_ids)
        spaces = [self._env.observation_spaces(signal) for signal in self.signals]
        low, high = (np.concatenate([getattr(space, end) for space in spaces]) for end in ("low", "high"))
        self.observation_space = gymnasium.spaces.Box(low, high)
        self.action_space = gymnasium.spaces.MultiDiscrete([self._env.action_spaces(s).n for s in self.signals])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        return np.concatenate(list(self._env.reset(seed=seed).values())), {}

    def step(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One decision; says how many vehicles are under way."""
        observations, rewards, dones, _ = self._env.step(dict(zip(self.signals, action, strict=True)))
        info = {"vehicles": self._env.sumo.vehicle.getIDCount()}
        return np.concatenate(list(observations.values())), sum(rewards.values()), False, dones["__all__"], info

    def close(self) -> None:
        """End SUMO."""
        self._env.close()


class Vectorised:
    """``envs`` of them, one per process, all in step."""

    def __init__(self, network: str, interval: float, envs: int, seconds: float) -> None:
        scenario = find(network)
        with closing(
            Simulation(scenario, "libsumo", decision_interval=interval, episode_seconds=seconds)
        ) as simulation:
            self._actor = untrained_actor(simulation.network)
            self._envs = list(range(envs))
            self._generators = [np.random.default_rng(env) for env in range(envs + 1)]
            self._frames = record(simulation, lambda frame: self._actor.act([0], [frame], self._generators[-1:])[0][0])
            signals = simulation.network.signals
        self._interval = interval
        self._vector = AsyncVectorEnv([partial(OneAgent, scenario, interval, seconds, env) for env in range(envs)])
        theirs = self._vector.get_attr("signals")[0]
        self._columns = [[signal.id for signal in signals].index(name) for name in theirs]  # of a policy's choice
        greens = [len(signals[column].greens) for column in self._columns]
        if list(self._vector.single_action_space.nvec) != greens:  # type: ignore[attr-defined]
            raise ValueError(f"sumo-rl sees other greens in {network} than this project, which sees {greens}")
        self._episode_number = 0
        self._episode(Meter(), steps=_WARM_UP, limit=np.inf)

    def measure(self, wall: float, limit: float) -> Sample:
        """Whole episodes, so many that it takes ``wall`` s at least; cut at ``limit`` s. Resets are not counted."""
        meter = Meter()
        counts: list[float] = []
        while meter.total.wall < min(wall, limit):
            counts += self._episode(meter, len(self._frames), limit)
        decisions = len(counts) * len(self._envs)
        return {
            "wall": meter.total.wall,
            "cpu": meter.total.cpu,
            "decisions": decisions,
            "simulated": decisions * self._interval,
            "vehicles": sum(counts) / len(counts),
            "cut": len(counts) % len(self._frames) > 0,
        }

    def _episode(self, meter: Meter, steps: int, limit: float) -> list[float]:
        """Step through an episode; the mean number of vehicles in an env after each step."""
        self._episode_number += 1
        self._vector.reset(seed=self._episode_number * _NEXT_EPISODE)
        counts: list[float] = []
        with meter:
            while len(counts) < steps and meter.elapsed() < limit:
                frames = [self._frames[len(counts)]] * len(self._envs)
                choice, _ = self._actor.act(self._envs, frames, self._generators[:-1])
                *_, info = self._vector.step(choice[:, self._columns].astype(np.int64))
                counts.append(float(info["vehicles"].mean()))
        return counts

    def close(self) -> None:
        """End all environments."""
        self._vector.close()


def command(network: str, interval: float, envs: int, seconds: float, wall: float, limit: float) -> list[str]:
    """The arguments of ``python -m`` that measure them."""
    numbers = {"--interval": interval, "--envs": envs, "--seconds": seconds, "--wall": wall, "--limit": limit}
    flags = [text for flag, number in numbers.items() for text in (flag, f"{number:g}")]
    return ["benchmarks.vectorised", "--network", network, *flags]


def main(argv: Sequence[str]) -> None:
    """Measure one number of environments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vectorised", description=__doc__)
    parser.add_argument("--network", default="resco:cologne8", help="a scenario's name (default: %(default)s)")
    parser.add_argument("--interval", type=float, default=10.0, help="s between decisions (%(default)g)")
    parser.add_argument("--envs", type=int, default=4, help="environments (%(default)d)")
    parser.add_argument("--seconds", type=float, help="simulated s of each episode (default: as the report has it)")
    parser.add_argument("--wall", type=float, default=2.0, help="s to measure at least (%(default)g)")
    parser.add_argument("--limit", type=float, default=60.0, help="s after which it is cut (%(default)g)")
    add_turn_flag(parser)
    given = parser.parse_args(argv)
    speak_over("libsumo")
    torch.set_num_threads(1)
    with results_only() as results:
        seconds = given.seconds or extent(given.network).scaling
        with closing(Vectorised(given.network, given.interval, given.envs, seconds)) as vectorised:
            take_turns(results, lambda: vectorised.measure(given.wall, given.limit), given.in_turn)


if __name__ == "__main__":
    main(sys.argv[1:])
