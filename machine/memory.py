"""How much memory there is, who has it, and giving back what nobody needs."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import NamedTuple

import psutil

from machine import cgroups


class ProcessMemory(NamedTuple):
    """The memory of one process, in bytes."""

    pid: int
    name: str
    size: int


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that there are in all: the machine's, or the container's where that has less.

    ``root`` is where control groups are looked for.
    """
    return min([psutil.virtual_memory().total, *(group.limit for group in cgroups.memory(root))])


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that could be had now without swapping; caches that are given up when needed count as free."""
    return min([psutil.virtual_memory().available, *(group.left for group in cgroups.memory(root))])


def tree_memory(pid: int) -> int:
    """Memory of a process and all its descendants in bytes; a process that has ended counts nothing.

    Pages shared among n processes count 1/n in each (PSS), so that the sum is what the machine really holds. Where the
    kernel does not tell, it is the resident size, which counts shared pages once per process. Shared memory that no
    living process has touched counts nothing.
    """
    return sum(process.size for process in tree_memory_by_process(pid))


def tree_memory_by_process(*pids: int) -> list[ProcessMemory]:
    """The same for each process of the trees of several, biggest first; those that have ended are left out."""
    trees = {process.pid: process for pid in pids for process in _tree(pid)}
    found = [one for process in trees.values() if (one := _memory_of_one(process)) is not None]
    return sorted(found, key=lambda one: one.size, reverse=True)


def _tree(pid: int) -> list[psutil.Process]:
    """A process and all that descends from it; nobody where it has ended."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory_of_one(process: psutil.Process) -> ProcessMemory | None:
    try:
        size = _proportional(process.pid)
        return ProcessMemory(process.pid, process.name(), int(process.memory_info().rss) if size is None else size)
    except psutil.NoSuchProcess:
        return None


def _proportional(pid: int) -> int | None:
    """PSS in bytes; None for a process that has ended or is not ours, and from a kernel that does not tell."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), None)


def give_back() -> int:
    """Return to the system what this process holds and nobody needs; returns how many bytes that were."""
    process = psutil.Process()
    before = process.memory_info().rss
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(ctypes.c_size_t(0))
    return max(0, int(before - process.memory_info().rss))
