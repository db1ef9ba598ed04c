"""Contenders that are measured in turn: each in a process of its own, so that none warms or burdens another.

A contender starts once, says that it is ready, and then measures whenever a line reaches its stdin; each measurement
is a line of JSON on its stdout. While one measures, the others wait for their turn and use nothing.
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import IO, Any, Self

from pages import ROOT
from pages.output import say

_START_LIMIT = 300.0  # s until a contender is ready
_MEASURE_LIMIT = 600.0  # s for one measurement
_END_LIMIT = 30.0  # s until it has ended
_READY = {"ready": True}

Sample = dict[str, Any]


class ContestError(RuntimeError):
    """A contender has failed; what it had to say is on stderr."""


class Contender:
    """The parent's end: ``python -m command`` in a process of its own; a context manager."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command, "--in-turn"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def wait_until_ready(self) -> None:
        """Return when it could begin. Raises ``ContestError`` when it fails, or takes too long."""
        if self._line(_START_LIMIT) != _READY:
            raise ContestError(f"{self.name}: did not say that it is ready")

    def measure(self) -> Sample:
        """Its turn: one measurement. Raises ``ContestError`` when it fails, or takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ContestError(f"{self.name}: {self._ending()}") from error
        return self._line(_MEASURE_LIMIT)

    def _line(self, limit: float) -> Sample:
        pipe = self._process.stdout
        assert pipe is not None
        if not select.select([pipe], [], [], limit)[0]:
            raise ContestError(f"{self.name}: no answer within {limit:g} s")
        line = pipe.readline()
        if not line:
            raise ContestError(f"{self.name}: {self._ending()}")
        answer: Sample = json.loads(line)
        return answer

    def _ending(self) -> str:
        try:
            return f"ended with exit code {self._process.wait(_END_LIMIT)}; its own words are above"
        except subprocess.TimeoutExpired:
            return "closed its output and does not end"

    def close(self) -> None:
        """Let it end, and make it end where it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def contest(contenders: Sequence[Contender], rounds: int, title: str) -> dict[str, list[Sample]]:
    """Let everybody measure once per round, in the same order; the samples of each by its name."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    with ExitStack() as open_contenders:
        for contender in contenders:
            open_contenders.enter_context(contender)
        for contender in contenders:
            contender.wait_until_ready()
        for number in range(1, rounds + 1):
            for contender in contenders:
                say(f"{title}, round {number} of {rounds}: {contender.name}")
                samples[contender.name].append(contender.measure())
    return samples


def add_turn_flag(parser: argparse.ArgumentParser) -> None:
    """The flag by which a parent says that it will tell when to measure."""
    parser.add_argument("--in-turn", action="store_true", help="measure whenever a line comes on stdin, until it ends")


def take_turns(results: IO[str], measure: Callable[[], Sample], in_turn: bool) -> None:
    """The contender's end: measure once, or whenever told to until the parent has had enough."""

    def tell(sample: Sample) -> None:
        results.write(json.dumps(sample, allow_nan=False) + "\n")
        results.flush()

    if not in_turn:
        tell(measure())
        return
    tell(_READY)
    for _ in sys.stdin:
        tell(measure())
