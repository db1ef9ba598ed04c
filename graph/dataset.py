"""Fragments from shared memory to batches of graphs, as an ``IterableDataset``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from buffers.continuity import Continuity
from buffers.fragments import Fragment, read_fragment
from buffers.queue import END
from buffers.rolling import RollingCache
from buffers.slots import Slots
from graph.batch import Batch, make_batch
from graph.build import Frames, build
from graph.graphs import Graphs
from graph.ragged import offsets_of
from graph.topology import Topology


class ExperienceDataset(IterableDataset[Batch | None]):
    """Every announced fragment exactly once, in order per env, as batches of ``batch_fragments``.

    Envs may simulate different networks: env e of the whole run is in network ``e % M`` of the M ``topologies``.
    Slots are given back as soon as they have been read. The last ``cache_frames`` graphs of each env stay in a rolling
    cache: they are the history that the policy looks back at, and the frame that two fragments share is built once.

    Yields None when no fragment has come for ``patience`` seconds, so that whoever iterates can look after other
    things, and ends when the pool says that no more will come. Raises ``BrokenOrderError`` when a fragment is lost,
    doubled, torn or out of order. ``work`` is called when there is nothing to read; in serial mode it is what collects.

    Several readers, each in a process of its own (``graph.loader``, or workers of torch's ``DataLoader``), share the
    envs: reader r of R takes the fragments of envs e with e % R == r. ``slots`` must have been made for as many.
    """

    def __init__(
        self,
        slots: Slots,
        topologies: Sequence[Topology],
        *,
        batch_fragments: int,
        radius: float,
        history: int = 1,
        cache_frames: int = 16,
        patience: float = 1.0,
        work: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._slots = slots
        self._topologies = tuple(topologies)
        self._batch_fragments = batch_fragments
        self._radius = radius
        self._history = history
        self._patience = patience
        self._work = work
        self._cache: RollingCache[Graphs] = RollingCache(cache_frames)
        self._continuity = Continuity()

    @property
    def delivered(self) -> int:
        """Fragments that this process has read."""
        return self._continuity.delivered

    def __iter__(self) -> Iterator[Batch | None]:
        worker = get_worker_info()
        return self.read() if worker is None else self.read(worker.id, worker.num_workers)

    def read(self, reader: int = 0, readers: int = 1) -> Iterator[Batch | None]:
        """The batches of one of ``readers`` readers."""
        if readers != self._slots.readers:
            raise ValueError(f"the slots were made for {self._slots.readers} readers and {readers} read them")
        waiting: list[Fragment] = []
        while True:
            taken = self._next(reader)
            if taken is None:
                yield None
                continue
            if isinstance(taken, _End):
                break
            waiting.append(taken)
            if len(waiting) == self._batch_fragments:
                yield self.batch(waiting)
                waiting = []
        if waiting:
            yield self.batch(waiting)

    def shrink(self) -> None:
        """Keep no more frames of each env than the policy looks back at, in this process."""
        self._cache.shrink(self._history)

    def _next(self, reader: int) -> Fragment | _End | None:
        """The next fragment, or None after a while without one."""
        if self._work is None:
            announcement = self._slots.take(reader, self._patience)
        else:
            deadline = time.monotonic() + self._patience
            while (announcement := self._slots.take(reader, 0.0)) is None and time.monotonic() < deadline:
                self._work()
        if announcement is None:
            return None
        if announcement == END:
            return _End()
        fragment = read_fragment(self._slots.views(announcement.slot))
        self._slots.release(announcement.slot)
        self._continuity.check(fragment, announcement.sequence)
        return fragment

    def batch(self, fragments: Sequence[Fragment]) -> Batch:
        """A batch of these fragments; the graphs of all frames of a network that are new are built at once."""
        maps = [fragment.env % len(self._topologies) for fragment in fragments]
        built = self._new_graphs(fragments, maps)
        parts: list[Graphs] = []
        leading: list[int] = []
        for fragment, graphs in zip(fragments, built, strict=True):
            before = self._cache.before(fragment.env, fragment.episode, fragment.first)
            if before is not None:
                # The last frame of the fragment before is the first of this one; the policy may look further back.
                recent = np.arange(max(0, len(before) - self._history), len(before))
                parts.append(Graphs.join([before.take(recent), graphs]))
                leading.append(len(recent) - 1)
                graphs = Graphs.join([before, graphs])
            else:
                parts.append(graphs)
                leading.append(0)
            if fragment.ended:
                self._cache.forget(fragment.env)
            else:
                self._cache.keep(fragment.env, fragment.episode, fragment.first + len(fragment), graphs)
        return make_batch(fragments, Graphs.join(parts), leading, self._history, maps)

    def _new_graphs(self, fragments: Sequence[Fragment], maps: Sequence[int]) -> list[Graphs]:
        """The graphs of each fragment's frames, without the first one where it is known; ``maps``: their networks."""
        known = [self._follows(fragments[:i], fragment) for i, fragment in enumerate(fragments)]
        graphs: dict[int, Graphs] = {}
        for number in sorted(set(maps)):
            own = [i for i, other in enumerate(maps) if other == number]
            frames = new_frames([fragments[i] for i in own], [known[i] for i in own])
            built = build(frames, self._topologies[number], self._radius)
            cut = offsets_of([len(fragments[i].time) - known[i] for i in own])
            graphs |= {i: built.take(np.arange(a, b)) for i, (a, b) in zip(own, pairwise(cut), strict=True)}
        return [graphs[i] for i in range(len(fragments))]

    def _follows(self, earlier: Sequence[Fragment], fragment: Fragment) -> bool:
        """Whether the graph of a fragment's first frame will be in the cache once ``earlier`` have gone through it."""
        for other in reversed(earlier):
            if other.env == fragment.env:
                return not other.ended and (other.episode, other.first + len(other)) == (
                    fragment.episode,
                    fragment.first,
                )
        return self._cache.before(fragment.env, fragment.episode, fragment.first) is not None


def new_frames(fragments: Sequence[Fragment], known: Sequence[bool]) -> Frames:
    """The frames of fragments of one network as one table, without the first one where its graph is known."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(f, name)[int(k) :] for f, k in zip(fragments, known, strict=True)])

    def joined_rows(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(f, name)[f.offsets[int(k)] :] for f, k in zip(fragments, known, strict=True)])

    return Frames(
        time=joined("time"),
        vehicles=joined_rows("vehicles"),
        lanes=joined_rows("lanes"),
        offsets=offsets_of(
            np.concatenate([np.diff(f.offsets)[int(k) :] for f, k in zip(fragments, known, strict=True)])
        ),
        shown=joined("shown"),
        elapsed=joined("elapsed"),
        allowed=joined("allowed"),
    )


class _End:
    """No more fragments will come."""
