from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from buffers.errors import SharedMemoryError
from buffers.shared import Descriptor, SharedMemory
from tests.buffers.workers import double, listing
from tests.processes import hear, running


def mapped_inodes() -> set[int]:
    """Inodes of all files that this process has mapped."""
    return {int(line.split()[4]) for line in Path("/proc/self/maps").read_text().splitlines()}


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_memory_is_zero_and_as_large_as_asked_for() -> None:
    memory = SharedMemory(10_000)
    content = memory.array(np.uint8, 10_000)
    assert memory.size == 10_000
    assert not content.any()
    with pytest.raises(TypeError):
        memory.array(np.uint8, 10_001)
    memory.close()


def test_array_starts_at_its_offset() -> None:
    memory = SharedMemory(64)
    memory.array(np.uint8, 64)[:] = np.arange(64)
    assert memory.array(np.uint8, (2, 3), 10).tolist() == [[10, 11, 12], [13, 14, 15]]
    memory.close()


def test_child_shares_the_memory_and_nothing_has_a_name() -> None:
    before = listing()
    memory = SharedMemory(80)
    numbers = memory.array(np.int64, 10)
    numbers[:] = np.arange(10)
    with running(double, memory) as (process, connection):
        seen = hear(connection)
        process.join(10)
    assert numbers.tolist() == list(range(0, 20, 2))
    # Other processes of the machine may have names there; ours must not be among them.
    assert not {name for name in seen - before if name.startswith("#")}
    stat = os.fstat(memory._descriptor.fileno())
    assert stat.st_nlink == 0
    memory.close()


def test_memory_is_gone_with_the_last_array() -> None:
    memory = SharedMemory(4096)
    inode = os.fstat(memory._descriptor.fileno()).st_ino
    numbers = memory.array(np.int64, 2)
    memory.close()
    memory.close()
    del memory
    numbers[0] = 7
    assert inode in mapped_inodes()
    del numbers
    assert inode not in mapped_inodes()


def test_too_large_is_said_in_one_line_with_need_and_remedy() -> None:
    before = open_descriptors()
    with pytest.raises(SharedMemoryError) as caught:
        SharedMemory(2**50)
    message = str(caught.value)
    assert "\n" not in message
    assert "/dev/shm is too small: 1073741824 MiB" in message
    assert re.search(r"\b\d+ MiB are free", message)
    for flag in ("--queue-size", "--num-envs", "--fragment-length", "--slot-vehicles", "--shm-size"):
        assert flag in message
    assert open_descriptors() == before


def test_descriptor_closes_once() -> None:
    read_end, write_end = os.pipe()
    descriptor = Descriptor(read_end)
    assert descriptor.fileno() == read_end
    descriptor.close()
    descriptor.close()
    with pytest.raises(ValueError, match="has been closed"):
        descriptor.fileno()
    with pytest.raises(BrokenPipeError):
        os.write(write_end, b"x")
    os.close(write_end)


def test_what_is_reserved_takes_no_memory_until_it_is_occupied() -> None:
    memory = SharedMemory(2**40, occupied=8192)
    number = memory._descriptor.fileno()
    assert os.fstat(number).st_blocks * 512 == 8192
    memory.occupy(2**39, 4096)
    memory.array(np.uint8, 4096, 2**39)[:] = 7
    assert os.fstat(number).st_blocks * 512 == 8192 + 4096
    memory.vacate(2**39, 4096)
    assert os.fstat(number).st_blocks * 512 == 8192
    memory.occupy(2**39, 4096)
    assert not memory.array(np.uint8, 4096, 2**39).any(), "what was there is still there"
    memory.close()


def test_more_than_there_are_addresses_for_is_said() -> None:
    descriptors = open_descriptors()
    for size in (2**60, 2**80):
        with pytest.raises(SharedMemoryError, match=r"no addresses for .* MiB .*--max-envs"):
            SharedMemory(size, occupied=4096)
    assert open_descriptors() == descriptors
