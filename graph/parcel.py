"""Anything with tensors in it, sent from one process to another through a pipe.

A pipe has no lock that a process could die holding and no name that it could leave behind, as torch's own queues do;
and what a killed process has not written to its end is just not there. Tensors travel as they lie in memory and arrive
in one piece of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import math
import os
import pickle
import select
import struct
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from buffers.shared import Descriptor

_HEAD = struct.Struct("=qq")  # bytes of the description, bytes of the tensors
_ALIGNMENT = 64  # bytes at a multiple of which each tensor begins
_PIPE_SIZE = 2**20  # bytes; as many as Linux lets anybody ask for
_GLANCE = 0.5  # s


def parcel_pipe() -> tuple[Inbox, Outbox]:
    """A pipe: where one process receives what another sends."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(PermissionError):  # somebody has many pipes already; it works with a smaller one
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return Inbox(read_end), Outbox(Descriptor(write_end))


class Outbox:
    """Where to send; may be given to a child while it is started. One process sends, and closes all other copies."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    def send(self, value: Any) -> None:
        """Send a value; waits while the pipe is full, for as long as somebody may still read it."""
        description = io.BytesIO()
        pickler = _Pickler(description)
        pickler.dump(value)
        # All is ready before the first byte is written: nothing can fail half-way.
        contents = [_bytes_of(tensor) for tensor in pickler.tensors]
        self._write(_HEAD.pack(description.tell(), pickler.size))
        self._write(description.getbuffer())
        for content in contents:
            self._write(content.data)
            self._write(bytes(_padding(content.size)))

    def _write(self, content: bytes | memoryview) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor.fileno(), rest) :]

    def close(self) -> None:
        """Close it in this process; closing twice is fine."""
        self._descriptor.close()


class Inbox:
    """Where to receive."""

    def __init__(self, number: int) -> None:
        self._descriptor = Descriptor(number)
        os.set_blocking(number, False)

    def fileno(self) -> int:
        """For ``select``: readable when something has come, or nothing more can come."""
        return self._descriptor.fileno()

    def receive(self, limit: float, pin_memory: bool = False) -> Any:
        """The next value; its tensors are views of one buffer, page-locked if asked for.

        Raises ``EOFError`` when the sender is gone, what it was sending included, and ``TimeoutError`` when it falls
        silent for ``limit`` s.
        """
        head = self._read(bytearray(_HEAD.size), limit)
        described, size = _HEAD.unpack(head)
        description = self._read(bytearray(described), limit)
        tensors = torch.empty(size, dtype=torch.uint8, pin_memory=pin_memory)
        self._read(tensors.numpy().data, limit)
        return _Unpickler(io.BytesIO(description), tensors).load()

    def _read(self, buffer: bytearray | memoryview, limit: float) -> bytearray | memoryview:
        """Fill a buffer."""
        rest = memoryview(buffer)
        while rest:
            try:
                count = os.readv(self.fileno(), [rest])
            except BlockingIOError:
                self._await(limit)
                continue
            if count == 0:
                raise EOFError("the sender is gone")
            rest = rest[count:]
        return buffer

    def _await(self, limit: float) -> None:
        """Wait for more; in small pieces, so that time in which everything was frozen together does not count."""
        silence = 0.0
        while not select.select([self.fileno()], [], [], _GLANCE)[0]:
            silence += _GLANCE
            if silence >= limit:
                raise TimeoutError(f"the sender has been silent for {limit:g} s")

    def close(self) -> None:
        """Close it; closing twice is fine."""
        self._descriptor.close()


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and remembers where each one will begin."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self.size = 0  # bytes of all tensors

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return None
        start, size = self.size, value.numel() * value.element_size()
        self.tensors.append(value)
        self.size += size + _padding(size)
        return start, value.dtype, tuple(value.shape)


class _Unpickler(pickle.Unpickler):
    """Puts the tensors back."""

    def __init__(self, file: io.BytesIO, tensors: Tensor) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, where: Any) -> Tensor:
        start, dtype, shape = where
        count = math.prod(shape)
        return self._tensors[start : start + count * dtype.itemsize].view(dtype).view(shape)


def _bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """A tensor as it lies in memory, row after row."""
    flat = tensor.detach().contiguous().as_strided((tensor.numel(),), (1,))  # empty ones may have any stride
    return flat.view(torch.uint8).numpy()


def _padding(size: int) -> int:
    return -size % _ALIGNMENT
