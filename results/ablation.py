"""What each part of the learner is worth: runs that differ in one setting, compared after as many decisions.

Serial runs, one on each processor: they are reproducible to the bit on one machine, and how busy it is makes no
difference.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.contest import ContestError
from benchmarks.training_run import TrainingRun
from learner import checkpoints
from machine import cores
from pages import script
from pages.output import say
from report.statistics import Summary
from results.protocol import Court, Row

VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "a third of the step size": ("--learning-rate", "1e-3"),
    "one step per update": ("--reuse", "1"),
    "eight steps per update": ("--reuse", "8"),
    "no clip of the ratio": ("--ratio-clip", "1e9"),
    "no average of the weights": ("--averaging", "0"),
    "no log barrier": ("--exploration", "0"),
    "returns traced to the end": ("--trace", "1"),
    "no limit on red": ("--max-red", "1e9"),
    "junctions not kept clear": ("--max-hold", "0"),
    "gridlocked episodes stay": ("--gridlock", "stays"),
    "no jitter of departures": ("--departure-jitter", "0"),
    "demand 0.8 to 1.2 times": ("--demand-scale", "0.8:1.2"),
    "reward: queue": ("--reward", "queue"),
    "reward: waiting": ("--reward", "waiting"),
    "reward: waiting-difference": ("--reward", "waiting-difference"),
    "reward: pressure": ("--reward", "pressure"),
    "no message among phases": ("--phase-rounds", "0"),
    "one message round among vehicles": ("--vehicle-rounds", "1"),
}
_SLOWEST = 20.0  # decisions per s
FIRST_SEED = 1001  # of the episodes that variants are judged by: what is chosen here is judged elsewhere by others


@dataclass(frozen=True)
class Settings:
    """What is trained, and how often."""

    scenario: str = "resco:cologne1"
    """The scenario."""
    decisions: int = 16_000
    """Of each run."""
    runs: int = 3
    """Training runs of each variant, with the seeds 1, 2, …"""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which of them."""
    seeds: int = 10
    """Episodes that a policy is judged by."""


def measure(settings: Settings) -> dict[str, Any]:
    """A row for each variant: ``delay`` summed up over training seeds, ``delays`` of each, ``gridlocked`` episodes.

    Runs that fail are left out; ``failed`` has what they said.
    """
    court = Court(settings.scenario, range(FIRST_SEED, FIRST_SEED + settings.seeds))
    jobs = [(variant, seed) for variant in settings.variants for seed in range(1, settings.runs + 1)]
    failed: list[str] = []
    running: list[TrainingRun] = []
    over = Event()
    with tempfile.TemporaryDirectory() as folder:

        def train(job: tuple[str, int]) -> Path | None:
            place = Path(folder) / f"{jobs.index(job)}"
            place.mkdir()
            run = TrainingRun(flags(settings, *job), place)
            running.append(run)
            try:
                if over.is_set():  # whoever ends all that is running may have looked before this one was
                    return None
                run.finish(within=settings.decisions / _SLOWEST)
            except ContestError as error:
                failed.append(str(error))
                say(str(error))
                return None
            finally:
                run.kill()
                running.remove(run)
            return checkpoints.latest(run.folder / "checkpoints")

        free = deque(sorted(os.sched_getaffinity(0))[: cores()])

        def settle() -> None:
            """Each thread, and the runs that it starts, on a processor of its own."""
            os.sched_setaffinity(0, {free.popleft()})

        with ThreadPoolExecutor(len(free), initializer=settle) as several:
            try:
                trained = dict(zip(jobs, several.map(train, jobs), strict=True))
            except BaseException:  # nobody waits for the rest
                over.set()
                several.shutdown(wait=False, cancel_futures=True)
                for run in list(running):
                    run.kill()
                raise
        rows = []
        for variant in settings.variants:
            say(f"ablation: {variant}")
            paths = [trained[variant, seed] for seed in range(1, settings.runs + 1)]
            if own := [court.judge_checkpoint(path) for path in paths if path is not None]:
                rows.append({"variant": variant, "flags": " ".join(VARIANTS[variant]), **over_runs(own)})
    return {"rows": rows, "failed": failed}


def flags(settings: Settings, variant: str, seed: int) -> dict[str, str]:
    """The flags of a run."""
    own = dict(zip(VARIANTS[variant][::2], VARIANTS[variant][1::2], strict=True))
    return {
        "--scenario": settings.scenario,
        "--num-envs": "4",
        "--num-collectors": "0",
        "--total-decisions": f"{settings.decisions}",
        "--time-limit": "none",
        "--eval-seeds": "0",
        "--seed": f"{seed}",
        **own,
    }


def over_runs(judged: Sequence[Row]) -> Row:
    """Several training runs in one row, each by the mean delay of its last checkpoint."""
    delays = [row["delay"]["mean"] for row in judged]
    return {
        "delay": Summary.of(delays).as_dict(),
        "delays": delays,
        "gridlocked": sum(row["gridlocked"] for row in judged),
    }


if __name__ == "__main__":
    script.run(Settings, measure, "ablation", __doc__, room="results")
