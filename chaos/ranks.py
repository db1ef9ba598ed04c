"""Runs of two ranks."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from chaos.harm import start
from tests.support.runs import SCRIPT, TrainRun

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", SCRIPT)
RANKS = ("--num-envs", "2", "--num-collectors", "1", "--batch-fragments", "4")  # two of them fit on two cores
SINGLE_THREAD = {"OMP_NUM_THREADS": "1"}


def rank_of(run: TrainRun, rank: int) -> psutil.Process:
    """The process of one of the ranks that ``torchrun`` has started."""
    children = psutil.Process(run.process.pid).children()
    return next(child for child in children if child.environ().get("RANK") == str(rank))


@contextmanager
def both_ranks(folder: Path, *flags: str) -> Iterator[tuple[TrainRun, TrainRun]]:
    """One run of two ranks that nobody watches over: torchrun would end the one when the other fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    around = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def one(rank: int) -> TrainRun:
        own = {**SINGLE_THREAD, **around, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        run = start(folder / f"rank-{rank}", *RANKS, *flags, "--run-dir", str(folder / "run"), environment=own)
        run.folder = folder / "run"
        return run

    with one(0) as first, one(1) as second:
        yield first, second
