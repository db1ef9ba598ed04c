"""What the two ranks of the tests in this folder do: real processes that talk over gloo."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from graph.batch import Batch
from learner.progress import Progress
from learner.steps import agreed_steps
from learner.world import World, join_world
from tests.learner.examples import make_batch, make_learner

AVAILABLE = ((None, 0, 1, None, None, 2, 3), (0, None, 1, 2, 3, None))  # batches of each rank; None: none has come


def run_rank(connection: Connection, rank: int, port: int, task: Callable[[World], Any]) -> None:
    """Join the other rank, do the task, send what it returns."""
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True", GLOO_SOCKET_IFNAME="lo"
    )
    world = join_world({"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}, "cpu", timeout=30.0)
    connection.send(task(world))
    world.close()
    world.close()


def agree(world: World) -> dict[str, Any]:
    """Everything that a world is for."""
    return {
        "rank": (world.rank, world.size, world.is_first, str(world.device)),
        "sum": world.sum([1.0, 10.0 * world.rank]),
        "mean": world.mean(torch.tensor([float(world.rank), 4.0])).tolist(),
        "gather": world.gather("one" if world.rank else "zero"),
    }


def leave(world: World) -> str:
    """Rank 1 goes away while rank 0 counts on it, once both have been there."""
    if world.rank == 1:
        world.sum([1.0])
        return "gone"
    try:
        return str([world.sum([1.0]), world.sum([1.0])])
    except RuntimeError as error:
        return f"error: {error}"


def update(world: World) -> dict[str, Any]:
    """Two updates on batches of its own."""
    learner = make_learner(world, gradient_clip=1e9)
    figures = learner.update([make_batch(world.rank)])
    first = learner.flat_weights()
    learner.update([make_batch(2 + world.rank), make_batch(4 + world.rank)])
    return {"weights": first, "digest": learner.digest(), "norm": figures["gradient_norm"]}


def count_reductions(world: World) -> list[int]:
    """Gradient buckets that travel for one batch, and for three."""
    learner = make_learner(world)
    assert isinstance(learner._model, DistributedDataParallel)
    travelled = []

    def hook(state, bucket):  # type: ignore[no-untyped-def]  # DDP wants types, and not their names, or none
        travelled.append(bucket.index())
        return allreduce_hook(state, bucket)

    learner._model.register_comm_hook(None, hook)
    counts = []
    for batches in (1, 3, 3):
        travelled.clear()
        learner.update([make_batch(world.rank + 2 * i) for i in range(batches)])
        counts.append(len(travelled))
    return counts


def take_steps(world: World) -> dict[str, Any]:
    """Steps over a stream that has other gaps, and another length, than the other rank's."""
    progress = Progress()
    seen = []
    stream: Iterator[Batch | None] = (
        None if seed is None else make_batch(10 * world.rank + seed) for seed in AVAILABLE[world.rank]
    )
    for batches in agreed_steps(stream, world, progress, accumulate=2, finished=lambda: False):
        seen.append([batch.sources[0][1] for batch in batches])
    return {"steps": seen, "decisions": progress.decisions}


def stop_together(world: World) -> int:
    """Rank 1 wants to stop after its fifth look; returns how many steps there were."""
    looks = itertools.count(1)
    endless: Iterator[Batch | None] = (make_batch(world.rank) for _ in itertools.count())
    steps = agreed_steps(endless, world, Progress(), 1, lambda: world.rank == 1 and next(looks) == 5)
    return sum(1 for _ in steps)
