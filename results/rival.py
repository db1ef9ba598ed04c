"""Side by side with sumo-rl and Stable-Baselines3's PPO: the same machine, the same wall time, one after the other.

Theirs is judged as ours is: the same hour, the same seeds, the likeliest phase, delays from SUMO's own record of trips.
Their clock starts with a process that imports nothing but them; their policy of a moment is the one after it, ours the
one before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

from benchmarks.contest import ContestError
from benchmarks.sumorl import arguments, environment
from benchmarks.training_run import TIED
from collectors.plan import RESERVED_SEEDS
from envs.errors import ScenarioError
from envs.scenarios import Scenario
from envs.trips import Trips, read_trips, trip_options
from machine import cores
from pages import ROOT, script
from pages.output import say
from report.statistics import Summary
from results import learning
from results.protocol import CONDITIONS, Court, Row, seeds

_SLOWEST = 60.0  # s for an episode of theirs
_START = 60.0  # s of a process beyond its work


@dataclass(frozen=True)
class Variant:
    """One way to set them up: sumo-rl's reward, how many environments, whether rewards are scaled, PPO's settings."""

    reward: str = "diff-waiting-time"
    envs: int = 2
    normalised: bool = False
    ppo: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        scaled = ", scaled" if self.normalised else ""
        settings = "".join(f", {name} {value:g}" for name, value in self.ppo)
        return f"{self.envs} environments, reward {self.reward}{scaled}{settings}"


# Of sumo-rl's own example of PPO on a grid (experiments/sb3_grid4x4.py, github.com/LucasAlegre/sumo-rl).
_PUBLISHED = (
    ("gamma", 0.95),
    ("n_steps", 256),
    ("ent_coef", 0.0905168),
    ("learning_rate", 0.00062211),
    ("vf_coef", 0.042202),
    ("max_grad_norm", 0.9),
    ("gae_lambda", 0.99),
    ("n_epochs", 5),
    ("clip_range", 0.3),
    ("batch_size", 256),
)
_SHORT = (("gamma", 0.95), ("n_steps", 256), ("learning_rate", 1e-3))
VARIANTS = {
    "defaults": Variant(),
    "queue": Variant(reward="queue", normalised=True),
    "published": Variant(ppo=_PUBLISHED),
    "published-4": Variant(envs=4, ppo=_PUBLISHED),
    "short": Variant(ppo=_SHORT),
    "short-fast": Variant(ppo=(*_SHORT[:-1], ("learning_rate", 3e-3))),
    "short-queue": Variant(reward="queue", normalised=True, ppo=_SHORT),
}


@dataclass(frozen=True)
class Settings:
    """Where, and at which moments they are compared."""

    network: str = "resco:cologne1"
    """A scenario with one signal."""
    moments: tuple[float, ...] = (30.0, 60.0, 120.0, 300.0)
    """Seconds after the start of the process."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Settings of theirs; at each moment the best of them counts."""
    own_runs: int = 5
    """Training runs of ours, with the seeds 1, 2, …; their median counts."""
    their_runs: int = 1
    """Training runs of each variant of theirs, likewise."""
    envs: int = 4
    """Simulations of ours."""
    seeds: int = 20
    """Episodes that a policy is judged by."""


def measure(settings: Settings) -> dict[str, Any]:
    """``own`` and ``theirs``: a row for each moment and training seed; ``variants`` and ``command`` say what was run.

    ``runs`` is how many were started of ours and of each variant, ``failed`` has what those said that came to nothing.
    Raises ``ScenarioError`` where there is not one signal: sumo-rl's environment for one agent steers no other.
    """
    court = Court(settings.network, seeds(settings.seeds))
    if (signals := len(court.network.signals)) != 1:
        raise ScenarioError(f"{settings.network}: has {signals} signals, must have one to be compared with PPO")
    own = learning.measure(
        learning.Settings(
            scenario=settings.network,
            minutes=max(settings.moments) / 60.0,
            moments=settings.moments,
            runs=settings.own_runs,
            envs=settings.envs,
            seeds=settings.seeds,
        )
    )
    theirs: list[Row] = []
    failed: list[str] = [*own["failed"]]
    for name, seed in product(settings.variants, range(1, settings.their_runs + 1)):
        try:
            theirs += _theirs(court, settings, name, seed)
        except ContestError as error:  # hours of others are in vain otherwise
            failed.append(f"{name}, seed {seed}: {error}")
            say(failed[-1])
    return {
        "own": [row for row in own["rows"] if row["moment"] is not None],
        "theirs": theirs,
        "variants": {name: str(VARIANTS[name]) for name in settings.variants},
        "command": next((run["command"] for run in own["runs"]), "no run has come to its end"),
        "failed": failed,
        "runs": {"own": settings.own_runs, "theirs": settings.their_runs},
    }


