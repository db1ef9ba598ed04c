"""A bounded queue of slot numbers between processes that no killed process can block or tear.

It is a pipe that carries records of one fixed size. The kernel writes and reads such small records whole (POSIX:
writes up to PIPE_BUF bytes are atomic), so that any number of processes can put and one can get without a lock that
somebody could die holding, and without a feeder thread that somebody could wait for.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import struct
from typing import NamedTuple

from buffers.errors import ChannelClosedError, SharedMemoryError
from buffers.shared import Descriptor

_RECORD = struct.Struct("=qq")
_LARGEST = 2**31 - 1  # bytes that can be asked for


class Announcement(NamedTuple):
    """A fragment is ready: where it lies, and which one it is, so that a repeated announcement is noticed."""

    slot: int
    sequence: int


END = Announcement(-1, 0)  # no more fragments will come


class AnnouncementQueue:
    """Announcements in the order in which they were put; at most ``capacity`` wait at a time."""

    def __init__(self, capacity: int) -> None:
        read_end, write_end = os.pipe()
        # A page that has been read in part cannot be written again before it is empty: one page more than the records.
        size = mmap.PAGESIZE + capacity * _RECORD.size
        refused: OSError | None = None
        try:
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, min(size, _LARGEST))
        except OSError as error:
            refused = error
        if fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ) < size:
            os.close(read_end)
            os.close(write_end)
            raise SharedMemoryError(
                f"a queue for {capacity} announcements needs a pipe of {size} bytes, more than this system allows; "
                "lower --num-envs, --max-envs or --queue-size, or raise /proc/sys/fs/pipe-max-size"
            ) from refused
        self._read_end = Descriptor(read_end)
        self._write_end = Descriptor(write_end)

    def put(self, announcement: Announcement) -> None:
        """Announce a fragment; never waits while no more than ``capacity`` are unread."""
        os.write(self._write_end.fileno(), _RECORD.pack(*announcement))

    def get(self, timeout: float) -> Announcement | None:
        """The next announcement, or None when none comes within ``timeout`` seconds.

        Raises ``ChannelClosedError`` when every writer is gone.
        """
        number = self._read_end.fileno()
        if not select.select([number], [], [], timeout)[0]:
            return None
        record = os.read(number, _RECORD.size)
        if not record:
            raise ChannelClosedError("every process that announces fragments is gone")
        return Announcement(*_RECORD.unpack(record))

    def __len__(self) -> int:
        """Announcements that wait, as of now."""
        waiting = bytearray(4)
        fcntl.ioctl(self._read_end.fileno(), _FIONREAD, waiting)
        return int.from_bytes(waiting, "little") // _RECORD.size

    def close(self) -> None:
        """Close both ends in this process; closing twice is fine."""
        self._read_end.close()
        self._write_end.close()


_FIONREAD = 0x541B  # asm-generic/ioctls.h: bytes that can be read


class Doorbell:
    """Wakes a process that waits for something in shared memory to change."""

    def __init__(self) -> None:
        self._descriptor = Descriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))

    def fileno(self) -> int:
        """For ``select``: readable once it has been rung."""
        return self._descriptor.fileno()

    def ring(self) -> None:
        """Wake whoever waits, or whoever waits next."""
        os.eventfd_write(self._descriptor.fileno(), 1)

    def answer(self) -> None:
        """Take note of all rings so far."""
        with contextlib.suppress(BlockingIOError):  # nobody rang
            os.eventfd_read(self._descriptor.fileno())

    def close(self) -> None:
        """Close it in this process; closing twice is fine."""
        self._descriptor.close()
