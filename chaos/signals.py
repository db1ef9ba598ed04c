"""Signals at any moment: a run ends as documented, soon, with a checkpoint, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from chaos.harm import SINGLE, Result, Status, ask, learns, noting, shown, start, try_to_ask, wait_until
from chaos.processes import everybody, pids, processes_of
from learner import checkpoints
from learner.errors import CheckpointError
from tests.support.runs import TrainRun, catches

Numbers = tuple[signal.Signals, ...]

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
FIRST: tuple[Numbers, ...] = ((INT,), (TERM,), (HUP,))
# Who passes a signal on that reached everybody anyhow sends it twice, and a closing terminal sends two hangups.
TWICE: tuple[Numbers, ...] = ((INT, INT), (TERM, TERM), (HUP, HUP), (INT, TERM))
SECOND: tuple[Numbers, ...] = ((INT, INT), (TERM, TERM), (HUP, TERM), (INT, TERM))


@dataclass(frozen=True)
class Settings:
    """How many moments get one signal, how many get the same again at once, and how many get a second one later."""

    moments: int = 50
    twice: int = 6
    second: int = 10
    deadline: float = 15.0  # s in which a run must have ended
    at_once: float = 1.0  # s after a second signal


# On a machine that is busy with other tests.
QUICK = Settings(moments=2, twice=0, second=1, deadline=40.0, at_once=5.0)


class Phase(NamedTuple):
    """A phase in the life of a run: its flags, how it is reached, and s within which the signal comes then."""

    name: str
    flags: str = ""
    reach: Callable[[TrainRun], object] = lambda run: None
    early: float = 0.0
    late: float = 1.0


def _pause(run: TrainRun) -> None:
    learns(run)
    ask(run, "pause")


def _fill_queue(run: TrainRun) -> None:
    """Until every slot waits for the learner."""
    wait_until(run, lambda status: not (status["queue"]["free"] or status["queue"]["writing"]), "a full queue")


def _rest_for_memory(run: TrainRun) -> None:
    """Until all stand, and not only those that are there already: memory may be short before others have started."""

    def all_stand(status: Status) -> bool:
        rows = status["collectors"]
        return status["state"] == "paused" and bool(rows) and all(row["state"] == "paused" for row in rows)

    wait_until(run, all_stand, "a rest for memory")


def _kill_collector(run: TrainRun) -> None:
    os.kill(pids(learns(run))["collector"][0], signal.SIGKILL)


def _stop_collector(run: TrainRun) -> None:
    os.kill(pids(learns(run))["collector"][0], signal.SIGSTOP)


_TOO_LARGE = "--memory-budget 1200M --slot-vehicles 14000 --queue-size 96"  # slots of some 800 MB
# What can last until somebody ends it.
WORK = (
    Phase("learning", reach=learns),
    Phase("learning with a loader worker", "--loader-workers 1", learns),
    Phase("learning in one process", "--num-collectors 0", learns),
    Phase("learning over libsumo", "--backend libsumo", learns),
    Phase("paused", reach=_pause),
    Phase("queue full", "--hidden 256 --queue-size 2", _fill_queue, late=0.1),
    Phase("at rest for want of memory", _TOO_LARGE, _rest_for_memory),
    Phase("a killed collector recovers", reach=_kill_collector),
)
PHASES = (
    Phase("first 0.3 s", late=0.3),
    Phase("importing and starting", early=0.3, late=4.0),
    Phase("starting with a loader worker", "--loader-workers 1", early=2.0, late=5.0),
    *WORK,
    Phase("a collector stands still", reach=_stop_collector),
    Phase("shutting down", "--total-decisions 300", lambda run: run.wait_for_output("weights after version"), late=0.6),
    Phase("closing table", "--total-decisions 300 --eval-seeds 3", lambda run: run.wait_for_output("evaluating")),
)


@dataclass(frozen=True)
class Ending:
    """What came of one moment; what is wrong with it is in words, empty where nothing is."""

    phase: str
    signals: str
    code: int | None  # None: it had not ended
    seconds: float  # from the last signal to the end
    delivered: bool  # to a run that lived
    wrong_code: str = ""
    left: str = ""
    no_checkpoint: str = ""

    def __str__(self) -> str:
        return f"{self.signals} while {self.phase}: exit code {self.code} after {self.seconds:.1f} s"


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Send signals at random moments of every phase, and see how runs end."""
    result = Result(
        f"SIGINT, SIGTERM or SIGHUP at {settings.moments} random moments, from the first milliseconds to the closing "
        "table; the same again at once, or a second one later",
        f"{shown(*SINGLE)}, and the flags of each phase. Every moment takes a run of its own, so it is the smallest "
        "scenario, which plays no part here. For a second signal that comes a second later, collectors and SUMOs are "
        "stopped (SIGSTOP) before the first one, so that the run cannot have ended by itself when it comes.",
    )
    chance = random.Random(seed)
    trials = _Trials(settings, chance, result)
    singles = trials.make(settings.moments, folder / "one", PHASES, FIRST)
    twice = trials.make(settings.twice, folder / "twice", PHASES[1:], TWICE)
    second = trials.make(settings.second, folder / "second", WORK, SECOND, late=True)
    _judge(result, singles, settings.moments, settings.deadline, "one signal")
    _judge(result, twice, settings.twice, settings.deadline, "two within a moment are one")
    _judge(
        result,
        second,
        settings.second,
        settings.at_once,
        "a second one",
        " but its socket's name and a file half written",
    )
    result.figures = {
        "phases": [
            {
                "phase": phase.name,
                "flags": phase.flags,
                "signals": len(found),
                "slowest end in s": round(max(one.seconds for one in found), 2),
                "exit codes": ", ".join(f"{code} ({n}×)" for code, n in Counter(one.code for one in found).items()),
            }
            for phase in PHASES
            if (found := [one for one in (*singles, *twice) if one.phase == phase.name])
        ],
        "second signals": [
            {"signals": one.signals, "phase": one.phase, "exit code": one.code, "end in s": round(one.seconds, 2)}
            for one in second
        ],
    }
    return result


