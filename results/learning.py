"""Training as a user starts it, with the one profile, and its policy as it was at some moments of wall time.

A moment counts from the start of the process, so that imports and the start of SUMO are in it. Its policy is the newest
checkpoint that was written by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import ContestError
from benchmarks.training_run import TrainingRun, training_run
from learner import checkpoints
from pages import script
from pages.output import say
from results.protocol import Court, Row, seeds

_CURVE = 200  # points of a learning curve that are kept
_DRAWN = ("trained", "decisions", "delay", "gridlocked")  # and "delay/NAME" where there are several scenarios


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long, and where it is judged."""

    scenario: str = "resco:cologne1"
    """The scenario or scenarios to train on, as train_rl.py takes them."""
    minutes: float = 5.0
    """Of training; the start of the process is not in them."""
    moments: tuple[float, ...] = (30.0, 60.0, 120.0, 300.0)
    """Seconds after the start of the process at which the policy is judged; the last checkpoint is judged anyway."""
    runs: int = 1
    """Training runs, with the seeds 1, 2, …"""
    judged_on: tuple[str, ...] = ()
    """Scenarios to judge it on; none: those that it is trained on."""
    envs: int = 4
    """Simulations at once."""
    seeds: int = 20
    """Episodes that a policy is judged by."""
    checkpoint_every: float = 5.0
    """Seconds between checkpoints, so that there is one soon before each moment."""


@dataclass(frozen=True)
class Snapshot:
    """A policy as it was ``wall`` s after the start of the process, ``moment`` s being asked for; None at the end."""

    path: Path
    wall: float
    moment: float | None


def measure(settings: Settings) -> dict[str, Any]:
    """``rows``: what each snapshot of each run is worth on each network. ``runs``: curve and command of each run.

    A run that fails leaves none of both, but ``failed``, with what it said.
    """
    courts = [Court(name, seeds(settings.seeds)) for name in settings.judged_on or settings.scenario.split(",")]
    rows: list[Row] = []
    runs: list[Row] = []
    failed: list[str] = []
    for seed in range(1, settings.runs + 1):
        with training_run(flags(settings, seed)) as run:
            try:
                run.finish(within=60.0 * settings.minutes)
            except ContestError as error:
                failed.append(str(error))
                say(str(error))
                continue
            for snapshot in snapshots(run, settings.moments):
                decisions = checkpoints.load(snapshot.path)["counters"]["decisions"]
                for court in courts:
                    say(f"seed {seed}, {snapshot.wall:.0f} s: on {court.name}")
                    about = {"seed": seed, "moment": snapshot.moment, "wall": snapshot.wall, "network": court.name}
                    rows.append({**about, "decisions": decisions, **court.judge_checkpoint(snapshot.path)})
            runs.append({"seed": seed, "command": f"python {' '.join(run.arguments)}", "curve": curve(run.rows())})
    return {"scenario": settings.scenario, "rows": rows, "runs": runs, "failed": failed}


def flags(settings: Settings, seed: int) -> dict[str, str]:
    """The flags of a run: the default profile but for its length, and checkpoints to look back at."""
    return {
        "--scenario": settings.scenario,
        "--num-envs": f"{settings.envs}",
        "--time-limit": f"{60.0 * settings.minutes:g}",
        "--eval-seeds": "0",
        "--seed": f"{seed}",
        "--checkpoint-every": f"{settings.checkpoint_every:g}",
        "--keep-checkpoints": f"{2 + int(60.0 * settings.minutes / settings.checkpoint_every)}",
    }


def snapshots(run: TrainingRun, moments: Sequence[float]) -> Iterator[Snapshot]:
    """The checkpoints of a run that are to be judged, the last one last; a moment before the first has none."""
    written = sorted((path.stat().st_mtime - run.began, path) for path in (run.folder / "checkpoints").glob("*.pt"))
    for moment in moments:
        before = [(wall, path) for wall, path in written if wall <= moment]
        if before:
            wall, path = before[-1]
            yield Snapshot(path, wall, moment)
    wall, path = written[-1]
    yield Snapshot(path, wall, None)


def curve(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """What ``report.curves`` draws, thinned out."""
    known = [row for row in rows if row.get("delay") is not None]
    kept = known[:: max(1, len(known) // _CURVE)]
    return [{name: row[name] for name in row if name in _DRAWN or name.startswith("delay/")} for row in kept]


if __name__ == "__main__":
    script.run(Settings, measure, "learning", __doc__, room="results")
