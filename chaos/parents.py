"""Parents killed: of a run, of one rank, of all ranks. Everything goes with them, and the run can be gone on with."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from chaos.harm import Result, ask, check_checkpoint, learns, noting, shown, start, wait_until
from chaos.processes import pids
from chaos.ranks import RANKS, SINGLE_THREAD, TORCHRUN, both_ranks, rank_of
from learner import checkpoints
from tests.support.leftovers import GONE
from tests.support.runs import TrainRun
from tests.support.waiting import wait_for

_STALL_LIMIT = 10.0  # s
_SAVING = ("--checkpoint-every", "2", "--episode-seconds", "300", "--stall-limit", f"{_STALL_LIMIT:g}")


@dataclass(frozen=True)
class Settings:
    """How many runs lose their parent, how many one of two ranks, without and with torchrun, and how many torchrun."""

    parents: int = 10
    ranks: int = 2
    watched_ranks: int = 2
    launchers: int = 1


QUICK = Settings(parents=1, ranks=1, watched_ranks=0, launchers=0)


class Phase(NamedTuple):
    """A phase in the life of a run: its flags, how it is reached, and s within which the parent is killed then."""

    name: str
    flags: str = ""
    reach: Callable[[TrainRun], object] = lambda run: None
    early: float = 0.0
    late: float = 2.0
    saved: bool = True  # has a checkpoint by then


def _work(run: TrainRun) -> None:
    """Let a run learn until it has a checkpoint to go on from."""
    learns(run)
    run.wait_for(lambda: checkpoints.latest(run.folder / "checkpoints"), "a checkpoint")


def _recover(run: TrainRun) -> None:
    """Kill a collector of a run that has a checkpoint; the next one comes half a second later."""
    _work(run)
    number = pids(ask(run, "status"))["collector"][0]
    next(process for process in run.processes() if process.pid == number).kill()


PHASES = (
    Phase("collectors start", reach=lambda run: run.wait_for_output("run folder"), late=1.5, saved=False),
    Phase("learning", reach=_work),
    Phase("learning over libsumo", "--backend libsumo", _work),
    Phase("a killed collector recovers", reach=_recover, late=1.5),
    Phase("importing", early=0.2, late=3.0, saved=False),
    Phase("learning with a loader worker", "--loader-workers 1", _work),
)


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Kill parents at random moments."""
    result = Result(
        "SIGKILL of the parent in every phase, of one of two ranks, of torchrun, and --resume",
        f"{shown(*_SAVING)}, and the flags of each phase. Ranks are started one by one, so that the exit code of the "
        "one that is left can be seen, and nobody else ends it; then by torchrun.",
    )
    chance = random.Random(seed)
    for number in range(settings.parents):
        with noting(result, "the parent of a run is killed, and it is gone on with"):
            _kill_parent(folder / f"parent-{number}", PHASES[number % len(PHASES)], chance, result)
    for number in range(settings.ranks):
        with noting(result, "one of two ranks is killed, and the run is gone on with"):
            _kill_rank(folder / f"rank-{number}", (number + seed) % 2, chance, result)
    for number in range(settings.watched_ranks):
        with noting(result, "one of torchrun's two ranks is killed, and the run is gone on with"):
            _kill_watched_rank(folder / f"watched-{number}", (number + seed) % 2, chance, result)
    for number in range(settings.launchers):
        with noting(result, "torchrun is killed, and the run is gone on with"):
            _kill_launcher(folder / f"launcher-{number}", chance, result)
    return result


def _kill_parent(folder: Path, phase: Phase, chance: random.Random, result: Result) -> None:
    """Kill the process of a run; then go on with another number of envs, where there is something to go on from."""
    what = f"parent killed while {phase.name}"
    with start(folder, *_SAVING, *phase.flags.split()) as run:
        phase.reach(run)
        time.sleep(chance.uniform(phase.early, phase.late))
        seconds = _kill(run, psutil.Process(run.process.pid))
        result.check(f"{what}: all gone within {GONE:g} s", seconds < GONE, f"after {seconds:.2f} s", timed=True)
        result.figures.setdefault("s until all are gone", {}).setdefault(phase.name, []).append(round(seconds, 2))
        _check_left(run, result, what)
        if phase.saved:
            check_checkpoint(run, result)
    if phase.saved:
        _resume(folder, chance.choice([1, 2, 3, 6]), result)