def environment_of(scenario: Scenario, variant: Variant) -> dict[str, Any]:
    """What sumo-rl's environment is to be told."""
    begin, end = CONDITIONS.window(scenario)
    return {
        **arguments(scenario, CONDITIONS.decision_interval, end - begin),
        "yellow_time": int(CONDITIONS.yellow_time),
        "min_green": int(CONDITIONS.min_green),
        "time_to_teleport": int(CONDITIONS.time_to_teleport),
        "single_agent": True,
        "reward_fn": variant.reward,
        "add_system_info": False,
        "add_per_agent_info": False,
    }


def _theirs(court: Court, settings: Settings, name: str, seed: int) -> list[Row]:
    """Train one variant, and judge it as it was at each moment."""
    variant = VARIANTS[name]
    spec = {
        "env": environment_of(court.scenario, variant),
        "envs": variant.envs,
        "normalised": variant.normalised,
        "ppo": dict(variant.ppo),
        "seed": seed,
        "first_seed": RESERVED_SEEDS,
        "moments": settings.moments,
    }
    with tempfile.TemporaryDirectory() as folder:
        say(f"sumo-rl with PPO, {name}, seed {seed}: {variant}")
        spec = {**spec, "folder": folder, "began": time.time()}
        with _started("train", spec, Path(folder) / "training") as training:
            kept = training.answer(within=max(settings.moments) + 2 * _START)
        rows = []
        for one in kept:
            say(f"{one['moment']:g} s: {one['decisions']} decisions")
            about = {"network": settings.network, "variant": name, "seed": seed, "moment": one["moment"]}
            trips = _judge({**spec, "model": one["model"]}, Path(folder), seeds(settings.seeds))
            delays = [float(episode.delay[episode.departed].mean()) for episode in trips]
            full = Summary.of(float(episode.delay.mean()) for episode in trips).as_dict()
            figures = {"delay": Summary.of(delays).as_dict(), "full_delay": full, "delays": delays}
            rows.append({**about, "decisions": one["decisions"], **figures})
    return rows


def _judge(spec: dict[str, Any], folder: Path, trials: Sequence[int]) -> list[Trips]:
    """The trips of an episode with each seed; a process for each core."""
    with ExitStack() as open_files:
        files: list[IO[bytes]] = [open_files.enter_context(tempfile.TemporaryFile()) for _ in trials]
        pairs = [(seed, trip_options(file)) for seed, file in zip(trials, files, strict=True)]
        shares = [pairs[first :: cores()] for first in range(min(cores(), len(pairs)))]
        judges = [
            open_files.enter_context(_started("judge", {**spec, "trials": share}, folder / f"trial-{number}"))
            for number, share in enumerate(shares)
        ]
        for judge, share in zip(judges, shares, strict=True):
            judge.answer(within=_START + _SLOWEST * len(share))
        return [read_trips(file) for file in files]


class _Process:
    """A process of theirs, of ``results.ppo_run``."""

    def __init__(self, what: str, spec: dict[str, Any], place: Path) -> None:
        question, self._answer = place.with_suffix(".json"), place.with_suffix(".answer")
        question.write_text(json.dumps({**spec, "answer": str(self._answer)}), encoding="utf-8")
        self._what = what
        self._process = subprocess.Popen(
            [*TIED, sys.executable, "-m", "results.ppo_run", what, str(question)],
            cwd=ROOT,
            env=environment("libsumo"),
            stdout=sys.stderr,
            start_new_session=True,
        )

    def answer(self, within: float) -> Any:
        """What it has found, after a wait of at most ``within`` s; raises ``ContestError`` when it fails."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise ContestError(f"sumo-rl with PPO, {self._what}: has not ended within {within:g} s") from error
        if code:
            raise ContestError(f"sumo-rl with PPO, {self._what}: ended with exit code {code}; its own words are above")
        return json.loads(self._answer.read_text(encoding="utf-8"))

    def kill(self) -> None:
        """End it, and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def _started(what: str, spec: dict[str, Any], place: Path) -> Iterator[_Process]:
    """A process that is at work, and ends with the block in any case."""
    process = _Process(what, spec, place)
    try:
        yield process
    finally:
        process.kill()


if __name__ == "__main__":
    script.run(Settings, measure, "rival", __doc__, room="results")
