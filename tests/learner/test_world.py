from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from learner.world import World, join_world
from tests.learner.ranks import agree, leave, run_rank
from tests.processes import hear, running


def on_two_ranks(task: Callable[[World], Any]) -> list[Any]:
    """What a task returns on each of two ranks, in processes of their own."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with contextlib.ExitStack() as stack:
        ranks = [stack.enter_context(running(run_rank, rank, store.port, task)) for rank in range(2)]
        return [hear(connection) for _, connection in ranks]


def test_alone_without_torchrun() -> None:
    world = join_world({}, "cpu", timeout=1.0)
    assert world == World(0, 1, torch.device("cpu"))
    assert world.is_first
    assert world.sum([1.5, 2.0]) == [1.5, 2.0]
    assert world.mean(torch.tensor(3.0)) == 3.0
    assert world.gather("alone") == ["alone"]
    world.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"^--device cuda: .* must be auto or cpu$"):
        join_world({}, "cuda", timeout=1.0)
    assert join_world({}, "auto", timeout=1.0).device == torch.device("cpu")


def test_two_ranks_agree() -> None:
    results = on_two_ranks(agree)
    assert [result["rank"] for result in results] == [(0, 2, True, "cpu"), (1, 2, False, "cpu")]
    for result in results:
        assert result["sum"] == [2.0, 10.0]
        assert result["mean"] == [0.5, 4.0]
        assert result["gather"] == ["zero", "one"]


def test_a_rank_that_leaves_is_noticed() -> None:
    results = on_two_ranks(leave)
    assert results[1] == "gone"
    assert results[0].startswith("error: ")
