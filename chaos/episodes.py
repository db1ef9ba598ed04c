"""Thousands of episodes: no process of a run grows, neither in memory nor in open files."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos.harm import Result, Status, adds_up, check_books, ends_well, learns, noting, shown, start, wait_until
from tests.support.runs import TrainRun

ENVS = 4
# Episodes of six decisions.
FLAGS = ("--scenario", "single", "--episode-seconds", "60", "--num-envs", str(ENVS), "--checkpoint-every", "10")
_FIFTHS = 5  # of the looks at a process: the first is warm-up, the second is held against the last
_HELPERS = 3  # a run itself, forkserver, resource tracker; then there are collectors
_GLIMPSES = 15  # looks at a process, or fewer: it had just come, or was about to go


@dataclass(frozen=True)
class Settings:
    """How many episodes, s between two looks, and s without one that ends until it is given up."""

    episodes: int = 10_000
    every: float = 0.2
    patience: float = 60.0
    growth: float = 0.02  # of each process, at most


# Too short for caches and heaps to have settled: what is held is that nobody grows without end.
QUICK = Settings(episodes=600, every=0.05, growth=0.1)


@dataclass
class Curve:
    """What one process used, look by look."""

    name: str  # what it is; SUMOs that take each other's place share it
    episodes: list[int] = field(default_factory=list)  # of the run that had ended by then
    memory: list[int] = field(default_factory=list)  # bytes, resident; what is shared counts in full
    files: list[int] = field(default_factory=list)  # open descriptors

    def early(self, values: list[int]) -> list[int]:
        """Those of the second fifth of its life."""
        return values[len(values) // _FIFTHS : 2 * len(values) // _FIFTHS]

    def late(self, values: list[int]) -> list[int]:
        """Those of the last fifth."""
        return values[-(len(values) // _FIFTHS) :]

    @property
    def growth(self) -> float:
        """Of its memory, after its warm-up."""
        return statistics.median(self.late(self.memory)) / statistics.median(self.early(self.memory)) - 1

    @property
    def more_files(self) -> int:
        """Open files at its end that were not open after its warm-up."""
        return min(self.late(self.files)) - min(self.early(self.files))


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Collect and learn from very many short episodes, and look at every process all the while."""
    result = Result(
        f"{settings.episodes:,} episodes, one after the other",
        f"{shown(*FLAGS)}. The smallest scenario and episodes of six decisions, as many as possible in a minute. Every "
        "process is held against itself after its own warm-up, a fifth of its life. SUMO 1.28 loses about 1 KB with "
        "each episode that it loads, so a SUMO is replaced after 500 of them (`envs/traci_session.py`): each one is "
        "judged by itself, by its process id.",
    )
    with start(folder, *FLAGS) as run, noting(result, "the run lives through it"):
        learns(run)
        curves, seconds = _watch(run, settings)
        _judge(result, curves, settings)
        result.figures["episodes per second"] = round(settings.episodes / seconds, 1)
        check_books(run, result)
        ends_well(run, result)
    return result


def _watch(run: TrainRun, settings: Settings) -> tuple[list[Curve], float]:
    """Look at every process until all episodes have ended; returns the curves and how many s it took."""
    curves: dict[int, Curve] = {}
    began = time.monotonic()
    ended, moved = 0, began
    while ended < settings.episodes:
        status = wait_until(run, adds_up, "slots that add up")
        if status["episodes"] > ended:
            ended, moved = status["episodes"], time.monotonic()
        assert time.monotonic() - moved < settings.patience, f"no episode has ended for {settings.patience:g} s"
        names = _names(run, status)
        for process in run.processes():
            with suppress(psutil.NoSuchProcess):  # it has just ended: the checks will miss it
                curve = curves.setdefault(process.pid, Curve(_helper(process)))
                curve.name = names.get(process.pid, curve.name)  # of one that has just come nobody has told yet
                curve.episodes.append(ended)
                curve.memory.append(process.memory_info().rss)
                curve.files.append(process.num_fds())
        time.sleep(settings.every)
    return list(curves.values()), time.monotonic() - began


def _names(run: TrainRun, status: Status) -> dict[int, str]:
    """Which process is what."""
    names = {run.process.pid: "parent"}
    for row in status["collectors"]:
        names[row["pid"]] = f"collector {row['collector']}"
        names |= {pid: f"SUMO {env}" for env, pid in zip(row["envs"], row["sumo"], strict=False)}
    return names


def _helper(process: psutil.Process) -> str:
    """What a process is that no status tells of."""
    line = " ".join(process.cmdline())
    return next((name for name in ("resource_tracker", "forkserver") if name in line), f"helper {process.pid}")


def _judge(result: Result, curves: list[Curve], settings: Settings) -> None:
    """Note how much every process has grown since its warm-up."""
    seen = [curve for curve in curves if len(curve.memory) > _GLIMPSES]
    sumos = [curve for curve in seen if curve.name.startswith("SUMO")]
    others = [curve for curve in seen if curve not in sumos]
    envs = {curve.name for curve in sumos}
    whole = all(curve.episodes[0] <= settings.episodes // _FIFTHS for curve in others)
    whole = whole and all(curve.episodes[-1] >= settings.episodes for curve in others)
    looked_at = f"{len(others)}, and {len(sumos)} SUMOs of {len(envs)} envs, one after the other"
    what = "all but SUMOs live from the beginning to the end, and a SUMO of every env was looked at"
    result.check(what, whole and len(others) > _HELPERS and len(envs) == ENVS, looked_at)
    most = max(seen, key=lambda curve: curve.growth)
    what = f"no process grows by more than {settings.growth:.0%} after its warm-up"
    result.check(what, most.growth < settings.growth, f"{len(seen)}, the most: {most.name}, {most.growth:+.2%}")
    most = max(seen, key=lambda curve: curve.more_files)
    what = "no process has more open files at its end, but one for whoever asks for the status"
    result.check(what, most.more_files <= 1, f"{len(seen)}, the most: {most.name}, {most.more_files:+d}")
    _note(result, seen)


def _note(result: Result, seen: list[Curve]) -> None:
    """Keep the curves, and of each name the one that grew most."""
    for name in sorted({curve.name for curve in seen}):
        own = [curve for curve in seen if curve.name == name]
        most = max(own, key=lambda curve: curve.growth)
        result.figures[name] = {
            "processes": len(own),
            "MiB after its warm-up": round(statistics.median(most.early(most.memory)) / 2**20, 2),
            "MiB at its end": round(statistics.median(most.late(most.memory)) / 2**20, 2),
            "growth in %": round(100 * most.growth, 2),
            "open files": most.files[-1],
        }
        looks = [look for curve in own for look in zip(curve.episodes, curve.memory, strict=True)]
        result.series[f"{name}, MiB"] = [[episodes, size / 2**20] for episodes, size in looks]