def _kill_rank(folder: Path, rank: int, chance: random.Random, result: Result) -> None:
    """Kill one of two ranks that nobody watches over; then go on with one."""
    what = f"rank {rank} of 2 killed"
    with both_ranks(folder, *_SAVING) as runs:
        _work(runs[0])
        time.sleep(chance.uniform(0.0, 2.0))
        victim, other = runs[rank], runs[1 - rank]
        began = time.monotonic()
        victim.process.kill()
        with suppress(subprocess.TimeoutExpired):
            other.process.wait(2 * _STALL_LIMIT)
        seconds, code = time.monotonic() - began, other.process.returncode
        in_time = code is not None and seconds < _STALL_LIMIT
        result.check(f"{what}: the other ends within the stall limit", in_time, f"{seconds:.2f} s", timed=True)
        result.check(f"{what}: the other's exit code is 1", code == 1, f"exit code {code}")
        _check_words(other, result, what)
        victim.process.wait(GONE)
        for run in runs:
            _check_left(run, result, what)
        check_checkpoint(runs[0], result)
    _resume(folder, 3, result)


def _kill_watched_rank(folder: Path, rank: int, chance: random.Random, result: Result) -> None:
    """Kill one of torchrun's two ranks; then go on with one."""
    what = f"rank {rank} of torchrun's 2 killed"
    with start(folder, *RANKS, *_SAVING, program=TORCHRUN, environment=SINGLE_THREAD) as run:
        _work(run)
        time.sleep(chance.uniform(0.0, 2.0))
        victim, other = rank_of(run, rank), rank_of(run, 1 - rank)
        began = time.monotonic()
        victim.kill()
        wait_for(lambda: not _lives(other), f"{what}: the end of the other", 2 * _STALL_LIMIT)
        seconds = time.monotonic() - began
        result.check(
            f"{what}: the other ends within the stall limit", seconds < _STALL_LIMIT, f"{seconds:.2f} s", timed=True
        )
        _check_words(run, result, what)
        code = run.process.wait(60.0)
        result.check(f"{what}: torchrun's exit code is 1", code == 1, f"exit code {code}")
        _check_left(run, result, what)
        check_checkpoint(run, result)
    _resume(folder, 3, result)


def _kill_launcher(folder: Path, chance: random.Random, result: Result) -> None:
    """Kill ``torchrun``, whose ranks it leaves to themselves."""
    with start(folder, *RANKS, *_SAVING, program=TORCHRUN, environment=SINGLE_THREAD) as run:
        _work(run)
        time.sleep(chance.uniform(0.0, 2.0))
        seconds = _kill(run, psutil.Process(run.process.pid))
        result.check(
            f"torchrun killed: all gone within {GONE:g} s", seconds < GONE, f"after {seconds:.2f} s", timed=True
        )
        _check_left(run, result, "torchrun killed")
        check_checkpoint(run, result)
    _resume(folder, 4, result)


def _check_words(run: TrainRun, result: Result, what: str) -> None:
    """Check that a rank says that it has lost another."""
    said = [line for line in run.errors.splitlines() if line.startswith("error: ")]
    result.check(f"{what}: the other says why", any("another rank" in line for line in said), "; ".join(said))


def _kill(run: TrainRun, victim: psutil.Process) -> float:
    """Kill a process; returns the s until all of the run are gone, or 4 times what they may take."""
    victim.kill()
    began = time.monotonic()
    with suppress(AssertionError):
        wait_for(lambda: not run.processes(), "the end of all processes", 4 * GONE)
    return time.monotonic() - began


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _check_left(run: TrainRun, result: Result, what: str) -> None:
    """Check that nothing is left but what has a path in the run's folder: sockets, a checkpoint half written."""
    left = [path for path in run.folder.rglob("*") if path.is_socket() or "unfinished" in path.name]
    aside = {path: run.folder.parent / path.name for path in left}
    for path, place in aside.items():
        path.rename(place)
    try:
        run.assert_nothing_left()
        result.check(f"{what}: nothing left behind", True, f"in the run's folder: {[path.name for path in left]}")
    except AssertionError as error:
        result.check(f"{what}: nothing left behind", False, error)
    for path, place in aside.items():
        place.rename(path)


def _resume(folder: Path, num_envs: int, result: Result) -> None:
    """Check that a run goes on where its last checkpoint stands, with another number of envs."""
    newest = checkpoints.latest(folder / "run" / "checkpoints")
    known = checkpoints.load(newest)["counters"]["decisions"] if newest is not None else 0
    flags = ("--resume", "--backend", "traci", "--num-envs", str(num_envs), "--num-collectors", "1")
    with start(folder, *_SAVING, *flags) as run:
        learns(run)
        status = wait_until(run, lambda status: status["figures"].get("decisions", 0) > known, "another decision")
        decisions = status["figures"]["decisions"]
        ask(run, "stop")
        run.finish()
    holds = status["num_envs"] == num_envs and decisions > known > 0
    seen = f"goes on from {known:,} decisions with {status['num_envs']} envs: {decisions:,.0f}"
    result.check("--resume goes on, with another number of envs", holds, seen)
