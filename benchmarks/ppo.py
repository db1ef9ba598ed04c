"""sumo-rl with the PPO of Stable-Baselines3: two environments over libsumo, an MLP, everything at its default.

``python -m benchmarks.ppo`` prints one line of JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks.contest import Sample, add_turn_flag, take_turns
from benchmarks.sumorl import make, speak_over
from benchmarks.usage import Meter, Usage
from envs.scenarios import find
from pages.output import results_only

_ENVS = 2


class Cycles(BaseCallback):
    """Takes the time of every cycle, a rollout and the updates on it, but the first."""

    def __init__(self) -> None:
        super().__init__()
        self.usage: list[Usage] = []
        self.steps: list[int] = []
        self._meter: Meter | None = None
        self._rollouts = 0

    def _on_rollout_start(self) -> None:
        self.end()
        self._rollouts += 1
        if self._rollouts > 1:
            self._meter = Meter().__enter__()
            self._began = self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def end(self) -> None:
        """A cycle has ended."""
        if self._meter is not None:
            self._meter.__exit__(None, None, None)
            self.usage.append(self._meter.total)
            self.steps.append(self.num_timesteps - self._began)
            self._meter = None


def measure(network: str, interval: float, cycles: int, steps: int | None) -> Sample:
    """Train for some cycles beyond the first; decisions, wall and processor time (s) of each."""
    scenario = find(network)
    seconds = scenario.end - scenario.begin
    environments: list[Any] = [
        partial(make, scenario, interval, seconds, seed, single_agent=True) for seed in range(1, _ENVS + 1)
    ]
    with closing(SubprocVecEnv(environments)) as vector:
        settings = {} if steps is None else {"n_steps": steps}
        model = PPO("MlpPolicy", vector, device="cpu", seed=1, **settings)  # type: ignore[arg-type]
        model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave an empty folder in /tmp
        callback = Cycles()
        model.learn(model.n_steps * _ENVS * (cycles + 1), callback=callback)
        callback.end()
    return {
        "wall": [usage.wall for usage in callback.usage],
        "cpu": [usage.cpu for usage in callback.usage],
        "decisions": callback.steps,
    }


def main(argv: Sequence[str]) -> None:
    """Measure it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ppo", description=__doc__)
    parser.add_argument("--network", default="resco:cologne1", help="a scenario with one signal (default: %(default)s)")
    parser.add_argument("--interval", type=float, default=10.0, help="s between decisions (%(default)g)")
    parser.add_argument("--cycles", type=int, default=5, help="rollouts to measure (%(default)d)")
    parser.add_argument("--steps", type=int, help="decisions of each environment in a rollout (default: PPO's own)")
    add_turn_flag(parser)
    given = parser.parse_args(argv)
    speak_over("libsumo")
    with results_only() as results:
        take_turns(results, lambda: measure(given.network, given.interval, given.cycles, given.steps), given.in_turn)


if __name__ == "__main__":
    main(sys.argv[1:])
