"""Named arrays laid out behind each other in a piece of memory."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffers.shared import SharedMemory

_ALIGNMENT = 64  # bytes: a cache line


class Layout:
    """Where each array of a slot lies; ``arrays`` maps a name to its dtype and shape."""

    def __init__(self, arrays: Mapping[str, tuple[np.dtype[Any] | str, tuple[int, ...]]]) -> None:
        self._arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
        offset = 0
        for name, (kind, shape) in arrays.items():
            dtype = np.dtype(kind)
            self._arrays[name] = (dtype, shape, offset)
            offset += -(-dtype.itemsize * prod(shape) // _ALIGNMENT) * _ALIGNMENT
        self.size = offset  # bytes

    def views(self, memory: SharedMemory, offset: int) -> dict[str, NDArray[Any]]:
        """The arrays of the slot that begins at a byte offset; views, not copies."""
        return {name: memory.array(dtype, shape, offset + at) for name, (dtype, shape, at) in self._arrays.items()}
