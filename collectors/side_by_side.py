"""Work in processes of its own, as many at once as there are cores; nothing is left of any, whatever happens."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Generic, Protocol, TypeVar

from buffers.children import (
    follow_parent,
    kill_forkserver,
    killed_after,
    start_child,
    start_forkserver,
    why_not_started,
)
from collectors.errors import EvaluationError
from envs.errors import ScenarioError
from machine import cores

Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)

_START_LIMIT = 300.0  # s until a job has begun: it may have to wait for imports, and the program's own file is one
_ANSWER_LIMIT = 60.0  # s for a result once it has begun
_LAST_MOMENTS = 5.0  # s until the forkserver has told of the end of one that was killed
_LOOK = 0.5  # s until it looks whether somebody wants it to end
_PRELOAD = ["collectors.preload", "collectors.evaluation"]  # imported once for all processes


class Job(Protocol[ResultOut]):
    """Work that can travel to another process; its text says in an error what it is."""

    def run(self) -> ResultOut:
        """Do it."""


def run_all(
    jobs: Sequence[Job[Result]],
    *,
    processes: int | None = None,
    timeout: float = 600.0,
    on_result: Callable[[Result], None] | None = None,
    on_wait: Callable[[], object] | None = None,
) -> list[Result]:
    """Run every job in its own process; results come back in the order of the jobs.

    At most ``processes`` run at once, by default one per core, and ``timeout`` (s) bounds each job. ``on_result`` hears
    of each that ends, ``on_wait`` is called twice a second; both may raise to end it all.

    Raises a job's ``ScenarioError``, and ``EvaluationError`` with the traceback of a job that failed, or with what
    befell one that died or took too long.
    """
    done: dict[int, Result] = {}
    waiting, running = deque(enumerate(jobs)), list[_Running[Result]]()
    most = processes or cores()
    try:
        while waiting or running:
            while waiting and len(running) < most:
                running.append(_Running(*waiting.popleft(), timeout))
            if on_wait is not None:
                on_wait()
            for ended in _next_ended(running):
                result = ended.result()
                running.remove(ended)
                done[ended.number] = result
                if on_result is not None:
                    on_result(result)
    finally:
        for still in running:
            still.kill()
    return [done[number] for number in range(len(jobs))]


class _Running(Generic[Result]):
    """A job under way in its own process."""

    def __init__(self, number: int, job: Job[Result], timeout: float) -> None:
        self.number = number
        self._job = job
        self._timeout = timeout
        try:
            self._begin(multiprocessing.get_context("forkserver"))
        except (OSError, EOFError, RuntimeError) as error:
            raise EvaluationError(f"{job} could not be started: {why_not_started(error)}") from error
        self.deadline = time.monotonic() + timeout

    def _begin(self, context: ForkServerContext) -> None:
        """Start its process."""
        server = start_forkserver(_PRELOAD)
        self.connection, theirs = context.Pipe(duplex=False)
        with ExitStack() as failed:
            failed.callback(self.connection.close)
            self._process: BaseProcess = context.Process(
                target=_run, args=(self._job, theirs), name=f"episode-{self.number}", daemon=True
            )
            with theirs:
                start_child(self._process, server, _START_LIMIT)
            failed.callback(self._process.kill)
            # Who kills it need not ask the forkserver, which may be gone, whether it lives.
            self._pidfd: int | None = None
            with suppress(ProcessLookupError):  # it has ended already
                self._pidfd = os.pidfd_open(self._process.pid or 0)
            failed.pop_all()

    def result(self) -> Result:
        """What has come out of it; raises what went wrong."""
        if not self.connection.poll():
            raise EvaluationError(f"{self._job} has not ended within {self._timeout:g} s")
        try:
            with killed_after(_ANSWER_LIMIT, self._process.pid):
                result, error = self.connection.recv()
        except TimeoutError as late:
            raise EvaluationError(f"{self._job} has stopped in the middle of its result: {late}") from late
        except (EOFError, OSError):  # the latter in the middle of a result
            self._process.join(1.0)
            raise EvaluationError(
                f"{self._job}: its process died with exit code {self._process.exitcode} and left no traceback: "
                "it was killed, or the machine ran out of memory"
            ) from None
        if isinstance(error, ScenarioError):
            raise error
        if error is not None:
            raise EvaluationError(f"{self._job} failed:\n{error}")
        self._process.join(1.0)
        self.kill()
        outcome: Result = result
        return outcome

    def kill(self) -> None:
        """End it at once, and its SUMO with it; harmless where it has ended."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            wait([self._pidfd], _LAST_MOMENTS)
            os.close(self._pidfd)
            self._pidfd = None
        self._process.join(_LAST_MOMENTS)
        if self._process.is_alive():  # as far as we have been told: the forkserver stands
            kill_forkserver()
            self._process.join(_LAST_MOMENTS)
        self.connection.close()


def _next_ended(running: Sequence[_Running[Result]]) -> list[_Running[Result]]:
    """Those that have ended or exceed their time, after a wait for them of at most ``_LOOK``."""
    patience = min(_LOOK, max(0.0, min(one.deadline for one in running) - time.monotonic()))
    ready = wait([one.connection for one in running], timeout=patience)
    now = time.monotonic()
    return [one for one in running if one.connection in ready or now >= one.deadline]


def _run(job: Job[object], connection: Connection) -> None:
    """The process of one job, from start to end; sends its result and what went wrong."""
    follow_parent()
    try:
        connection.send((job.run(), None))
    except ScenarioError as error:
        connection.send((None, error))
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        connection.send((None, traceback.format_exc()))
        sys.exit(1)
