"""Python processes that try limits on themselves, and say what came of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 60.0  # s that a test waits for another process, at most
MB = 2**20


def run(script: str, *arguments: str, within: Sequence[str] = ()) -> str:
    """What a script prints; fails with its own words when it fails."""
    command = [*within, sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Child:
    """A script that does one step for each line it reads, and prints a line when it has done it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def step(self) -> str:
        """Let it go on; the line that it says then, which is empty when it has ended instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def stepping(script: str, *arguments: str, keep: Sequence[int] = ()) -> Iterator[Child]:
    """A child, and descriptors that it keeps; it ends with the block, since its input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=keep,
    )
    try:
        with process:
            yield Child(process)
            process.communicate(timeout=LIMIT)
    finally:
        process.kill()
