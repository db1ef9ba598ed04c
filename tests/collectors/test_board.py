"""The board: rows that one process writes and another sees."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

from collectors.board import Activity, Board


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board(3)
    yield board
    board.close()


def write(board: Board, collector: int) -> None:
    row = board.row(collector)
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
