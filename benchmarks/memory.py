"""Memory of a training run, all its processes: by the number of simulations, and over hundreds of episodes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.spread import Spread
from benchmarks.training_run import TrainingRun, training_run
from benchmarks.usage import pss, tree
from pages import script

_LOOK = 0.5  # s between two looks at the memory of all processes
_LIMIT = 600.0  # s for one run


@dataclass(frozen=True)
class Settings:
    """Which runs, and for how long."""

    network: str = "resco:cologne8"
    """Scenario by name."""
    counts: tuple[int, ...] = (4, 5, 8)
    """How many simulations train together."""
    seconds: float = 16.0
    """Seconds of training, of which the second half is looked at."""
    long_count: int = 4
    """How many simulations train in the long run."""
    long_episodes: int = 300
    """Episodes of each of them there."""
    episode_seconds: float = 300.0
    """Simulated seconds of an episode there."""


QUICK = Settings("single", counts=(1, 2), seconds=3.0, long_count=1, long_episodes=30, episode_seconds=60.0)


def measure(settings: Settings) -> dict[str, Any]:
    """``rows``: bytes (PSS) of all processes of a run, by its number of simulations; ``per_env``: of each further one.

    ``long``: the same over a long run, see ``over_episodes``.
    """
    rows: list[dict[str, Any]] = []
    for envs in settings.counts:
        with training_run(flags(settings.network, envs)) as run:
            run.wait_for(lambda row: row["elapsed"] >= settings.seconds / 2, _LIMIT)
            until = time.monotonic() + settings.seconds / 2
            looks = [pss(tree(run.pid))]
            while time.monotonic() < until:
                time.sleep(_LOOK)
                looks.append(pss(tree(run.pid)))
            run.finish(ask=True)
        rows.append({"envs": envs, "bytes": Spread.of(looks).as_dict()})
    first, last = rows[0], rows[-1]
    further = (last["bytes"]["median"] - first["bytes"]["median"]) / (last["envs"] - first["envs"])
    return {"network": settings.network, "rows": rows, "per_env": further, "long": over_episodes(settings)}


def flags(network: str, envs: int) -> dict[str, str]:
    """The flags of a run that goes on until it is asked to end."""
    return {"--scenario": network, "--num-envs": f"{envs}", "--time-limit": f"{_LIMIT:g}", "--eval-seeds": "0"}


def over_episodes(settings: Settings) -> dict[str, Any]:
    """Memory while many short episodes go by.

    ``curve``: pairs of episodes (per simulation) and bytes; ``first_third`` and ``last_third``: medians of them.
    """
    short = {"--episode-seconds": f"{settings.episode_seconds:g}"}
    with training_run(flags(settings.network, settings.long_count) | short) as run:
        run.wait_for(lambda row: row["episodes"] >= settings.long_count, _LIMIT)
        curve = _watch(run, settings)
        run.finish(ask=True)
    first, last = thirds([memory for _, memory in curve])
    return {
        "envs": settings.long_count,
        "episode_seconds": settings.episode_seconds,
        "curve": curve,
        "first_third": first,
        "last_third": last,
    }


def _watch(run: TrainingRun, settings: Settings) -> list[tuple[float, int]]:
    """Look at the memory of a run until it has had all its episodes."""
    curve: list[tuple[float, int]] = []
    until = time.monotonic() + _LIMIT
    while time.monotonic() < until:
        episodes = run.wait_for(lambda row: True, 0.0)["episodes"] / settings.long_count
        if episodes >= settings.long_episodes:
            break
        curve.append((episodes, pss(tree(run.pid))))
        time.sleep(_LOOK)
    return curve


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last third."""
    count = max(1, len(values) // 3)
    return statistics.median(values[:count]), statistics.median(values[-count:])


if __name__ == "__main__":
    script.run(Settings, measure, "memory", __doc__)
