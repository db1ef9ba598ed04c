from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import TCPStore

from learner.world import World, join_world
from tests.learner.ranks import agree, leave, lose, run_rank
from tests.processes import hear, running

LOST = "RankLostError: another rank has ended or has not answered within"


def on_two_ranks(task: Callable[[World], Any]) -> list[Any]:
    """What a task returns on each of two ranks, in processes of their own."""
    with two_ranks(task, timeout=30.0) as ranks:
        return [hear(connection) for connection in ranks]


@contextlib.contextmanager
def two_ranks(task: Callable[[World], Any], timeout: float) -> Iterator[list[Connection]]:
    """Two ranks at work, and the connections by which each of them answers."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with contextlib.ExitStack() as stack:
        ranks = [stack.enter_context(running(run_rank, rank, store.port, task, timeout)) for rank in range(2)]
        yield [connection for _, connection in ranks]


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
    assert results[0].startswith(f"{LOST} 30 s: ")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("at", ["update", "sum", "gather"])
def test_a_rank_that_is_killed_or_stopped_is_noticed_wherever_they_meet(number: signal.Signals, at: str) -> None:
    with two_ranks(partial(lose, number=number, after=at), 2.0) as ranks:
        heard = hear(ranks[0])
    assert len(heard) == 5
    for complaint in heard:
        assert complaint.startswith(f"{LOST} 2 s: ")
        assert "\n" not in complaint
        assert "third_party" not in complaint


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_has_lost_a_rank_ends_as_it_wants(number: signal.Signals) -> None:
    """Its interpreter and its backend have much to clean up, without the other one."""
    program = (
        "import contextlib, sys; from learner.world import end_process; from tests.learner.ranks import join, lose\n"
        "with contextlib.closing(join(int(sys.argv[1]), int(sys.argv[2]), 2.0)) as world:\n"
        "    print(*lose(world, int(sys.argv[3]), 'update'), sep='\\n')\n"
        "end_process(3)"
    )
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    with contextlib.ExitStack() as stack:
        ranks = []
        for rank in ("0", "1"):
            arguments = [*command, rank, str(store.port), str(int(number))]
            ranks.append(subprocess.Popen(arguments, cwd=root, stdout=subprocess.PIPE, text=True))
            stack.enter_context(ranks[-1])
            stack.callback(ranks[-1].kill)
        output, _ = ranks[0].communicate(timeout=60)
        assert output.count(LOST) == 5
        assert ranks[0].returncode == 3


def test_leaving_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    end = threading.Event()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "destroy_process_group", end.wait)
    monkeypatch.setattr("learner.world._LEAVING", 0.05)
    World(0, 2, torch.device("cpu")).close()
    end.set()
    assert "rank 0 could not leave the others within 0.05 s" in caplog.text


def test_an_error_of_ones_own_is_nobody_elses() -> None:
    world = World(0, 2, torch.device("cpu"), 5.0)
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"), world.meeting():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not world.lost
