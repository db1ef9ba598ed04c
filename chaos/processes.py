"""The processes of a run: which is which, a random one to be killed, and those that are nobody's."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import psutil

from chaos.harm import Status, ask
from tests.support.runs import TrainRun

_SETTLES = 5.0  # s within which a run that nobody disturbs must know its processes


class Victim(NamedTuple):
    """A collector or a SUMO, and the collector that it belongs to."""

    kind: str
    collector: int
    process: psutil.Process


def pids(status: Status) -> dict[str, list[int]]:
    """The processes of a run by what they are, by its own account: collectors and SUMOs."""
    rows = status["collectors"]
    return {
        "collector": [row["pid"] for row in rows if row["pid"] is not None],
        "SUMO": [pid for row in rows for pid in row["sumo"]],
    }


def everybody(status: Status) -> set[int]:
    """All collectors and SUMOs, by a run's own account."""
    return {pid for found in pids(status).values() for pid in found}


def processes_of(run: TrainRun, chosen: set[int]) -> list[psutil.Process]:
    """Those of these process ids that are a run's beyond doubt."""
    return [process for process in run.processes() if process.pid in chosen]


def victim(run: TrainRun, status: Status, chance: random.Random) -> Victim | None:
    """A random collector or SUMO; None where it has just ended by itself."""
    kind = chance.choice(["collector", "SUMO"])
    found = pids(status)[kind]
    if not found:
        return None
    pid = chance.choice(found)
    owner = next(row["collector"] for row in status["collectors"] if pid in (row["pid"], *row["sumo"]))
    return next((Victim(kind, owner, process) for process in processes_of(run, {pid})), None)


def helpers(run: TrainRun) -> set[int]:
    """The processes of a run at work that are neither collectors nor SUMOs."""
    return {process.pid for process in run.processes()} - everybody(ask(run, "status"))


def strangers(run: TrainRun, known: set[int]) -> list[str]:
    """What differs between the processes that there are and those that a run tells of, but for these helpers.

    A look at the one is later than a look at the other, so it is what differs for some seconds.
    """
    deadline = time.monotonic() + _SETTLES
    while True:
        there = {process.pid: process for process in run.processes()}
        odd = (there.keys() - known) ^ everybody(ask(run, "status"))
        if not odd:
            return []
        if time.monotonic() > deadline:
            return [str(there.get(pid, f"process {pid}, which has ended")) for pid in odd]
        time.sleep(0.05)
