"""Memory and descriptors that several processes share and none can leave behind.

Shared memory is a file without a name on /dev/shm: it goes with the last process that has it open, however that
process ends. It and the pipes travel to a child as inherited descriptors while the child is started (pickled inside
``Process`` arguments), never later.
"""

from __future__ import annotations

import errno
import mmap
import os
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffers.errors import SharedMemoryError

_FOLDER = "/dev/shm"


class Descriptor:
    """A file descriptor that a child can be given while it is started."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """The descriptor's number in this process; raises ``ValueError`` once closed."""
        if self._number < 0:
            raise ValueError("this descriptor has been closed")
        return self._number

    def close(self) -> None:
        """Close it in this process; closing twice is fine."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive_descriptor, (DupFd(self.fileno()),)


def _receive_descriptor(travelling: Any) -> Descriptor:
    return Descriptor(travelling.detach())


class SharedMemory:
    """``size`` bytes that processes share, the first ``occupied`` of them there from the start, all by default.

    Every process maps all of it once; what is occupied later is there for all of them. Raises ``SharedMemoryError``
    when /dev/shm has not that much left: now, in words, and not later as a bus error.
    """

    def __init__(self, size: int, descriptor: Descriptor | None = None, *, occupied: int | None = None) -> None:
        self.size = size
        if descriptor is not None:
            self._descriptor = descriptor
            self._map = mmap.mmap(descriptor.fileno(), size)
            return
        self._descriptor = Descriptor(os.open(_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            self.occupy(0, size if occupied is None else occupied)
            self._map = self._reserve()
        except BaseException:
            self._descriptor.close()
            raise

    def _reserve(self) -> mmap.mmap:
        """Map all of it, room for what may be occupied later included; costs addresses, no memory."""
        try:
            os.ftruncate(self._descriptor.fileno(), self.size)
            return mmap.mmap(self._descriptor.fileno(), self.size)
        except (OSError, OverflowError) as error:
            raise SharedMemoryError(
                f"there are no addresses for {self.size // 2**20} MiB of shared memory; lower --num-envs, --max-envs, "
                f"--queue-size, --fragment-length or --slot-vehicles ({error})"
            ) from error

    def occupy(self, offset: int, size: int) -> None:
        """Have these bytes, zero where they were not there; raises ``SharedMemoryError`` when there is no room."""
        try:
            os.posix_fallocate(self._descriptor.fileno(), offset, size)
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
                raise
            raise SharedMemoryError(f"{_FOLDER} is too small: {describe_need(size)}") from error

    def vacate(self, offset: int, size: int) -> None:
        """Give these bytes, whole pages, back to the system; nobody may look at them until they are occupied again."""
        self._map.madvise(mmap.MADV_REMOVE, offset, size)

    def array(self, dtype: Any, shape: tuple[int, ...] | int, offset: int = 0) -> NDArray[Any]:
        """A view of this memory as an array, from a byte offset on."""
        return np.ndarray(shape, dtype, self._map, offset)

    def close(self) -> None:
        """Give the descriptor back; the memory itself goes with the last array that looks at it."""
        self._descriptor.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedMemory, (self.size, self._descriptor)


def describe_need(size: int) -> str:
    """How much is needed, how much is there, and how to get it."""
    stat = os.statvfs(_FOLDER)
    free = stat.f_bavail * stat.f_frsize
    need = -(-size // 2**20)
    return (
        f"{need} MiB of shared memory are needed at once and {free // 2**20} MiB are free; lower --queue-size, "
        f"--num-envs, --fragment-length or --slot-vehicles, or enlarge it (docker run --shm-size {2 * need + 64}m)"
    )
