"""Batches for the learner, built in its own process or in others."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import NamedTuple

import torch

from buffers.children import follow_parent, start_child, start_forkserver, why_not_started, without_main
from buffers.queue import Doorbell
from graph.batch import Batch
from graph.dataset import ExperienceDataset
from graph.parcel import Outbox, parcel_pipe

_SILENCE_LIMIT = 30.0  # s; a worker that finds nothing to read says so after its dataset's ``patience``
_START_LIMIT = 60.0  # s until its first word, or the silence limit where that is longer: it imports torch
_GLANCE = 0.5  # s to wait for a batch until whoever wants one is told that there is none
_LAST_MOMENTS = 5.0  # s that the kernel has to end a worker that was killed


class LoaderError(RuntimeError):
    """A process that builds batches failed, died or hangs: the fragments that it held are lost."""


class _Message(NamedTuple):
    """What a worker says: a batch, that there is none yet, that there will be none any more, or why it failed."""

    batch: Batch | None
    delivered: int  # fragments so far
    ended: bool = False
    failure: str = ""


class Batches:
    """The batches of a dataset, built here or in ``workers`` processes; an iterator, and a context manager around it.

    Yields None when there is none for the moment, so that whoever iterates can look after other things. With
    ``pin_memory`` tensors lie in page-locked memory. Raises ``LoaderError`` when a worker fails, dies, or shows no sign
    of life for ``silence_limit`` s.

    Worker w takes the fragments of envs e with e % workers == w, so that the order of each env's fragments stays; a
    worker whose envs are slow holds nobody up. One that has a batch which nobody takes yet waits, and reads no further.
    """

    def __init__(
        self,
        dataset: ExperienceDataset,
        workers: int = 0,
        *,
        pin_memory: bool = False,
        silence_limit: float = _SILENCE_LIMIT,
    ) -> None:
        self._dataset = dataset
        self._count = workers
        self._pin_memory = pin_memory
        self._silence_limit = silence_limit
        self._here: Iterator[Batch | None] = iter(())
        self._workers: list[_Worker] = []
        self._looked_at = 0.0  # monotonic s

    def __enter__(self) -> Batches:
        if self._count == 0:
            self._here = self._dataset.read()
        try:
            for number in range(self._count):
                self._workers.append(_Worker(self._dataset, number, self._count))
        except BaseException:
            self._end()
            raise
        self._looked_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        """End the workers; they hold nothing that is worth a farewell."""
        for worker in self._workers:
            worker.end()
        self._here = iter(())

    def shrink(self) -> None:
        """Have no more graphs kept of each env than the policy looks back at, wherever they are kept."""
        self._dataset.shrink()
        for worker in self._workers:
            if not worker.ended:
                worker.thrift.ring()

    @property
    def delivered(self) -> int:
        """Fragments that have been read, as far as is known here."""
        return self._dataset.delivered + sum(worker.delivered for worker in self._workers)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch | None:
        if self._count == 0:
            batch = next(self._here)
            return batch.pin_memory() if batch is not None and self._pin_memory else batch
        live = [worker for worker in self._workers if not worker.ended]
        if not live:
            raise StopIteration
        ready = wait([worker.inbox.fileno() for worker in live], _GLANCE)
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        for worker in live:
            worker.listen(worker.inbox.fileno() in ready, passed, self._silence_limit)
        for worker in live:
            if worker.inbox.fileno() in ready:
                self._workers.remove(worker)
                self._workers.append(worker)  # the others come first next time
                return worker.take(self._silence_limit, self._pin_memory)
        return None


class _Worker:
    """A process that builds batches, as the process that takes them sees it."""

    def __init__(self, dataset: ExperienceDataset, number: int, count: int) -> None:
        self.number = number
        self.ended = False  # it has nothing more to say
        self.has_begun = False  # it has said something
        self.delivered = 0  # fragments
        self.inbox, outbox = parcel_pipe()
        self.thrift = Doorbell()  # rung when memory is short
        self._silence = 0.0  # s
        context = multiprocessing.get_context("forkserver")  # this process has threads, which fork does not survive
        self._process = context.Process(
            target=_work, args=(dataset, number, count, outbox, self.thrift), name=f"loader-{number}", daemon=True
        )
        try:
            with without_main():
                start_child(self._process, start_forkserver([__name__]))
        except (OSError, EOFError, RuntimeError) as error:  # or no thread can be started
            self._close()
            raise LoaderError(f"loader worker {number} could not be started: {why_not_started(error)}") from error
        finally:
            outbox.close()  # so that the pipe ends with the worker

    def __str__(self) -> str:
        return f"loader worker {self.number} (process {self._process.pid})"

    def listen(self, said_something: bool, passed: float, limit: float) -> None:
        """Take note of ``passed`` s; only so much counts as this process certainly was awake for."""
        self._silence = 0.0 if said_something else self._silence + min(passed, 2 * _GLANCE)
        self.has_begun |= said_something
        limit = limit if self.has_begun else max(limit, _START_LIMIT)
        if self._silence > limit:
            raise LoaderError(f"{self} hangs: it has shown no sign of life for {limit:g} s")

    def take(self, limit: float, pin_memory: bool) -> Batch | None:
        """The batch that it has sent, None where it has sent word instead."""
        try:
            message: _Message = self.inbox.receive(limit, pin_memory)
        except EOFError as error:
            raise LoaderError(f"{self} has died: it was killed, or the machine ran out of memory") from error
        except TimeoutError as error:
            raise LoaderError(f"{self} hangs in the middle of a batch: {error}") from error
        if message.failure:
            raise LoaderError(f"{self} failed:\n{message.failure}")
        self.delivered, self.ended = message.delivered, message.ended
        return message.batch

    def end(self) -> None:
        """End it at once; twice is fine."""
        self._process.kill()
        self._process.join(_LAST_MOMENTS)
        self._close()

    def _close(self) -> None:
        self.inbox.close()
        self.thrift.close()
        self.ended = True


def _work(dataset: ExperienceDataset, number: int, count: int, outbox: Outbox, thrift: Doorbell) -> None:
    """A worker from start to end."""
    follow_parent()
    torch.set_num_threads(1)
    try:
        outbox.send(_Message(None, dataset.delivered))  # it has begun
        for batch in dataset.read(number, count):
            outbox.send(_Message(batch, dataset.delivered))
            if wait([thrift.fileno()], 0):
                thrift.answer()
                dataset.shrink()
        outbox.send(_Message(None, dataset.delivered, ended=True))
    except Exception:  # noqa: BLE001 - whatever it is, the learner must hear of it
        outbox.send(_Message(None, dataset.delivered, failure=traceback.format_exc()))
