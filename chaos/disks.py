"""Disks and folders that fail: full, deleted, without the socket, with half a checkpoint."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.harm import (
    SINGLE,
    Result,
    ask,
    check_checkpoint,
    ends_well,
    learns,
    noting,
    shown,
    start,
    try_to_ask,
    with_tmpfs,
)
from learner import checkpoints
from tests.support.runs import TrainRun

# How a run says it.
_NO_CHECKPOINT = "training goes on without a checkpoint"
_NO_METRICS = "gets no records until it can be written again"
_MADE_AGAIN = "made again"
_FLAGS = (*SINGLE, "--checkpoint-every", "1")
_RESUME = ("--resume", "--time-limit", "none", "--checkpoint-every", "1")


@dataclass(frozen=True)
class Settings:
    """MiB of the small disk, how often it is filled, and how many checkpoints are damaged."""

    size: int = 40
    fillings: int = 2
    deletions: int = 3
    cuts: int = 500


QUICK = Settings(fillings=1, deletions=1, cuts=20)


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Take the disk away in every way, one after the other."""
    result = Result(
        "The disk is full, the run folder or its socket is deleted, the newest checkpoint is half-written",
        f"{shown(*_FLAGS)}. The smallest scenario: checkpoints and metrics are written as often as anywhere.",
    )
    _full(settings, folder / "full", result)
    _deleted(settings, folder / "deleted", result)
    _half_written(settings, folder / "deleted", result, random.Random(seed))  # its folder has been made again
    return result


def _full(settings: Settings, folder: Path, result: Result) -> None:
    """Fill the disk that a run writes to, make room again, as often as asked for."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    flags = ("--run-dir", str(disk / "run"))
    with (
        start(folder, *_FLAGS, *flags, program=with_tmpfs(disk, settings.size)) as run,
        _seen_from_here(run, disk) as small,
    ):
        run.folder = small / "run"
        with noting(result, "full disk: said; training, and later checkpoints and metrics, go on"):
            took = [_fill_once(run, small / "large", result) for _ in range(settings.fillings)]
            seen = f"{len(took)} of {settings.fillings} times"
            result.check("full disk: said; training, and later checkpoints and metrics, go on", True, seen)
            result.figures["s until a full disk is said"] = round(max(took), 1)
        ends_well(run, result, "full disk: the run is unharmed")
        check_checkpoint(run, result, "full disk: the last checkpoint loads")


def _fill_once(run: TrainRun, large: Path, result: Result) -> float:
    """Fill the disk and make room again; returns the s that it took until the run said so."""
    steps = _steps(run)
    run.wait_for(lambda: _steps(run) > steps, "another checkpoint")
    words = [run.output.count(one) for one in (_NO_CHECKPOINT, _NO_METRICS)]
    began = time.monotonic()
    _fill(large)
    run.wait_for(lambda: run.output.count(_NO_CHECKPOINT) > words[0], "word of the full disk")
    took = time.monotonic() - began
    run.wait_for(lambda: run.output.count(_NO_METRICS) > words[1], "word of lost metrics")
    learns(run)
    check_checkpoint(run, result, "full disk: the checkpoint before is intact")
    full, rows = _steps(run), len(run.metrics())
    large.unlink()
    run.wait_for(lambda: _steps(run) > full and len(run.metrics()) > rows, "checkpoints and metrics")
    return took


def _deleted(settings: Settings, folder: Path, result: Result) -> None:
    """Delete the socket, then the whole folder, of a run that lives."""
    with start(folder, *_FLAGS) as run:
        took = {}
        for name, delete in (("socket", _delete_socket), ("run folder", _delete_folder)):
            what = f"{name} deleted: said, made again, steering works again"
            with noting(result, what):
                took[name] = max(_delete_once(run, delete) for _ in range(settings.deletions))
                result.check(what, True, f"{settings.deletions} times, after {took[name]:.1f} s at most")
        with noting(result, "run folder deleted: checkpoints and metrics go on"):
            run.wait_for(lambda: len(_names(run)) > 1 and len(run.metrics()) > 1, "checkpoints and metrics")
            seen = f"{', '.join(_names(run))}, {len(run.metrics())} rows of metrics"
            result.check("run folder deleted: checkpoints and metrics go on", True, seen)
        ends_well(run, result, "run folder deleted: the run is unharmed")
        check_checkpoint(run, result, "run folder deleted: the last checkpoint loads")
        result.figures["s until steering works again"] = {name: round(value, 1) for name, value in took.items()}


def _delete_once(run: TrainRun, delete: Callable[[TrainRun], None]) -> float:
    """Delete something; returns the s that it took until the run answered again."""
    learns(run)
    rows = len(run.metrics())
    run.wait_for(lambda: len(run.metrics()) > rows + 1, "peace")  # what comes twice in a second is said once
    words = run.output.count(_MADE_AGAIN)
    began = time.monotonic()
    delete(run)
    run.wait_for(lambda: try_to_ask(run, "status"), "an answer")
    took = time.monotonic() - began
    run.wait_for(lambda: run.output.count(_MADE_AGAIN) > words, "word of it")
    ask(run, "pause")
    ask(run, "resume")
    return took


def _half_written(settings: Settings, folder: Path, result: Result, chance: random.Random) -> None:
    """Cut and bend the newest checkpoint of a run that has ended in many places, then resume it."""
    before, newest = sorted((folder / "run" / "checkpoints").glob("step-*.pt"))[-2:]
    content = newest.read_bytes()
    taken = []
    logging.disable(logging.WARNING)  # each is warned of
    for number in range(settings.cuts):
        place = chance.randrange(len(content))
        bent = content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
        newest.write_bytes(content[:place] if number % 2 else bent)
        taken.append(checkpoints.latest(newest.parent))
    logging.disable(logging.NOTSET)
    passed = sum(one == before for one in taken)
    seen = f"{passed} of {settings.cuts} passed over"
    result.check("a checkpoint cut or bent anywhere is passed over", passed == settings.cuts, seen)
    newest.write_bytes(content[: len(content) // 2])
    with TrainRun(folder, *_RESUME) as again:
        again.wait_for_output("goes on from")
        line = _line(again, "goes on from")
        result.check("--resume takes the one before, and says so", before.name in line, line)
        named = newest.name in again.errors
        result.check("the damaged one is named", named, again.errors.strip()[-200:])
        ends_well(again, result, "a run so resumed is unharmed")


@contextlib.contextmanager
def _seen_from_here(run: TrainRun, place: Path) -> Iterator[Path]:
    """The file system that a run alone has mounted in a place, also after its end."""
    seen = Path(f"/proc/{run.process.pid}/root{place}")
    run.wait_for(lambda: seen.exists() and seen.stat().st_dev != place.stat().st_dev, "its own file system")
    descriptor = os.open(seen, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def _delete_socket(run: TrainRun) -> None:
    (run.folder / "control.sock").unlink()


def _delete_folder(run: TrainRun) -> None:
    """All of it at one instant."""
    gone = run.folder.with_name("gone")
    run.folder.rename(gone)
    shutil.rmtree(gone)


def _names(run: TrainRun) -> list[str]:
    """The checkpoints that there are; they sort by step."""
    return sorted(path.name for path in (run.folder / "checkpoints").glob("step-*.pt"))


def _steps(run: TrainRun) -> str:
    """The newest of them."""
    return max(_names(run), default="")


def _line(run: TrainRun, words: str) -> str:
    return next(line for line in run.output.splitlines() if words in line)
