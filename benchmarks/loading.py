"""Batches from a process that builds them to the one that learns: through this project's pipe, and torch's queue.

The same batch travels again and again. Processor time is that of both processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.endless import Endless
from benchmarks.graphs import Settings as Frames
from benchmarks.graphs import recorded
from benchmarks.spread import Spread, ratio
from benchmarks.usage import Meter
from graph import Batch, Batches
from graph.tensors import GraphTensors
from pages import script
from pages.output import say

_WARM_UP = 10  # batches before anything is measured


@dataclass(frozen=True)
class Settings:
    """What travels, and how often."""

    network: str = "resco:cologne8"
    """A scenario by name."""
    seconds: float = 3600.0
    """Simulated seconds that the frames are taken from."""
    fragments: int = 8
    """Fragments of one batch, of 16 decisions each."""
    rounds: int = 5
    """How often both are measured."""
    batches: int = 200
    """Batches of one measurement."""


QUICK = Settings(network="single", seconds=120.0, fragments=2, rounds=1, batches=20)


def measure(settings: Settings) -> dict[str, Any]:
    """``per_second``: batches; ``cpu``: s for each; ``cheaper``: how many times as much torch's queue needs."""
    torch.set_num_threads(1)
    frames, topology = recorded(settings.network, Frames(frames=17, seconds=settings.seconds))
    ways = {"pipe": through_pipe, "DataLoader": through_loader}
    samples: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    size = 0
    for number in range(1, settings.rounds + 1):
        say(f"loading, round {number} of {settings.rounds}")
        for way, through in ways.items():
            with through(Endless(frames, topology, settings.fragments)) as batches:
                sample, size = timed(batches, settings.batches)
                samples[way].append(sample)
    cpu = {way: [sample["cpu"] for sample in found] for way, found in samples.items()}
    rows = [
        {
            "way": way,
            "per_second": Spread.of(sample["per_second"] for sample in samples[way]).as_dict(),
            "cpu": Spread.of(cpu[way]).as_dict(),
            "cheaper": ratio(cpu["DataLoader"], cpu[way]).as_dict(),
        }
        for way in ways
    ]
    return {"network": settings.network, "bytes": size, "rows": rows}


@contextmanager
def through_pipe(dataset: Endless) -> Iterator[Iterator[Batch | None]]:
    """As a run does it."""
    with Batches(dataset, 1) as batches:
        yield batches


@contextmanager
def through_loader(dataset: Endless) -> Iterator[Iterator[Batch | None]]:
    """As torch does it."""
    batches = iter(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="forkserver"))
    try:
        yield batches
    finally:
        batches._shutdown_workers()  # type: ignore[attr-defined]


def timed(batches: Iterator[Batch | None], count: int) -> tuple[dict[str, float], int]:
    """Batches per s, and s of processor time of both sides for each; and the bytes of one."""
    size = bytes_of(take(batches, _WARM_UP))
    with Meter() as meter:
        take(batches, count)
    return {"per_second": count / meter.total.wall, "cpu": meter.total.cpu / count}, size


def take(batches: Iterator[Batch | None], count: int) -> Batch:
    """So many batches; returns the last."""
    taken, last = 0, None
    while taken < count:
        batch = next(batches)  # None while the worker starts
        if batch is not None:
            taken, last = taken + 1, batch
    assert last is not None
    return last


def bytes_of(batch: Batch) -> int:
    """Bytes of all tensors of a batch's graph, which are nearly all of it."""
    tensors = [getattr(batch.graph, name) for name in GraphTensors.__dataclass_fields__]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    script.run(Settings, measure, "loading", __doc__)
