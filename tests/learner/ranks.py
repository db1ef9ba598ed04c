"""What the two ranks of the tests in this folder do: real processes that talk over gloo."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from graph.batch import Batch
from learner.progress import Progress
from learner.steps import agreed_steps
from learner.world import World, join_world
from tests.learner.examples import make_batch, make_learner, make_mixed_batch
from tests.learner.shortage import failing

AVAILABLE = ((None, 0, 1, None, None, 2, 3), (0, None, 1, 2, 3, None))  # batches of each rank; None: none has come


def run_rank(connection: Connection, rank: int, port: int, task: Callable[[World], Any], timeout: float = 30.0) -> None:
    """Join the other rank, do the task, send what it returns."""
    world = join(rank, port, timeout)
    connection.send(task(world))
    world.close()
    world.close()


def join(rank: int, port: int, timeout: float) -> World:
    """One of two ranks, as torchrun would have started it; the store is whoever's port it is."""
    torch.set_num_threads(1)
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True", GLOO_SOCKET_IFNAME="lo"
    )
    return join_world({"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}, "cpu", timeout)


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
    return complaint(lambda: [world.sum([1.0]), world.sum([1.0])])


def lose(world: World, number: signal.Signals, after: str) -> list[str]:
    """Rank 1 gets a signal after they have met; what rank 0 then hears wherever it would meet rank 1."""
    learner = make_learner(world)
    learner.update([make_batch(0)])
    meetings: dict[str, Callable[[], object]] = {
        "update": lambda: learner.update([make_batch(0)]),
        "sum": lambda: world.sum([1.0]),
        "mean": lambda: world.mean(torch.tensor(1.0)),
        "gather": lambda: world.gather("text"),
    }
    if world.rank == 1:
        os.kill(os.getpid(), number)
    return [complaint(meetings[after]), *map(complaint, meetings.values())]


def complaint(act: Callable[[], object]) -> str:
    """What somebody hears who tries."""
    try:
        return f"no complaint: {act()}"
    except (RuntimeError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"


def update(world: World) -> dict[str, Any]:
    """Two updates on batches of its own."""
    learner = make_learner(world, gradient_clip=1e9)
    figures = learner.update([make_batch(world.rank)])
    first = learner.flat_weights()
    learner.update([make_batch(2 + world.rank), make_batch(4 + world.rank)])
    return {"weights": first, "digest": learner.digest(), "norm": figures["gradient_norm"]}


def update_short_of_memory(world: World) -> dict[str, Any]:
    """The same as ``update``; on rank 1 memory runs out in a forward, and in the last backward."""
    learner = make_learner(world, gradient_clip=1e9)
    with failing(learner.policy, "forward", {1} if world.rank else set()):
        figures = learner.update([make_batch(world.rank)])
    first = learner.flat_weights()
    with failing(learner.policy, "backward", {4} if world.rank else set()):
        again = learner.update([make_batch(2 + world.rank), make_batch(4 + world.rank)])
    parts = (figures["parts"], again["parts"])
    return {"weights": first, "digest": learner.digest(), "norm": figures["gradient_norm"], "parts": parts}


def find_no_room_at_all(world: World) -> str:
    """On rank 1 not even a single fragment fits."""
    learner = make_learner(world)
    learner.update([make_batch(0)])
    with failing(learner.policy, "backward", set(range(1, 100)) if world.rank else set()):
        return complaint(lambda: learner.update([make_batch(0)]))


def count_reductions(world: World) -> list[int]:
    """How often gradients travel for one batch, and for three."""
    learner = make_learner(world)
    travelled: list[int] = []
    mean = World.mean

    def counting(self: World, tensor: Tensor) -> Tensor:
        travelled.append(tensor.numel())
        return mean(self, tensor)

    counts = []
    with patch.object(World, "mean", counting):
        for batches in (1, 3, 3):
            travelled.clear()
            learner.update([make_batch(world.rank + 2 * i) for i in range(batches)])
            counts.append(travelled.count(len(learner.flat_weights())))
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


def rest_together(world: World) -> list[bool]:
    """Rank 1 rests at first; what either rank knows of that after each look."""
    progress, rests = Progress(), iter([True, True, False, False])
    endless: Iterator[Batch | None] = (make_batch(world.rank) for _ in itertools.count())
    resting = (lambda: next(rests)) if world.rank == 1 else (lambda: False)
    steps = agreed_steps(endless, world, progress, 1, lambda: False, resting)
    return [progress.at_rest for _, _ in zip(range(4), steps, strict=False)]


def stop_together(world: World) -> int:
    """Rank 1 wants to stop after its fifth look; returns how many steps there were."""
    looks = itertools.count(1)
    endless: Iterator[Batch | None] = (make_batch(world.rank) for _ in itertools.count())
    steps = agreed_steps(endless, world, Progress(), 1, lambda: world.rank == 1 and next(looks) == 5)
    return sum(1 for _ in steps)


MAPS_OF_RANKS = (((0, 0), (0, 1), (0,)), ((0, 1, 1), (1,), (0, 0)))  # of the fragments in each step of each rank


def learn_on_two_maps(world: World) -> dict[str, Any]:
    """Steps in which a map is on both ranks, on one of them, or on none."""
    learner = make_learner(world, maps=("one", "other"))
    scales = []
    for step, maps in enumerate(MAPS_OF_RANKS[world.rank]):
        learner.update([make_mixed_batch(10 * world.rank + step, maps)])
        scales.append(learner.state()["reward_scales"])
    return {"digest": learner.digest(), "scales": scales}


def hear_of_delays(world: World) -> dict[str, float]:
    """Episodes end on rank 0 on both maps (10 and 20 s), on rank 1 two on the second (20 and 30 s)."""
    progress = Progress(maps=("one", "other"))
    delays = tuple({"delay": 10.0 * (1 + world.rank + i)} for i in range(2))
    batch = replace(make_batch(0), summaries=delays, ended_in=(world.rank, 1))
    for _ in agreed_steps(iter([batch]), world, progress, accumulate=1, finished=lambda: False):
        pass
    values = progress.values({"queue": {"ready": 0, "free": 0}, "version": 1, "num_envs": 1, "restarts": 0})
    return {name: value for name, value in values.items() if name.startswith("delay")}