class _Trials(NamedTuple):
    """What runs that are sent signals have in common."""

    settings: Settings
    chance: random.Random
    result: Result

    def make(
        self, count: int, folder: Path, phases: Sequence[Phase], choices: Sequence[Numbers], late: bool = False
    ) -> list[Ending]:
        """Send signals at ``count`` moments at which the run lives; phases take turns, from a random one on."""
        endings: list[Ending] = []
        first = self.chance.randrange(len(phases))
        for number in range(2 * count):
            if len(endings) == count:
                break
            phase, numbers = phases[(number + first) % len(phases)], self.chance.choice(choices)
            with noting(self.result, f"{phase.name}: a run comes so far"):
                trial = _second if late else _first
                ending = trial(folder / str(number), phase, numbers, self.settings, self.chance)
                endings += [ending] if ending.delivered else []
        return endings


def _first(folder: Path, phase: Phase, numbers: Numbers, settings: Settings, chance: random.Random) -> Ending:
    """Start a run, let it come to a phase, send one signal, or two at once, and see how it ends."""
    delay, between = chance.uniform(phase.early, phase.late), chance.uniform(0.0, 0.2)
    to_all = chance.random() < 0.5  # as a terminal does
    with start(folder, *SINGLE, *phase.flags.split()) as run:
        phase.reach(run)
        time.sleep(delay)
        listening = _listens(run, numbers[0])
        delivered = _send(run, numbers[0], to_all)
        for number in numbers[1:]:
            time.sleep(between)
            _send(run, number, to_all)
        ending = _await(run, phase, numbers, settings.deadline, delivered)
        allowed = {0} if listening else {0, *(-number for number in numbers), *(128 + number for number in numbers)}
        return _looked_at(ending, run, allowed, listening, must_save=True)


def _second(folder: Path, phase: Phase, numbers: Numbers, settings: Settings, chance: random.Random) -> Ending:
    """Start a run, let it come to a phase, stop all who would have to end with it, and send two signals."""
    delay, between = chance.uniform(phase.early, phase.late), chance.uniform(0.7, 1.2)
    to_all = chance.random() < 0.5
    with start(folder, *SINGLE, *phase.flags.split()) as run:
        phase.reach(run)
        time.sleep(delay)
        frozen = _freeze(run)
        assert frozen, "nobody could be stopped: the run would end by itself"
        _send(run, numbers[0], to_all)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(between)
        delivered = _send(run, numbers[1], to_all)
        ending = _await(run, phase, numbers, settings.at_once, delivered)
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()  # what stands still cannot see that its parent has gone
        return _looked_at(ending, run, {128 + numbers[1]}, listening=True, must_save=False)


