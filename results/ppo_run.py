"""sumo-rl with the PPO of Stable-Baselines3, as a user of both has them: nothing of ours is imported.

``python -m results.ppo_run train SPEC`` trains and keeps the model as it is at some moments of wall time,
``… judge SPEC`` lets a model act. ``results.rival`` writes the spec, a JSON file, and sees to the environment of the
process, in which sumo-rl finds its backend.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize
from sumo_rl import SumoEnvironment

_SET_PDEATHSIG = 1  # linux/prctl.h

Spec = dict[str, Any]
Maker = Callable[[], gymnasium.Env[Any, Any]]


class FreshTraffic(gymnasium.Wrapper):
    """Every episode has a seed of its own for SUMO, ``first`` or above; PPO would set one, once."""

    def __init__(self, env: gymnasium.Env[Any, Any], seed: Sequence[int], first: int) -> None:
        super().__init__(env)
        self._chance = np.random.default_rng(seed)
        self._first = first

    def reset(self, *, seed: int | None = None, options: Spec | None = None) -> tuple[Any, Spec]:
        return self.env.reset(seed=int(self._chance.integers(self._first, 2**31)))


class Snapshots(BaseCallback):
    """Keeps the model as it is at each moment, s after ``began`` (s since 1970), and ends training at the last."""

    def __init__(self, moments: Sequence[float], began: float, folder: Path) -> None:
        super().__init__()
        self.kept: list[Spec] = []
        self._left = sorted(moments)
        self._began = began
        self._folder = folder

    def _on_step(self) -> bool:
        while self._left and time.time() - self._began >= self._left[0]:
            moment = self._left.pop(0)
            path = self._folder / f"{moment:g}.zip"
            self.model.save(path)
            self.kept.append({"moment": moment, "decisions": self.num_timesteps, "model": str(path)})
        return bool(self._left)


def make(spec: Spec, number: int) -> gymnasium.Env[Any, Any]:
    """Environment ``number``, in a process of its own that the kernel ends with its parent: the pipes would not."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)
    return FreshTraffic(SumoEnvironment(**spec["env"]), [spec["seed"], number], spec["first_seed"])


def train(spec: Spec) -> list[Spec]:
    """Train until the last moment; what was kept at each of them."""
    makers: list[Maker] = [partial(make, spec, number) for number in range(spec["envs"])]
    # Forked, they need not import everything once more while the clock runs. No SUMO and no thread is there yet.
    with closing(SubprocVecEnv(makers, start_method="fork")) as processes:
        vector: VecEnv = processes
        if spec["normalised"]:  # of observations there is no need: they are shares
            vector = VecNormalize(vector, norm_obs=False, gamma=spec["ppo"].get("gamma", 0.99))
        model = PPO("MlpPolicy", vector, device="cpu", seed=spec["seed"], **spec["ppo"])
        model.set_logger(Logger(folder=None, output_formats=[]))  # its own would leave an empty folder in /tmp
        snapshots = Snapshots(spec["moments"], spec["began"], Path(spec["folder"]))
        model.learn(sys.maxsize, callback=snapshots)
    return snapshots.kept


def judge(spec: Spec) -> list[Spec]:
    """Let a model take the likeliest phases for each of ``trials``: a seed, and SUMO's options."""
    model = PPO.load(spec["model"], device="cpu")
    for seed, options in spec["trials"]:
        command = " ".join([spec["env"]["additional_sumo_cmd"], *options])
        with closing(SumoEnvironment(**{**spec["env"], "additional_sumo_cmd": command})) as env:
            observation, _ = env.reset(seed=seed)
            done = False
            while not done:
                action, _ = model.predict(observation, deterministic=True)
                observation, _, terminated, truncated, _ = env.step(int(action))
                done = terminated or truncated
    return []


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    found = train(given) if sys.argv[1] == "train" else judge(given)
    Path(given["answer"]).write_text(json.dumps(found), encoding="utf-8")
