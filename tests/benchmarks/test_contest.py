"""Contenders measure in turn, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.contest import Contender, ContestError, contest
from pages import ROOT

TURNS = ["tests.benchmarks.turns"]


def test_contenders_take_turns() -> None:
    samples = contest([Contender("a", TURNS), Contender("b", TURNS)], rounds=3, title="test")
    assert [sample["turn"] for sample in samples["a"]] == [1, 2, 3]
    order = [sample["at"] for round_ in zip(samples["a"], samples["b"], strict=True) for sample in round_]
    assert order == sorted(order)


def test_a_contender_that_fails_ends_the_contest_by_its_name() -> None:
    with pytest.raises(ContestError, match="b: ended with exit code 3"):
        contest([Contender("a", TURNS), Contender("b", [*TURNS, "--fail-in", "2"])], rounds=3, title="test")


def test_a_contender_that_does_not_exist_is_named() -> None:
    with pytest.raises(ContestError, match="nobody: ended with exit code 1"):
        contest([Contender("nobody", ["benchmarks.nobody"])], rounds=1, title="test")


def test_alone_it_measures_once_and_only_results_are_on_stdout() -> None:
    run = subprocess.run(
        [sys.executable, "-m", *TURNS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(run.stdout)["turn"] == 1
    assert "noise\n" in run.stderr
    assert "noise of a child" in run.stderr
