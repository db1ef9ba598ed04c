"""What both ends of a control socket share: its name, its way in, and lines of JSON."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any

from collectors.errors import ControlError

REQUEST_LIMIT = 64 * 1024  # bytes


def socket_name(rank: int) -> str:
    """The name of a rank's socket in the run's folder."""
    return "control.sock" if rank == 0 else f"control.rank{rank}.sock"


def socket_rank(name: str) -> int | None:
    """The rank whose socket has that name; None where it is no control socket's name."""
    match = re.fullmatch(r"control(?:\.rank([1-9]\d*))?\.sock", name)
    return int(match[1] or 0) if match else None


def sockets(folder: Path) -> list[str]:
    """Names of the control sockets in a folder, by rank; those of dead runs are among them."""
    if not folder.is_dir():
        return []
    ranks = (socket_rank(path.name) for path in folder.iterdir() if path.is_socket())
    return [socket_name(rank) for rank in sorted(rank for rank in ranks if rank is not None)]


class Lines:
    """Lines of one connection, each with a limit on its length and on the time that it may take."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._rest = bytearray()

    def read(self, deadline: float) -> bytes | None:
        """The next line without its end, None at the end of the stream; TimeoutError at the deadline (monotonic s)."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > self._limit:
                break
            chunk = self._receive(deadline)
            if not chunk:
                return None
            self._rest += chunk
        if max(end, searched) > self._limit:
            raise ControlError(f"a line is longer than {self._limit} bytes")
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole line in time")
        self._connection.settimeout(left)
        return self._connection.recv(64 * 1024)


def encode(message: dict[str, Any]) -> bytes:
    """A message as a line."""
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def connect(directory: int, name: str, timeout: float) -> socket.socket:
    """A connection to the socket of that name in an open folder; raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{directory}/{name}")
    except BaseException:
        connection.close()
        raise
    return connection


def peer(connection: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end, as the kernel noted when it connected, or began to listen."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", credentials)
    return process, user


def why_not_connected(error: OSError, name: str) -> str:
    """What a failed ``connect`` means, in words."""
    match error:
        case FileNotFoundError():
            return f"there is no {name}"
        case ConnectionRefusedError():
            return f"{name} is left from a run that has died"
        case PermissionError():
            return f"{name} is another user's"
        case BlockingIOError():
            return f"too many clients wait at {name}"
        case _:
            return f"{name}: {error.strerror}"
