"""Training as a user starts it: decisions per second with everything on, and how much of the time the learner waits.

Beside it the collectors alone, acting with the policy that the run has ended with, and sumo-rl with the PPO of
Stable-Baselines3 where there is one signal.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import pooled
from benchmarks.contest import Contender, contest
from benchmarks.spread import Spread
from benchmarks.training_run import TrainingRun, training_run
from benchmarks.usage import Meter, tree
from envs import find
from learner import checkpoints
from pages import script

_WATCHED = 0.8  # of the second half: a run's processes must live until the end of a measurement
_PARTS = 5  # the measured half is cut into as many


@dataclass(frozen=True)
class Settings:
    """What is trained, and for how long."""

    networks: tuple[str, ...] = ("resco:cologne1", "resco:cologne8", "grid4x4")
    """Scenarios by name."""
    rival_networks: tuple[str, ...] = ("resco:cologne1",)
    """Where sumo-rl is trained beside: they must have one signal."""
    envs: int = 4
    """Simulations of this project."""
    interval: float = 10.0
    """Simulated seconds between two decisions."""
    time_limit: float = 40.0
    """Seconds of training, of which the second half is measured."""
    cycles: int = 4
    """Rollouts of PPO that are measured."""
    steps: int | None = None
    """Decisions of each environment in one of them; none: as PPO has it."""
    rounds: int = 3
    """How often the collectors alone are measured."""
    wall: float = 3.0
    """Seconds that one of these measurements takes at least."""
    limit: float = 30.0
    """Seconds after which it is cut."""


QUICK = Settings(
    networks=("single",), rival_networks=("single",), envs=2, time_limit=3.0, cycles=1, steps=64, rounds=1, wall=0.2
)


def measure(settings: Settings) -> dict[str, Any]:
    """Everything on all networks; see ``own``, ``alone`` and ``rival`` for what is known of each."""
    rows = []
    for network in settings.networks:
        place = {"network": network, "interval": settings.interval}
        with training_run(flags(network, settings)) as run:
            rows.append({**place, "system": "platoon", **own(run, settings)})
            weights = checkpoints.latest(run.folder / "checkpoints")
            rows.append({**place, "system": "collectors", **alone(network, settings, weights)})
        if network in settings.rival_networks:
            rows.append({**place, "system": "sumo-rl-ppo", **rival(network, settings)})
    return {"rows": rows}


def flags(network: str, settings: Settings) -> dict[str, str]:
    """The flags of a run."""
    return {
        "--scenario": network,
        "--num-envs": f"{settings.envs}",
        "--decision-interval": f"{settings.interval:g}",
        "--time-limit": f"{settings.time_limit:g}",
        "--eval-seeds": "0",
        "--gridlock": "stays",  # theirs do
    }


def own(run: TrainingRun, settings: Settings) -> dict[str, Any]:
    """Train, and watch the second half.

    ``per_wall``: decisions per s of wall time; ``cpu_per_decision``: s of all processes; ``wait_share``: of the
    learner's time, the share without experience; ``delay``: s per vehicle at the end; ``command``: what was run.
    """
    middle = settings.time_limit / 2
    begun = run.wait_for(lambda row: row["elapsed"] >= middle, settings.time_limit)["elapsed"]
    meter = Meter(tree(run.pid))
    with meter:
        time.sleep(max(0.0, _WATCHED * (settings.time_limit - begun)))
    run.finish()
    half = [row for row in run.rows() if row["elapsed"] >= middle]
    per_wall = Spread.of(rates(half))
    return {
        "per_wall": per_wall.as_dict(),
        "cpu_per_decision": meter.total.cpu / meter.total.wall / per_wall.median,
        "wait_share": statistics.median(row["wait_share"] for row in half),
        "delay": half[-1].get("delay"),
        "command": f"python {' '.join(run.arguments)}",
    }


def rates(rows: Sequence[dict[str, Any]], parts: int = _PARTS) -> list[float]:
    """Decisions per second in consecutive parts of a run's metrics; raises ``ValueError`` for less than two rows."""
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} rows of metrics: at least two are needed for a rate")
    parts = min(parts, len(rows) - 1)
    cuts = [rows[(len(rows) - 1) * part // parts] for part in range(parts + 1)]
    return [
        (later["decisions"] - earlier["decisions"]) / (later["elapsed"] - earlier["elapsed"])
        for earlier, later in itertools.pairwise(cuts)
    ]


def alone(network: str, settings: Settings, weights: Path | None) -> dict[str, Any]:
    """The collectors of such a run, with a parent that learns nothing."""
    scenario = find(network)
    seconds = scenario.end - scenario.begin
    command = pooled.command(
        network, "traci", settings.interval, settings.envs, seconds, settings.wall, settings.limit, weights
    )
    samples = contest([Contender("collectors", command)], settings.rounds, f"training {network}")["collectors"]
    return summary([s["decisions"] for s in samples], [s["wall"] for s in samples], [s["cpu"] for s in samples])


def rival(network: str, settings: Settings) -> dict[str, Any]:
    """PPO on two environments of sumo-rl."""
    command = ["benchmarks.ppo", "--network", network, "--interval", f"{settings.interval:g}"]
    command += ["--cycles", str(settings.cycles)]
    command += ["--steps", str(settings.steps)] if settings.steps is not None else []
    (sample,) = contest([Contender("sumo-rl-ppo", command)], 1, f"training {network}")["sumo-rl-ppo"]
    return summary(sample["decisions"], sample["wall"], sample["cpu"])


def summary(decisions: Sequence[int], wall: Sequence[float], cpu: Sequence[float]) -> dict[str, Any]:
    """Decisions per s of wall time, and s of processor time per decision, of repeated measurements."""
    return {
        "per_wall": Spread.of(d / w for d, w in zip(decisions, wall, strict=True)).as_dict(),
        "cpu_per_decision": Spread.of(c / d for d, c in zip(decisions, cpu, strict=True)).median,
    }


if __name__ == "__main__":
    script.run(Settings, measure, "training", __doc__)
