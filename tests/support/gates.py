"""A file that SUMO cannot read to its end while a gate is closed: loading takes as long as a test wants."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time
from pathlib import Path

_CONTENT = b"<additional/>"
_FIONREAD = 0x541B  # asm-generic/ioctls.h: bytes that can be read
_PARTING = 0.5  # s that a reader has to close what it has read to its end


class Gate:
    """A pipe with a name; whoever reads it waits until the gate is open. A context manager.

    It is for one SUMO at a time, which opens it now and then only to see whether it can. Open to begin with.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.options = ("--additional-files", str(path))  # for SUMO
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def _serve(self) -> None:
        while not self._ended:
            with contextlib.suppress(BrokenPipeError), self.path.open("wb", buffering=0) as pipe:  # waits for a reader
                self._may_pass.wait()
                pipe.write(_CONTENT)
                _wait_until_read(pipe.fileno())
                pipe.close()
                time.sleep(_PARTING)

    def close(self) -> None:
        """Let nobody pass from now on."""
        self._may_pass.clear()

    def open(self) -> None:
        """Let everybody pass."""
        self._may_pass.set()

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._may_pass.set()
        while self._thread.is_alive():
            os.close(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))  # wakes a server that waits for a reader
            self._thread.join(0.1)


def _wait_until_read(pipe: int) -> None:
    """Wait until everything has been read; raises ``BrokenPipeError`` when the reader has gone before."""
    gone = select.poll()
    gone.register(pipe, 0)  # POLLERR is always told
    left = bytearray(4)
    while fcntl.ioctl(pipe, _FIONREAD, left) or any(left):
        if gone.poll(5):
            raise BrokenPipeError
