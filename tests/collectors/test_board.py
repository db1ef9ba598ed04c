"""The board: rows that one process writes and another sees."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import wait

import pytest

from collectors.board import Activity, Board, Wish


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(3, num_envs=4, capacity=6, first_episode=5)
    yield board
    board.close()


def write(board: Board, collector: int) -> None:
    row = board.rows[collector]
    row["decisions"] += 7
    row["activity"] = Activity.WAITING


def test_rows_begin_empty(board: Board) -> None:
    assert len(board.rows) == 3
    assert not any(board.rows["decisions"])
    assert set(board.rows["activity"].tolist()) == {Activity.STARTING}


def test_a_row_writes_through_to_its_own_numbers_only(board: Board) -> None:
    write(board, 1)
    write(board, 1)
    assert board.rows["decisions"].tolist() == [0, 14, 0]
    assert [Activity(value) for value in board.rows["activity"]] == [
        Activity.STARTING,
        Activity.WAITING,
        Activity.STARTING,
    ]


def test_another_process_writes_into_the_same_board(board: Board) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=write, args=(board, 2))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert board.rows["decisions"].tolist() == [0, 0, 7]


def test_episodes_are_counted_from_where_the_run_stands(board: Board) -> None:
    assert board.envs["episode"].tolist() == [4] * 6
    assert board.num_envs == 4


def test_an_order_is_obeyed_once_its_number_is_written_down(board: Board) -> None:
    assert board.ordered(1)[1] is Wish.STOP, "before any order nobody does anything"
    for wish in (Wish.RUN, Wish.PAUSE, Wish.PAUSE, Wish.STOP):
        board.order(1, wish)
        assert not board.has_obeyed(1), "the same wish again is another order"
        order, wished = board.ordered(1)
        assert wished is wish
        board.rows[1]["obeyed"] = order
        assert board.has_obeyed(1)
    assert board.ordered(0)[1] is Wish.STOP
    assert not board.rows["obeyed"][[0, 2]].any()


def resize(board: Board) -> None:
    board.num_envs = 2
    board.order(2, Wish.RUN)
    board.bell.ring()


def test_another_process_sees_orders_and_rings(board: Board) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=resize, args=(board,))
    process.start()
    assert wait([board.bell.fileno()], 60)
    assert board.num_envs == 2
    assert board.ordered(2)[1] is Wish.RUN
    process.join(60)
    assert process.exitcode == 0