def _freeze(run: TrainRun) -> list[psutil.Process]:
    """Stop the collectors and SUMOs of a run, without which it cannot end for some seconds."""
    status = try_to_ask(run, "status") or {"collectors": []}
    frozen = processes_of(run, everybody(status) - {run.process.pid})  # which collects itself in serial mode
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    return frozen


def _listens(run: TrainRun, number: signal.Signals) -> bool:
    """Whether the run has come so far that it must know what to do."""
    # Python itself catches SIGINT from the start.
    return catches(run.process.pid, TERM if number == INT else number) or "run folder" in run.output


def _send(run: TrainRun, number: signal.Signals, to_all: bool) -> bool:
    """Send a signal; False where the run had ended."""
    if run.process.poll() is not None:
        return False
    (os.killpg if to_all else os.kill)(run.process.pid, number)  # at worst a zombie, as nobody else waits for it
    return True


def _await(run: TrainRun, phase: Phase, numbers: Numbers, limit: float, delivered: bool) -> Ending:
    """Wait for the end."""
    began = time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.process.wait(limit)
    words = " ".join(number.name.removeprefix("SIG") for number in numbers)
    return Ending(phase.name, words, run.process.returncode, time.monotonic() - began, delivered)


def _looked_at(ending: Ending, run: TrainRun, allowed: set[int], listening: bool, must_save: bool) -> Ending:
    """The same with what is wrong with it, once it has ended."""
    if ending.code is None:
        return ending
    wrong = ""
    if ending.code not in allowed:
        wrong = f"{ending}, not {' or '.join(map(str, sorted(allowed)))}: {run.errors[-300:]}"
    elif listening and "Traceback" in run.errors:
        wrong = f"{ending}: {run.errors[-300:]}"
    return replace(
        ending,
        wrong_code=wrong,
        left=_left(run, in_a_hurry=not must_save),
        no_checkpoint=_no_checkpoint(run, must_save),
    )


def _left(run: TrainRun, in_a_hurry: bool) -> str:
    """What a run has left behind; one that had to end at once may leave what has a path in its folder."""
    if in_a_hurry:
        for path in (run.folder / "control.sock", *run.folder.glob("checkpoints/*.unfinished")):
            path.unlink(missing_ok=True)
    try:
        run.assert_nothing_left()
    except AssertionError as error:
        return str(error)
    return ""


def _no_checkpoint(run: TrainRun, must_save: bool) -> str:
    """What is wrong with the last checkpoint; there must be one, if any, once people were told of the run's folder."""
    folder = run.folder / "checkpoints"
    if not list(folder.glob("step-*.pt")) and not (must_save and "run folder" in run.output):
        return ""
    newest = checkpoints.latest(folder)
    if newest is None:
        return "there is none"
    try:
        checkpoints.load(newest)
    except CheckpointError as error:
        return str(error)
    return ""


def _judge(result: Result, endings: list[Ending], count: int, deadline: float, whose: str, excepted: str = "") -> None:
    """Note what must hold for so many of these, and what was seen; ``excepted`` is what may be left behind."""
    if not count:
        return
    result.check(f"{whose}: came while the run lived, {count} times", len(endings) == count, f"{len(endings)} times")
    if not endings:
        return
    slowest = max(endings, key=lambda one: one.seconds)
    codes = Counter(one.code for one in endings)
    said = ", ".join(f"{n} × {code}" for code, n in sorted(codes.items(), key=str))
    wrong = [one.wrong_code for one in endings if one.wrong_code]
    left = [f"{one}: {one.left}" for one in endings if one.left]
    lost = [f"{one}: {one.no_checkpoint}" for one in endings if one.no_checkpoint]
    in_time = all(one.code is not None for one in endings)
    result.check(f"{whose}: ended within {deadline:g} s", in_time, f"slowest of {len(endings)}: {slowest}")
    result.check(f"{whose}: exit code as documented, no traceback", not wrong, "; ".join(wrong) or said)
    result.check(f"{whose}: nothing left behind{excepted}", not left, "; ".join(left) or "nothing")
    result.check(f"{whose}: the last checkpoint loads", not lost, "; ".join(lost) or "all load")
