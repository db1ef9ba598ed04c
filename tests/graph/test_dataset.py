from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import graph.dataset
from buffers.slots import Slots
from graph.acting import stack
from graph.batch import Batch
from graph.build import Frames, build
from graph.dataset import ExperienceDataset
from graph.graphs import Graphs
from graph.loader import Batches
from graph.ragged import offsets_of
from graph.tensors import GraphTensors, to_tensors
from graph.topology import Topology
from tests.graph.examples import make_fragment
from tests.graph.numbered import (
    EPISODES,
    NETWORKS,
    decision_of,
    episode_length,
    fill,
    frame_of,
    layouts,
    network_of,
    terminates,
    version_of,
    write,
)
from tests.processes import hear, running

ENVS = 4
RADIUS = 60.0
HISTORY = 3
TOPOLOGIES = [Topology.of(network) for network in NETWORKS]
Source = tuple[int, int, int, int, int]


@pytest.fixture
def slots(request: pytest.FixtureRequest) -> Iterator[Slots]:
    """Poisoned slots for as many readers as the test's loader has workers."""
    parameters = getattr(request.node, "callspec", None)
    readers = max(1, parameters.params.get("workers", 1)) if parameters else 1
    slots = Slots(layouts(), ENVS, slots_per_env=2, readers=readers, poison=True)
    yield slots
    slots.close()


def make_dataset(slots: Slots, batch_fragments: int = 3, **options) -> ExperienceDataset:  # type: ignore[no-untyped-def]
    settings = {"history": HISTORY, "patience": 0.1, "cache_frames": 10} | options
    return ExperienceDataset(slots, TOPOLOGIES, batch_fragments=batch_fragments, radius=RADIUS, **settings)


def expected_graph(sources: tuple[Source, ...]) -> GraphTensors:
    """The graph of these fragments, each with as many frames from before it as history asks for, one by one."""
    parts: list[Graphs] = []
    earlier: list[int] = []
    for env, episode, first, length, _ in sources:
        begin = max(0, first - HISTORY + 1)
        for number in range(begin, first + length + 1):
            parts.append(build(stack([frame_of(env, episode, number)]), TOPOLOGIES[env % 2], RADIUS))
            earlier.append(number - begin)
    return to_tensors(Graphs.join(parts), HISTORY, np.array(earlier))


def check(batch: Batch) -> None:
    """Every number in the batch is the one that its env, episode and frame must have."""
    expected = expected_graph(batch.sources)
    for field in fields(GraphTensors):
        ours, theirs = getattr(batch.graph, field.name), getattr(expected, field.name)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=field.name)
    longest = max(length for _, _, _, length, _ in batch.sources)
    columns = offsets_of([TOPOLOGIES[env % 2].num_signals for env, *_ in batch.sources])
    assert batch.valid.shape == (longest, columns[-1])
    for i, (env, episode, first, length, version) in enumerate(batch.sources):
        own, signals = slice(columns[i], columns[i + 1]), columns[i + 1] - columns[i]
        assert version == version_of(env, episode, first)
        assert batch.versions[own].tolist() == [version] * signals
        assert batch.maps[own].tolist() == [env % 2] * signals
        last = first + length == episode_length(env, episode)
        assert batch.valid[:, own].all(1).tolist() == [t < length for t in range(longest)]
        assert batch.terminated[:, own].all(1).tolist() == [
            last and terminates(env, episode) and t == length - 1 for t in range(longest)
        ]
        for t in range(length):
            decision = decision_of(env, episode, first + t)
            for name in ("log_probs", "rewards", "costs"):
                np.testing.assert_array_equal(getattr(batch, name)[t, own].numpy(), getattr(decision, name))
            start = batch.graph.signal_start[batch.signal_rows[t, own]]
            assert (batch.phase_rows[t, own] - start).tolist() == decision.actions.tolist()
    ended = [(e, n) for e, n, first, length, _ in batch.sources if first + length == episode_length(e, n)]
    assert [summary["return"] for summary in batch.summaries] == [float(100 * e + n) for e, n in ended]
    assert batch.ended_in == tuple(e % 2 for e, _ in ended)


def check_whole(sources: list[Source]) -> None:
    """Every decision of every env exactly once and in its order."""
    decisions: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for env, episode, first, length, _ in sources:
        decisions[env] += [(episode, first + t) for t in range(length)]
    for env in range(ENVS):
        assert decisions[env] == [(n, t) for n in range(EPISODES) for t in range(episode_length(env, n))]


def torch_loader(dataset: ExperienceDataset, workers: int) -> contextlib.AbstractContextManager[Any]:
    """What people use elsewhere."""
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context="forkserver"
    )
    return contextlib.nullcontext(loader)


