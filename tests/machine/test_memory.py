"""Memory of real processes, measured from outside while they take it and give it back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from machine.memory import available_memory, free_memory, tree_memory, tree_memory_by_process
from tests.machine.children import MB, run, stepping

GROWING = """
import sys
sys.stdin.readline()
print("small", flush=True)
sys.stdin.readline()
block = bytearray(b"x") * (96 << 20)
print("large", flush=True)
sys.stdin.readline()
del block
print("small", flush=True)
sys.stdin.readline()
"""


def test_a_process_that_grows_and_shrinks_is_seen() -> None:
    with stepping(GROWING) as child:
        assert child.step() == "small"
        before = tree_memory(child.pid)
        assert child.step() == "large"
        assert tree_memory(child.pid) - before == pytest.approx(96 * MB, rel=0.03)
        assert child.step() == "small"
        assert tree_memory(child.pid) == pytest.approx(before, abs=4 * MB)


# A process that has mapped a file in memory and written to it, and starts another one that does the same.
SHARING = """
import mmap, subprocess, sys
number, script = sys.argv[1], sys.argv[2]
memory = mmap.mmap(int(number), 0)
memory[:] = bytes(len(memory))
sys.stdin.readline()
print("alone", flush=True)
sys.stdin.readline()
if script:
    child = subprocess.Popen([sys.executable, "-c", script, number, ""], pass_fds=[int(number)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdin.write("\\n")
    child.stdin.flush()
    child.stdout.readline()
    print(child.pid, flush=True)
    sys.stdin.readline()
    child.communicate("\\n")
"""


def test_descendants_count_and_what_they_share_counts_once() -> None:
    shared = os.memfd_create("shared")
    os.ftruncate(shared, 64 * MB)
    with stepping(SHARING, str(shared), SHARING, keep=[shared]) as child:
        assert child.step() == "alone"
        alone = tree_memory(child.pid)
        grandchild = int(child.step())
        together = tree_memory(child.pid)
        each = {process.pid: process.size for process in tree_memory_by_process(child.pid)}
    os.close(shared)
    assert alone > 64 * MB
    assert alone < together < alone + 48 * MB
    assert set(each) == {child.pid, grandchild}
    assert each[grandchild] == pytest.approx(32 * MB, abs=16 * MB)


def test_the_biggest_process_comes_first_with_its_name() -> None:
    with stepping(GROWING) as child:
        child.step()
        child.step()
        first, *others = tree_memory_by_process(os.getpid())
        sizes = {process.pid: process.size for process in (first, *others)}
        assert sizes[child.pid] > 96 * MB
        assert first.size == max(sizes.values())
        names = {process.pid: process.name for process in (first, *others)}
        assert names[child.pid] == psutil.Process(child.pid).name()


def test_of_several_trees_each_process_counts_once() -> None:
    with stepping(GROWING) as one, stepping(GROWING) as other:
        one.step()
        other.step()
        found = [process.pid for process in tree_memory_by_process(one.pid, other.pid, os.getpid(), one.pid)]
        assert len(found) == len(set(found))
        assert {one.pid, other.pid, os.getpid()} <= set(found)


def test_without_pss_it_is_the_resident_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(path)

    with stepping(GROWING) as child:
        child.step()
        child.step()
        monkeypatch.setattr(Path, "read_text", refuse)
        assert tree_memory(child.pid) == psutil.Process(child.pid).memory_info().rss
        monkeypatch.undo()


def test_a_process_that_has_ended_counts_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert tree_memory(ended.pid) == 0, "a process whose end has not been taken note of"
    ended.wait(timeout=60)
    assert tree_memory(ended.pid) == 0
    assert tree_memory_by_process(ended.pid) == []


def test_what_is_free_is_a_part_of_what_there_is() -> None:
    assert 0 < free_memory() <= available_memory() <= psutil.virtual_memory().total


# Blocks too small for a mapping of their own, and some among them that stay and keep the heap from shrinking by itself.
HEAP = """
from machine.memory import give_back
blocks = [bytearray(b"x") * 50_000 for _ in range(2000)]
kept = blocks[::100]
del blocks
print(give_back())
"""
# What only the garbage collector can find.
CYCLE = """
import gc
from machine.memory import give_back
gc.disable()
cycle = [bytearray(b"x") * 100_000_000]
cycle.append(cycle)
del cycle
print(give_back())
"""


@pytest.mark.parametrize("script", [HEAP, CYCLE], ids=["heap", "cycle"])
def test_what_nobody_needs_goes_back_to_the_system(script: str) -> None:
    assert int(run(script)) == pytest.approx(100_000_000, rel=0.1)


def test_without_malloc_trim_the_garbage_is_collected_nevertheless() -> None:
    missing = "import ctypes\nctypes.CDLL = lambda name: object()\n"
    assert int(run(missing + CYCLE)) == pytest.approx(100_000_000, rel=0.1)
