"""A run that grows beyond its memory budget: it warns, rests, and goes on by itself when there is room again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from chaos.harm import SINGLE, Result, Status, ask, ends_well, learns, noting, shown, start, wait_until
from tests.support.runs import TrainRun

# Slots of some 4 MB, so that every env takes about 100 MB.
_LARGE = (*SINGLE, "--num-collectors", "2", "--queue-size", "48", "--slot-vehicles", "7000")
_WARNING = "the run is close to its memory budget"


@dataclass(frozen=True)
class Settings:
    """How often a run is brought over its budget; envs that it then has."""

    times: int = 2
    num_envs: int = 8


QUICK = Settings(times=1)


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """See what a run takes with few envs and with many; then give one a budget in between, and scale it up and down."""
    result = Result(
        "The run grows beyond its memory budget",
        f"{shown(*_LARGE)}. The smallest scenario, and large slots: its memory is theirs, some 100 MB with every env.",
    )
    few, many = _measure(settings, folder / "measured")
    budget = int(many / 1.05)
    result.figures["MiB"] = {"2 envs": few >> 20, f"{settings.num_envs} envs": many >> 20, "budget": budget >> 20}
    result.check("a budget lies between few envs and many", few < 0.78 * budget, result.figures["MiB"])
    with start(folder / "over", *_LARGE, "--memory-budget", str(budget)) as run:
        learns(run)
        rested = []
        for number in range(settings.times):
            with noting(result, f"time {number + 1}: over the budget, collectors rest; below it, they go on"):
                rested.append(_once(settings, run))
        done = f"{len(rested)} of {settings.times} times"
        result.check("over the budget all collectors rest, for memory alone", len(rested) == settings.times, done)
        text = run.output
        warned = text.count(_WARNING)
        over = text.count("the run must come below")
        again = text.count("collectors go on")
        result.check("warned before", warned >= settings.times, f"{warned} warnings")
        emptied = text.count("caches were emptied")
        said = min(over, emptied) >= settings.times and "biggest: " in text
        seen = f"said {over} times, caches emptied {emptied} times"
        result.check("said, with the biggest processes, and caches emptied", said, seen)
        result.check("they go on by themselves", again >= settings.times, f"{again} times")
        rows = [row for row in run.metrics() if row.get("memory_bytes")]
        highest = max(row["memory_bytes"] for row in rows)
        seen = f"{len(rows)} rows, up to {highest / 2**20:.0f} MiB of {budget / 2**20:.0f} MiB"
        result.check("the curve of memory is in the metrics", highest > budget == rows[-1]["memory_budget"], seen)
        result.series = {
            "memory in MiB": [[row["time"] - rows[0]["time"], row["memory_bytes"] / 2**20] for row in rows]
        }
        result.figures["s at rest"] = [round(one, 1) for one in rested]
        ends_well(run, result)
    return result


def _measure(settings: Settings, folder: Path) -> tuple[int, int]:
    """Bytes that a run takes with two envs, and with many."""
    with start(folder, *_LARGE) as run:
        few = _next_figure(run, _figure(learns(run)))
        many = _scale(run, settings.num_envs)
        ask(run, "stop")
        run.finish()
        return few, many


def _figure(status: Status) -> int:
    """What a run takes, in bytes, by its latest look; each finds another number."""
    return int(status["figures"].get("memory_bytes", 0))


def _next_figure(run: TrainRun, known: int) -> int:
    """The same by the next look."""
    return _figure(wait_until(run, lambda status: _figure(status) != known, "another look at its memory"))


def _scale(run: TrainRun, num_envs: int) -> int:
    """Scale a run, and wait until it has seen what it takes then, in bytes."""
    ask(run, "scale", num_envs=num_envs)
    return _next_figure(run, _figure(wait_until(run, lambda status: _has(status, num_envs), f"{num_envs} envs")))


def _once(settings: Settings, run: TrainRun) -> float:
    """Scale a run up until it warns, further until it rests, and down until it goes on; returns the s in between."""
    before = run.output.count(_WARNING)
    num_envs = 4
    while run.output.count(_WARNING) == before:
        num_envs += 1
        _scale(run, num_envs)
    ask(run, "scale", num_envs=max(num_envs, settings.num_envs + 4))
    status = wait_until(run, _rests, "all collectors rest for memory")
    decisions = status["decisions"]
    began = time.monotonic()
    time.sleep(1.0)  # in which nobody may decide
    status = ask(run, "status")
    assert status["decisions"] == decisions, f"it rests and decides: {status['decisions'] - decisions} decisions"
    ask(run, "scale", num_envs=2)
    wait_until(run, lambda status: status["state"] == "running", "collectors go on")
    took = time.monotonic() - began
    learns(run)
    return took


def _rests(status: Status) -> bool:
    """Whether all collectors that have envs rest, for memory and for no other reason."""
    busy = [row for row in status["collectors"] if row["envs"]]
    return status["state"] == "paused" and all(row.get("paused_for") == ["memory"] for row in busy)


def _has(status: Status, num_envs: int) -> bool:
    """Whether so many envs have their SUMO."""
    return sum(len(row["sumo"]) for row in status["collectors"]) == num_envs