@pytest.mark.parametrize(
    ("make", "workers"),
    [(Batches, 0), (Batches, 1), (Batches, 2), (torch_loader, 2)],
    ids=["here", "a worker", "two workers", "torch's loader"],
)
def test_nothing_is_lost_doubled_reordered_or_torn(
    slots: Slots, make: Callable[[ExperienceDataset, int], contextlib.AbstractContextManager[Any]], workers: int
) -> None:
    """Two writer processes with two envs each, held back by slots; every frame is known by its numbers."""
    sources: list[Source] = []
    with running(write, slots, [0, 1]) as (one, first), running(write, slots, [2, 3]) as (two, second):
        assert [hear(first), hear(second)] == ["held back", "held back"]
        assert slots.counts() == {"free": 0, "writing": 0, "ready": len(slots), "reading": 0}
        told = False
        with make(make_dataset(slots), workers) as loader:
            for batch in loader:
                assert sum(slots.counts().values()) == len(slots)
                if batch is not None:
                    check(batch)
                    sources += batch.sources
                elif not told and not one.is_alive() and not two.is_alive():
                    slots.end()
                    told = True
        assert [hear(first), hear(second)] == ["done", "done"]
    check_whole(sources)
    assert len({source[:3] for source in sources}) == len(sources)
    assert slots.counts()["free"] == len(slots)


def test_serial_mode_collects_when_there_is_nothing_to_read(slots: Slots) -> None:
    """One process writes and reads in turn; nothing else is running."""
    writers = {env: fill(slots, env) for env in range(ENVS)}

    def work() -> None:
        for env, writer in list(writers.items()):
            if next(writer, None) is None:
                del writers[env]
        if not writers:
            slots.end()

    batches = list(make_dataset(slots, work=work, patience=30.0))
    sources: list[Source] = []
    for batch in batches:
        assert batch is not None
        check(batch)
        sources += batch.sources
    check_whole(sources)
    assert slots.counts()["free"] == len(slots)


def test_slots_are_given_back_before_their_batch_is_full(slots: Slots) -> None:
    dataset = make_dataset(slots, batch_fragments=100, patience=0.0)
    writer = fill(slots, 0)
    stream = iter(dataset)
    for _ in range(3):
        assert next(writer)
        assert next(stream) is None
        assert slots.counts()["free"] == len(slots)
    slots.end()
    rest = list(stream)
    assert len(rest) == 1
    assert rest[0] is not None
    check(rest[0])
    assert len(rest[0].sources) == 3


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many frames each call of ``build`` was given."""
    calls: list[int] = []

    def counting(frames: Frames, topology: Topology, radius: float) -> Graphs:
        calls.append(len(frames.time))
        return build(frames, topology, radius)

    with monkeypatch.context() as patch:
        patch.setattr(graph.dataset, "build", counting)
        yield calls


@pytest.mark.parametrize("batch_fragments", [1, 2, 5])
def test_no_frame_is_built_twice_and_a_batch_is_built_at_once(
    slots: Slots, monkeypatch: pytest.MonkeyPatch, batch_fragments: int
) -> None:
    dataset = make_dataset(slots, batch_fragments, patience=0.0)
    stream = iter(dataset)
    batches = []
    with counted(monkeypatch) as calls:
        for wrote in fill(slots, 2):
            assert wrote
            batches.append(next(stream))
        slots.end()
        batches += list(stream)
    whole = [batch for batch in batches if batch is not None]
    assert len(calls) == len(whole)
    assert sum(calls) == sum(episode_length(2, episode) + 1 for episode in range(EPISODES))
    for batch in whole:
        check(batch)
    assert len(dataset._cache) == 0, "graphs of an episode that is over are kept"


def test_the_cache_is_bounded(slots: Slots) -> None:
    dataset = make_dataset(slots, cache_frames=10)
    for env in range(3):
        for n in range(8):
            dataset.batch([make_fragment(n, network_of(env), 4, env=env, first=4 * n)])
            assert len(dataset._cache) <= 10 * (env + 1)
    assert len(dataset._cache) == 30


def test_a_gap_hides_the_history_instead_of_bridging_it(slots: Slots) -> None:
    """The fragment in between was lost with its collector."""
    dataset = make_dataset(slots)
    one = make_fragment(1, network_of(0), 3, first=0)
    dataset.batch([one])
    other = make_fragment(2, network_of(0), 3, first=5)
    batch = dataset.batch([other])
    assert len(batch.graph.signal_start) == 4 * one.actions.shape[1]
    alone = make_dataset(slots).batch([replace(other)])
    assert torch.equal(batch.graph.history, alone.graph.history)


def test_it_ends_with_a_reason_when_readers_and_workers_differ() -> None:
    slots = Slots(layouts(), ENVS, slots_per_env=1, readers=2)
    with pytest.raises(ValueError, match="made for 2 readers and 1 read them"):
        list(make_dataset(slots))
    slots.close()
