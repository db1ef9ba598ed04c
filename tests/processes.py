"""Real processes for tests: started from a forkserver that has imported torch once, and always ended."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

LIMIT = 60.0  # s that a test waits for another process, at most


def context() -> ForkServerContext:
    """The forkserver of this test run; what it preloads has no effect once somebody has started it."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["collectors.worker", "learner.update"])
    return forkserver


def start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """A process that runs ``target(connection, *arguments)``, and our end of its connection."""
    ours, theirs = context().Pipe()
    process = context().Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


@contextlib.contextmanager
def running(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """The same; killed when the block ends, however it ends."""
    process, connection = start(target, *arguments)
    try:
        yield process, connection
    finally:
        end(process, connection)


def end(process: BaseProcess, connection: Connection) -> None:
    """Kill a process that may have ended already."""
    process.kill()
    process.join(LIMIT)
    connection.close()


def hear(connection: Connection) -> Any:
    """The next message of a process; fails when none comes in time, or none can."""
    assert connection.poll(LIMIT), f"no message within {LIMIT:g} s"
    return connection.recv()
