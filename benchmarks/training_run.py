"""A training run as a user starts it, in a process of its own that is watched from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contest import ContestError
from learner import metrics
from pages import ROOT
from pages.output import say

_LOOK = 0.1  # s between two looks at its metrics
_START_LIMIT = 120.0  # s until it has written its first row, and until it has ended once asked to
_QUOTE = 3000  # characters of its output in an error

# Said before a command: the kernel ends it with the thread that has started it, whatever ends that.
TIED = ("setpriv", "--pdeathsig", "KILL")


class TrainingRun:
    """``train_rl.py`` at work; ``flags`` without the folder. Its folder goes when the ``with`` block ends."""

    def __init__(self, flags: Mapping[str, str], folder: Path) -> None:
        self.arguments = ["train_rl.py", *(text for pair in flags.items() for text in pair)]
        self.folder = folder / "run"
        self._output = folder / "output"
        self.began = time.time()  # s since 1970, as files have it
        with self._output.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                [*TIED, sys.executable, *self.arguments, "--run-dir", str(self.folder)],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        say(f"python {' '.join(self.arguments)}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def rows(self) -> list[dict[str, Any]]:
        """Its metrics so far."""
        path = self.folder / metrics.FILE_NAME
        return metrics.read(path) if path.exists() else []

    def wait_for(self, what: Callable[[dict[str, Any]], bool], limit: float) -> dict[str, Any]:
        """Wait until a row of its metrics is as it should; bounded by ``limit`` s and what a start may take."""
        deadline = time.monotonic() + _START_LIMIT + limit
        while time.monotonic() < deadline and self._process.poll() is None:
            rows = self.rows()
            if rows and what(rows[-1]):
                return rows[-1]
            time.sleep(_LOOK)
        raise ContestError(f"{self._name()} ended early or has not got far enough in {limit:g} s:\n{self._said()}")

    def finish(self, ask: bool = False, within: float = 0.0) -> None:
        """Wait until it has ended by itself, or because it is asked to; raises ``ContestError`` unless all was well.

        It has ``within`` s for its work, and what a start and an end may take.
        """
        if ask:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(_START_LIMIT + within)
        except subprocess.TimeoutExpired as error:
            raise ContestError(f"{self._name()} does not end:\n{self._said()}") from error
        if code:
            raise ContestError(f"{self._name()} ended with exit code {code}:\n{self._said()}")

    def kill(self) -> None:
        """End it at once; its children follow it."""
        self._process.kill()
        self._process.wait()

    def _name(self) -> str:
        return f"python {' '.join(self.arguments)}"

    def _said(self) -> str:
        return self._output.read_text(encoding="utf-8")[-_QUOTE:]


@contextmanager
def training_run(flags: Mapping[str, str]) -> Iterator[TrainingRun]:
    """A run in a folder that goes with it, ended in any case."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(flags, Path(folder))
        try:
            yield run
        finally:
            run.kill()
