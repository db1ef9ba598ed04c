"""sumo-rl with the PPO of Stable-Baselines3 on a scenario with one signal, and its policy at moments of wall time.

Two environments over libsumo, as a user of both would have them. ``python -m results.ppo`` prints one line of JSON.
Moments count from the start of the process. A policy is judged as ours are: same hour, same seeds, likeliest phases,
delays from SUMO's own record of trips.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks.contest import add_turn_flag, results_only, say, take_turns
from benchmarks.sumorl import make, speak_over
from envs.scenarios import Scenario, find
from envs.trips import read_trips, trip_options
from machine import cores
from report.statistics import Summary
from results.protocol import CONDITIONS, Row, seeds

_ENVS = 2
_TRAINING_SEED = 1_000  # of the first environment: none that a policy is judged by
# sumo-rl's reward, and what PPO has otherwise than by default.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("diff-waiting-time", {}),
    "queue": ("queue", {}),
    "short": ("diff-waiting-time", {"n_steps": 256, "learning_rate": 1e-3, "gamma": 0.95}),
    "short-queue": ("queue", {"n_steps": 256, "learning_rate": 1e-3, "gamma": 0.95}),
}


class Snapshots(BaseCallback):
    """Keeps the model as it is at each moment (s after the start of this process), and ends training at the last."""

    def __init__(self, moments: Sequence[float]) -> None:
        super().__init__()
        self.kept: list[tuple[float, int, bytes]] = []  # moment, decisions, model
        self._left = sorted(moments)
        self._began = psutil.Process().create_time()  # s since 1970

    def _on_step(self) -> bool:
        while self._left and time.time() - self._began >= self._left[0]:
            file = io.BytesIO()
            self.model.save(file)
            self.kept.append((self._left.pop(0), self.num_timesteps, file.getvalue()))
        return bool(self._left)


@dataclass(frozen=True)
class Trial:
    """An episode to be run by a model."""

    scenario: Scenario
    model: bytes
    seed: int

    def run(self) -> float:
        """The mean delay, s."""
        torch.set_num_threads(1)
        model = PPO.load(io.BytesIO(self.model), device="cpu")
        begin, end = CONDITIONS.window(self.scenario)
        with tempfile.TemporaryFile() as file:
            interval = CONDITIONS.decision_interval
            env = make(self.scenario, interval, end - begin, self.seed, True, trip_options(file))
            with closing(env):
                observation, _ = env.reset(seed=self.seed)
                done = False
                while not done:
                    action, _ = model.predict(observation, deterministic=True)
                    observation, _, terminated, truncated, _ = env.step(int(action))
                    done = terminated or truncated
            trips = read_trips(file)
        return float((trips.depart_delay + trips.time_loss)[trips.departed].mean())


def train(scenario: Scenario, variant: str, moments: Sequence[float]) -> list[tuple[float, int, bytes]]:
    """Train until the last moment; the models of all of them."""
    begin, end = CONDITIONS.window(scenario)
    reward, settings = VARIANTS[variant]
    environments: list[Any] = [
        partial(make, scenario, CONDITIONS.decision_interval, end - begin, seed, True, reward_fn=reward)
        for seed in range(_TRAINING_SEED, _TRAINING_SEED + _ENVS)
    ]
    with closing(SubprocVecEnv(environments)) as vector:
        model = PPO("MlpPolicy", vector, device="cpu", seed=1, **settings)
        model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave an empty folder in /tmp
        snapshots = Snapshots(moments)
        model.learn(sys.maxsize, callback=snapshots)
    return snapshots.kept


def measure(network: str, variant: str, moments: Sequence[float], num_seeds: int) -> dict[str, Any]:
    """A row for each moment: ``delay`` summed up over seeds, and the ``delays`` of each."""
    scenario = find(network)
    kept = train(scenario, variant, moments)
    rows: list[Row] = []
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as processes:
        for moment, decisions, model in kept:
            say(f"sumo-rl with PPO, {variant}, {moment:g} s: {decisions} decisions")
            delays = list(processes.map(Trial.run, [Trial(scenario, model, seed) for seed in seeds(num_seeds)]))
            about = {"network": network, "variant": variant, "moment": moment, "decisions": decisions}
            rows.append({**about, "delay": Summary.of(delays).as_dict(), "delays": delays})
    return {"rows": rows}


def main(argv: Sequence[str]) -> None:
    """Measure it."""
    parser = argparse.ArgumentParser(prog="python -m results.ppo", description=__doc__)
    parser.add_argument("--network", default="resco:cologne1", help="a scenario with one signal (default: %(default)s)")
    parser.add_argument("--variant", choices=VARIANTS, default="defaults", help="default: %(default)s")
    parser.add_argument("--moments", type=float, nargs="+", default=[30.0, 60.0, 120.0, 300.0], help="s")
    parser.add_argument("--seeds", type=int, default=20, help="episodes that a policy is judged by (%(default)d)")
    add_turn_flag(parser)
    given = parser.parse_args(argv)
    speak_over("libsumo")
    with results_only() as results:
        take_turns(results, lambda: measure(given.network, given.variant, given.moments, given.seeds), given.in_turn)


if __name__ == "__main__":
    main(sys.argv[1:])
