"""Processor time and memory of other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from benchmarks.usage import Meter, cpu_seconds, pss, tree

# Computes for ever in two threads' worth of one, having first taken as many bytes as it is told.
BUSY = "import sys; block = b'x' * int(sys.argv[1]); print('ready', flush=True)\nwhile True: pass"
IDLE = "import sys; block = b'x' * int(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
_BLOCK = 50_000_000


def started(code: str, size: int = 0) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    process = started(BUSY)
    yield process
    ended(process)


@pytest.fixture
def idle() -> Iterator[subprocess.Popen[bytes]]:
    process = started(IDLE, _BLOCK)
    yield process
    ended(process)


def wait_until_it_has_used(process: subprocess.Popen[bytes], seconds: float) -> None:
    goal = cpu_seconds(process.pid) + seconds
    while cpu_seconds(process.pid) < goal:
        time.sleep(0.01)


def test_the_clock_of_another_process_is_that_of_the_kernel(busy: subprocess.Popen[bytes]) -> None:
    wait_until_it_has_used(busy, 0.1)
    before = cpu_seconds(busy.pid)
    times = psutil.Process(busy.pid).cpu_times()
    after = cpu_seconds(busy.pid)
    tick = 2 / os.sysconf("SC_CLK_TCK")  # what psutil reads is rounded down, twice
    assert before - tick <= times.user + times.system <= after


def test_a_meter_counts_what_children_use(busy: subprocess.Popen[bytes], idle: subprocess.Popen[bytes]) -> None:
    assert set(tree()) >= {os.getpid(), busy.pid, idle.pid}
    meter = Meter()
    with meter:
        wait_until_it_has_used(busy, 0.2)
    first = meter.total
    assert first.cpu >= 0.2
    with meter:
        wait_until_it_has_used(busy, 0.1)
    assert meter.total.cpu >= first.cpu + 0.1
    assert meter.total.wall > first.wall


def test_a_meter_of_named_processes_leaves_others_out(
    busy: subprocess.Popen[bytes], idle: subprocess.Popen[bytes]
) -> None:
    meter = Meter([idle.pid])
    with meter:
        wait_until_it_has_used(busy, 0.2)
    assert meter.total.cpu < 0.05


def test_a_process_that_has_ended_is_noticed(busy: subprocess.Popen[bytes]) -> None:
    meter = Meter([busy.pid])
    with pytest.raises(ProcessLookupError, match=f"process {busy.pid} has ended"), meter:
        ended(busy)


def test_memory_of_another_process(idle: subprocess.Popen[bytes], busy: subprocess.Popen[bytes]) -> None:
    assert _BLOCK < pss([idle.pid]) < 4 * _BLOCK
    assert pss([idle.pid, busy.pid]) > pss([idle.pid])
    ended(idle)
    assert pss([idle.pid]) == 0
