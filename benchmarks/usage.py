"""What processes use: wall time, processor time, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil


def tree(pid: int | None = None) -> list[int]:
    """A process and all that it has started and that still runs, itself first; this process unless named."""
    top = psutil.Process(pid)
    return [top.pid, *(child.pid for child in top.children(recursive=True))]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process since its start, all its threads, in s.

    Linux gives every process a clock of its own that others may read; its number is made of the process id (see
    clock_getcpuclockid(3)). It counts nanoseconds where /proc/PID/stat counts hundredths of a second.

    Raises ``ProcessLookupError`` where the process has ended.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as error:
        raise ProcessLookupError(f"process {pid} has ended, and with it the clock of its processor time") from error


def pss(pids: Iterable[int]) -> int:
    """Memory that processes hold, in bytes: pages that n processes share count 1/n in each.

    A process that has ended meanwhile counts nothing.
    """
    return sum(map(_pss_of_one, pids))


def _pss_of_one(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # A process that has ended and was not waited for yet has the file, and nothing in it.
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of wall time, and of processor time of all processes together."""

    wall: float
    cpu: float

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.wall + other.wall, self.cpu + other.cpu)


class Meter:
    """Measures some processes while its ``with`` block runs; several blocks add up in ``total``.

    The processes are those of this one's tree at the moment the block begins, unless named. All of them must live until
    it ends.
    """

    def __init__(self, pids: Iterable[int] | None = None) -> None:
        self.total = Usage(0.0, 0.0)
        self._named = None if pids is None else list(pids)
        self._pids: list[int] = []

    def __enter__(self) -> Self:
        self._pids = tree() if self._named is None else self._named
        self._began = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            now = self._now()
            self.total += Usage(now.wall - self._began.wall, now.cpu - self._began.cpu)

    def elapsed(self) -> float:
        """Wall time of all blocks so far and of the one that runs, s."""
        return self.total.wall + time.perf_counter() - self._began.wall

    def _now(self) -> Usage:
        own = os.getpid()
        cpu = sum(time.process_time() if pid == own else cpu_seconds(pid) for pid in self._pids)
        return Usage(time.perf_counter(), cpu)
