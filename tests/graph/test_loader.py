"""Batches from worker processes that die, hang or fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import active_children
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from buffers import children
from buffers.children import start_forkserver
from buffers.slots import Slots
from graph.dataset import ExperienceDataset
from graph.loader import Batches, LoaderError
from graph.topology import Topology
from tests.graph.numbered import NETWORKS, fill, layouts
from tests.graph.workers import Telltale
from tests.support.leftovers import alive, shared_names
from tests.support.waiting import wait_for

TOPOLOGIES = [Topology.of(network) for network in NETWORKS]


@pytest.fixture
def slots() -> Iterator[Slots]:
    """For two envs and two readers."""
    slots = Slots(layouts(), 2, slots_per_env=2, readers=2, poison=True)
    yield slots
    slots.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def make_dataset(slots: Slots, patience: float = 0.05) -> ExperienceDataset:
    return ExperienceDataset(slots, TOPOLOGIES, batch_fragments=1, radius=50.0, history=2, patience=patience)


def loaders() -> list[int]:
    """Process ids of all loader workers of this process, by number."""
    return [child.pid for child in sorted(active_children(), key=lambda one: one.name) if child.name[:6] == "loader"]  # type: ignore[misc]


def next_batch(batches: Batches) -> None:
    """Wait for a batch."""
    wait_for(lambda: next(batches), "a batch")


def read_on(batches: Batches) -> None:
    """Take whatever comes, until something is wrong."""
    while True:
        next(batches)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_is_named_and_takes_the_others_along(slots: Slots, victim: int) -> None:
    before = shared_names()
    writers = [fill(slots, env) for env in range(2)]
    with Batches(make_dataset(slots), 2) as batches:
        for writer in writers:
            assert next(writer)
        next_batch(batches)
        pids = loaders()
        assert len(pids) == 2
        os.kill(pids[victim], signal.SIGKILL)
        with pytest.raises(LoaderError, match=rf"loader worker {victim} \(process {pids[victim]}\) has died"):
            read_on(batches)
    assert not any(map(alive, pids))
    assert shared_names() == before


def test_a_worker_that_stands_still_is_named_however_busy_the_other_is(slots: Slots) -> None:
    with Batches(make_dataset(slots), 2, silence_limit=1.0) as batches:
        wait_for(lambda: next(batches) is None and all(worker.has_begun for worker in batches._workers), "a first word")
        pids = loaders()
        os.kill(pids[1], signal.SIGSTOP)
        with pytest.raises(LoaderError, match=rf"loader worker 1 \(process {pids[1]}\) hangs: .* for 1 s"):
            read_on(batches)
    assert not any(map(alive, pids))


def test_a_worker_that_fails_says_why_with_its_own_traceback(slots: Slots) -> None:
    writer = fill(slots, 1)
    assert next(writer)
    for view in slots.views(slots.slots_per_env).values():
        view[...] = 77  # nonsense
    with (
        Batches(make_dataset(slots), 2) as batches,
        pytest.raises(LoaderError, match=r"(?s)loader worker 1 .* failed:\nTraceback .*Error"),
    ):
        read_on(batches)


def test_fragments_are_counted_wherever_batches_are_built(slots: Slots) -> None:
    writers = [fill(slots, env) for env in range(2)]
    with Batches(make_dataset(slots), 2) as batches:
        for _ in range(2):
            for writer in writers:
                assert next(writer)
            for _ in writers:
                next_batch(batches)
        assert batches.delivered == 4
    assert batches.delivered == 4, "it is asked for once more at the end"


def test_workers_end_when_no_more_will_come(slots: Slots) -> None:
    with Batches(make_dataset(slots), 2) as batches:
        slots.end()
        wait_for(lambda: next(batches, "the end") == "the end", "the end")


def test_workers_shrink_their_caches_when_told_to(slots: Slots) -> None:
    telltale = Telltale(slots, TOPOLOGIES, batch_fragments=1, radius=50.0, patience=0.05)
    with Batches(telltale, 2) as batches:
        with pytest.raises(RuntimeError, match="told to shrink"):
            batches.shrink()  # its own cache first
        for worker in batches._workers:
            worker.thrift.ring()
        with pytest.raises(LoaderError, match=r"(?s)failed:.*told to shrink"):
            read_on(batches)


def test_a_worker_that_cannot_be_started_leaves_nothing(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EOFError("the forkserver is gone")

    start_forkserver([])
    before = open_descriptors()
    monkeypatch.setattr(ForkServerProcess, "start", refuse)
    with pytest.raises(LoaderError, match=r"loader worker 0 could not be started: .*the forkserver is gone"):
        Batches(make_dataset(slots), 2).__enter__()
    assert open_descriptors() == before


def test_a_forkserver_that_stands_is_not_waited_for(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start_forkserver([])
    before = open_descriptors()
    os.kill(server, signal.SIGSTOP)
    for limit in ("_FORK_LIMIT", "_IMPORT_LIMIT"):
        monkeypatch.setattr(children, limit, 0.5)
    with pytest.raises(LoaderError, match=r"loader worker 0 could not be started: .*did not answer within 0.5 s"):
        Batches(make_dataset(slots), 2).__enter__()
    assert open_descriptors() == before
