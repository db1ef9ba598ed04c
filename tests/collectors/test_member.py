"""One collector as its pool sees it: how long silence may last, and starts that come to nothing."""

from __future__ import annotations

import errno
import multiprocessing
import sys
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from collectors.board import Activity, Board
from collectors.member import Member, patience
from collectors.processes import START_LIMIT, sumo_limits


@pytest.mark.parametrize(
    ("limit", "condemned"), [(30.0, 28.25), (5.0, 3.25), (2.0, 1.0), (1.0, 0.5)], ids=["30", "5", "2", "1"]
)
def test_who_is_silent_is_condemned_in_time_to_be_dead_by_the_limit(limit: float, condemned: float) -> None:
    assert patience(limit) == condemned


@pytest.mark.parametrize("limit", [2.0, 5.0, 30.0, 100.0])
def test_a_sumo_that_hangs_is_given_up_before_its_collector_is(limit: float) -> None:
    limits = sumo_limits(limit)
    grace = min(1.0, limits["step_limit"] / 8)  # s
    assert limits["step_limit"] + grace < patience(limit)
    assert limits["start_limit"] < patience(max(START_LIMIT, limit))


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(1, 1)
    yield board
    board.close()


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_start_that_fails_leaves_nobody_starting(board: Board) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, "no more processes")

    member = Member(0, refuse, board, restart_limit=5)
    before = descriptors()
    with pytest.raises(OSError, match="no more processes"):
        member.start()
    assert member.activity is Activity.STOPPED
    assert member.process is None
    assert descriptors() == before
    member.close()


def test_an_end_counts_once_its_exit_code_is_known(board: Board) -> None:
    """A forkserver reports exit codes after its children have ended; who looks too early takes 0 for an accident."""

    def launch(*_: Any) -> Any:
        process = multiprocessing.get_context("forkserver").Process(target=sys.exit, args=(7,))
        process.start()
        return process

    member = Member(0, launch, board, restart_limit=5)
    for _ in range(2):
        member.start()
        assert member.pidfd is not None
        assert wait([member.pidfd], 30.0)
        seen = [member.has_ended]
        member.await_code()
        seen.append(member.has_ended)
        assert member.bury() == 7
        seen.append(member.has_ended)
        assert seen == [False, True, False]
    member.close()
