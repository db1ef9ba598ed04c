"""Too little shared memory: said at the start, with the number and the flag, and not a bus error later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from chaos.harm import SINGLE, Result, adds_up, ask, ends_well, learns, noting, shown, start, wait_until, with_tmpfs
from collectors.errors import ControlError

_SHM = Path("/dev/shm")
_NEED = re.compile(r"(\d+) MiB of shared memory are needed at once and (\d+) MiB are free; lower --queue-size, ")
_LARGE = ("--episode-seconds", "400", "--slot-vehicles", "2000")  # slots of some 2 MB
_LEAST = 4  # fragments in the queue: one per env

_SMALL = (*SINGLE, "--queue-size", "24", "--slot-vehicles", "1000")


@dataclass(frozen=True)
class Settings:
    """MiB of /dev/shm, as containers have; slots to begin with; envs that the run is scaled to."""

    size: int = 64
    queue_size: int = 128
    num_envs: int = 64
    loader_workers: int = 1


QUICK = Settings(loader_workers=0)


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Start a run that is too large, then follow its advice, then let one grow beyond what there is."""
    result = Result(
        f"A container's /dev/shm of {settings.size} MB, and a run that needs more",
        f"{shown(*_LARGE)}, with a shorter and shorter `--queue-size`; then {shown(*_SMALL)}, which fits and is scaled "
        "up to more than there is: the smallest scenario, as only the size of its slots counts.",
    )
    with noting(result, "with fewer slots, as advised, it trains"):
        _refuse(settings, folder, result)
    _grow(settings, folder, result)
    return result


def _refuse(settings: Settings, folder: Path, result: Result) -> None:
    """Lower the queue's size as long as the run is refused and says so; then it must train."""
    queue_size, refusals = settings.queue_size, 0
    while True:
        flags = (*_LARGE, "--queue-size", str(queue_size), "--loader-workers", str(settings.loader_workers))
        with start(folder / f"queue-{queue_size}", *flags, program=with_tmpfs(_SHM, settings.size)) as run:
            run.wait_for(lambda: run.process.poll() is not None or "run folder" in run.output, "a refusal or a start")
            if run.process.poll() is None:
                learns(run)
                result.check("too large a run is refused", refusals, f"{refusals} refusals until it fits")
                result.check("with fewer slots, as advised, it trains", True, f"--queue-size {queue_size}")
                ends_well(run, result, "with fewer slots: the run is unharmed")
                return
            found = _NEED.search(run.errors)
            right = run.process.returncode == 2 and run.errors.count("\n") == 1 and found is not None
            result.check(f"--queue-size {queue_size}: refused with exit code 2, one line", right, run.errors.strip())
            run.assert_nothing_left()
            refusals += 1
        assert found is not None, run.errors
        assert queue_size > _LEAST, "refused with the shortest queue, too"
        needed, free = map(int, found.groups())
        queue_size = max(_LEAST, min(queue_size - _LEAST, queue_size * free // needed // _LEAST * _LEAST))


def _grow(settings: Settings, folder: Path, result: Result) -> None:
    """Scale a run up to more than there is."""
    with start(folder / "grows", *_SMALL, program=with_tmpfs(_SHM, settings.size)) as run:
        slots = sum(learns(run)["queue"].values())
        what = "scale beyond it is refused, with the number and the flags"
        try:
            reply = ask(run, "scale", num_envs=settings.num_envs)
            result.check(what, False, f"it was not: {reply['num_envs']} envs")
        except ControlError as error:
            result.check(what, _NEED.search(str(error)), error)
        with noting(result, "what was taken for it is given back"):
            status = wait_until(run, lambda status: adds_up(status, slots), f"{slots} slots")
            result.check("what was taken for it is given back", status["num_envs"] == 2, status["queue"])
        ask(run, "scale", num_envs=3)
        with noting(result, "what does fit is still to be had"):
            status = wait_until(run, lambda status: adds_up(status, slots // 2 * 3), "one env more")
            result.check("what does fit is still to be had", status["num_envs"] == 3, f"{status['num_envs']} envs")
        ends_well(run, result, "the run that was to grow is unharmed")
