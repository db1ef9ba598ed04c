"""Commands at random moments from several clients at once, with kills and Ctrl-Z: always an answer, no knot."""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from chaos.harm import Result, Status, ask, check_books, ends_well, learns, noting, shown, start, wait_until
from chaos.processes import victim
from collectors.errors import ControlError, NoRunError
from tests.support.runs import TrainRun
from tests.support.waiting import wait_for

COLLECTORS = 3
FLAGS = ("--episode-seconds", "300", "--num-collectors", str(COLLECTORS))
MOST_ENVS = 8
SLOTS_PER_ENV = 3
_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # pause, resume
_STEERING = ("pause", "resume", "scale")
_STANDS = 60.0  # s until a run stands after Ctrl-Z; it does not while it is starting
_PAUSE = 1.0  # s
_LATE = 1.0  # s that the end of a pause may be late


@dataclass(frozen=True)
class Settings:
    """How many commands that change something, from how many clients; how much else is done to the run meanwhile."""

    commands: int = 1000
    clients: int = 4
    suspensions: int = 10
    kills: int = 10
    answer: float = 2.0  # s
    rest: float = 0.3  # s of a client between two commands, at most
    peace: float = 5.0  # s between two kills or suspensions, at most


QUICK = Settings(commands=80, suspensions=1, kills=1, rest=0.2, peace=1.0)


@dataclass(frozen=True)
class Answer:
    """What came of one command."""

    command: str
    at: float  # monotonic s
    seconds: float
    version: int | None = None  # of the weights, by then
    torn: bool = False  # slots that did not add up
    error: str = ""


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Steer a run at random from its first moments on, and then see whether it is as good as new."""
    result = Result(
        f"{settings.commands:,} commands to pause, resume and scale from {settings.clients} clients at random moments, "
        "questions for the status, SIGUSR1, SIGUSR2, Ctrl-Z and SIGKILL of collectors and SUMOs among them",
        f"{shown(*FLAGS)}. More collectors than some of the scales have envs for; episodes that end between two kills. "
        "The clients begin as soon as the run's socket answers, while its collectors are starting.",
    )
    chance = random.Random(seed)
    with start(folder, *FLAGS) as run, noting(result, "the run lives through it"):
        first = wait_until(run, lambda status: True, "a socket")
        result.check("the clients begin while collectors start", first["state"] == "starting", first["state"])
        began = time.monotonic()
        answers = _steer(run, settings, chance)
        _judge(result, answers, settings, began)
        early = sum(answer.version == first["version"] for answer in answers if answer.command in _STEERING)
        result.figures["pause, resume and scale before the first step of learning"] = early
        result.figures["steps of learning meanwhile"] = ask(run, "status")["version"] - first["version"]
        ask(run, "resume")
        ask(run, "scale", num_envs=4)
        wait_until(run, _as_in_the_beginning, "4 envs at work, with their slots alone")
        learns(run)
        check_books(run, result)
        _pause_for_a_moment(run, result)
        ends_well(run, result, restarts=settings.kills)
    return result


def _steer(run: TrainRun, settings: Settings, chance: random.Random) -> list[Answer]:
    """Let all clients loose, and somebody who kills and presses Ctrl-Z; returns what the clients were answered."""
    share = -(-settings.commands // settings.clients)
    randoms = [random.Random(chance.random()) for _ in range(settings.clients)]
    over = threading.Event()
    with ThreadPoolExecutor(settings.clients + 1) as pool:
        disturber = pool.submit(_disturb, run, settings, random.Random(chance.random()), over)
        found = list(pool.map(lambda own: _client(run, own, share, settings.rest, over), randoms))
        disturber.result()
    return [answer for answers in found for answer in answers]


def _disturb(run: TrainRun, settings: Settings, chance: random.Random, over: threading.Event) -> None:
    """Kill and suspend at random moments; ``over`` is set at the end."""
    acts = ["Ctrl-Z"] * settings.suspensions + ["kill"] * settings.kills
    chance.shuffle(acts)
    try:
        for act in acts:
            time.sleep(chance.uniform(0.0, settings.peace))
            if act == "kill":
                wait_until(run, lambda status: _kill(run, status, chance), "somebody to kill")
            else:
                _press_ctrl_z(run)
    finally:
        over.set()


def _kill(run: TrainRun, status: Status, chance: random.Random) -> bool:
    """Kill a random collector or SUMO; False where there is none at the moment."""
    found = victim(run, status, chance)
    if found is not None:
        found.process.kill()
    return found is not None


def _press_ctrl_z(run: TrainRun) -> None:
    """Do what a terminal does at Ctrl-Z, wait until the run stands, and continue it."""
    parent = psutil.Process(run.process.pid)
    os.killpg(run.process.pid, signal.SIGTSTP)
    wait_for(lambda: parent.status() == psutil.STATUS_STOPPED, "the run to stand still after Ctrl-Z", _STANDS)
    os.killpg(run.process.pid, signal.SIGCONT)
    wait_until(run, lambda status: not any(map(_is_suspended, status["collectors"])), "the run to go on after Ctrl-Z")


def _is_suspended(row: Status) -> bool:
    return "suspended" in row.get("paused_for", ())


def _client(run: TrainRun, chance: random.Random, commands: int, rest: float, over: threading.Event) -> list[Answer]:
    """Give random commands, one after the other: so many that change something, and on until all is ``over``."""
    answers: list[Answer] = []
    left = commands
    while left > 0 or not over.is_set():
        time.sleep(chance.uniform(0.0, rest))
        name, fields = _command(chance)
        answers.append(_give(run, name, fields))
        left -= name in _STEERING
    return answers


def _give(run: TrainRun, name: str, fields: dict[str, Any]) -> Answer:
    """Give one command, or send a signal."""
    began = time.monotonic()
    if name.startswith("SIG"):
        with suppress(ProcessLookupError):  # it has ended: the commands tell
            os.kill(run.process.pid, signal.Signals[name])
        return Answer(name, began, time.monotonic() - began)
    try:
        status = ask(run, name, **fields)
    except (ControlError, NoRunError) as found:
        return Answer(name, began, time.monotonic() - began, error=f"{name} {fields}: {found}")
    return Answer(name, began, time.monotonic() - began, status["version"], torn=not _adds_up(status))


def _command(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A command and its fields, or the name of a signal."""
    match chance.choices(("status", "pause", "resume", "scale", "signal"), (3, 4, 5, 4, 1))[0]:
        case "pause":
            return "pause", {
                "collectors": _some(chance),
                "seconds": chance.choice([None, round(chance.uniform(0.1, 2.0), 2)]),
            }
        case "resume":
            return "resume", {"collectors": _some(chance)}
        case "scale":
            return "scale", {"num_envs": chance.randint(1, MOST_ENVS)}
        case "signal":
            return chance.choice(_SIGNALS).name, {}
        case name:
            return name, {}


