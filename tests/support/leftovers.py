"""What a process could leave behind: other processes, shared memory, sockets, temporary files.

Everything that descends from a process started with ``marked(environment)`` carries the mark in its environment,
however often it has been handed to another parent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from tests.support.waiting import POLL, wait_for

MARK = "PLATOON_TEST_MARK"
SHARED_MEMORY = Path("/dev/shm")
GONE = 5.0  # s within which everything must have gone


def marked(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """A copy of an environment with a mark of its own, and the mark."""
    mark = uuid.uuid4().hex
    return {**environment, MARK: mark}, mark


def bearers(mark: str) -> list[psutil.Process]:
    """All live processes that carry a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended, or is another user's
            continue
    return found


def assert_gone(pids: Iterable[int], limit: float = GONE) -> None:
    """All these processes end within ``limit`` s."""
    wanted = list(pids)
    wait_for(lambda: not any(map(alive, wanted)), f"the end of processes {wanted}", limit)


def alive(pid: int) -> bool:
    """Whether a process lives; one that only waits to be collected by its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def shared_names() -> set[str]:
    """Names in /dev/shm."""
    return {path.name for path in SHARED_MEMORY.iterdir()}


def assert_nothing_new(before: set[str]) -> None:
    """No name has come into /dev/shm to stay; those of other programs come and go."""
    deadline = time.monotonic() + GONE
    while new := shared_names() - before:
        assert time.monotonic() < deadline, f"still in {SHARED_MEMORY}: {sorted(new)}"
        time.sleep(POLL)