def _some(chance: random.Random) -> list[int] | None:
    """Some collectors, or all."""
    return chance.choice([None, chance.sample(range(COLLECTORS), chance.randint(1, COLLECTORS))])


def _adds_up(status: Status) -> bool:
    """Whether there are whole envs' slots, those of the envs that there are to be, and one of each in writing at most.

    An env that is there no more has its slots until they have been read.
    """
    slots = sum(status["queue"].values())
    envs = slots // SLOTS_PER_ENV
    whole = slots % SLOTS_PER_ENV == 0 and status["num_envs"] <= envs <= MOST_ENVS
    return whole and status["queue"]["writing"] <= envs and status["queue"]["reading"] <= 1


def _as_in_the_beginning(status: Status) -> bool:
    rows = [row for row in status["collectors"] if row["envs"]]
    at_work = all(row["state"] in ("running", "waiting") and len(row["sumo"]) == len(row["envs"]) for row in rows)
    return at_work and status["num_envs"] == 4 and sum(status["queue"].values()) == 4 * SLOTS_PER_ENV


def _pause_for_a_moment(run: TrainRun, result: Result) -> None:
    """Pause for a moment, never come back, and see that it goes on by itself."""
    what = f"a pause for {_PAUSE:g} s ends by itself when nobody comes back"
    with noting(result, what):
        began = time.monotonic()
        ask(run, "pause", seconds=_PAUSE)
        wait_until(run, lambda status: status["state"] == "paused", "a pause", _PAUSE)
        wait_until(run, lambda status: status["state"] == "running", "its end")
        took = time.monotonic() - began
        learns(run)
        result.check(
            what, _PAUSE <= took <= _PAUSE + _LATE, f"paused, and running again after {took:.2f} s", timed=True
        )


def _judge(result: Result, answers: list[Answer], settings: Settings, began: float) -> None:
    """Note how the commands were answered."""
    asked = [answer for answer in answers if not answer.command.startswith("SIG")]
    answered = [answer for answer in asked if answer.command in _STEERING and not answer.error]
    what = f"at least {settings.commands:,} commands to pause, resume and scale are answered"
    result.check(what, len(answered) >= settings.commands, f"{len(answered):,}, and {len(asked):,} with the status")
    slowest = max(asked, key=lambda answer: answer.seconds)
    seen = f"slowest: {slowest.command}, {slowest.seconds:.2f} s"
    result.check(f"each is answered within {settings.answer:g} s", slowest.seconds <= settings.answer, seen, timed=True)
    errors = [answer.error for answer in asked if answer.error]
    result.check("none is refused", not errors, "; ".join(errors[:5]) or "none was")
    torn = sum(answer.torn for answer in asked)
    result.check("slots add up in every answer", not torn, f"{torn} answers in which they did not")
    result.figures["commands"] = dict(Counter(answer.command for answer in answers))
    result.figures["done meanwhile"] = {"Ctrl-Z": settings.suspensions, "SIGKILL": settings.kills}
    for name in ("status", *_STEERING):
        if own := sorted(answer.seconds for answer in asked if answer.command == name):
            result.figures[f"{name} answered after s"] = {
                "median": round(statistics.median(own), 3),
                "99 %": round(own[int(0.99 * (len(own) - 1))], 3),
                "max": round(own[-1], 3),
            }
    result.series["answered after s"] = [[answer.at - began, answer.seconds] for answer in asked]
