"""Messages to and from SUMO: one system call to send them, and where possible one to receive all that is due."""

from __future__ import annotations

import socket
import struct
import time

from traci.exceptions import FatalTraCIError

from envs.codec import ProtocolError, Reply

_ROOM = 1 << 16  # bytes, to begin with


class Mail:
    """The raw side of a TraCI connection, for messages that the stock client does not compose.

    Both may use the connection in turn, as long as nothing is ``owed``. Raises ``TimeoutError`` when a message has not
    come ``limit`` s after somebody began to wait for it, and ``FatalTraCIError`` when SUMO hangs up.
    """

    def __init__(self, connection: socket.socket, limit: float) -> None:
        self.owed = 0  # messages that SUMO has yet to send
        self._socket = connection
        self._buffer = bytearray(_ROOM)
        self._begin = self._end = 0  # what is there and has not been read
        self._least = 1
        self._limit = limit
        # The kernel minds the limit: Python would ask before every call whether it may.
        connection.settimeout(None)
        period = struct.pack("ll", int(limit), int(limit % 1 * 1e6) or int(limit < 1))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, period)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, period)

    def send(self, outgoing: bytes, messages: int, least: int) -> None:
        """Send, and expect so many messages in return, of no less than ``least`` bytes altogether."""
        if self.owed:
            raise ProtocolError("the last decision was interrupted before its answers were read; reset first")
        self._wake_at(least)
        self.owed = messages  # before the first byte goes out: an interrupt may come at any moment
        try:
            self._socket.sendall(outgoing)
        except BlockingIOError as error:
            raise TimeoutError from error

    def next(self) -> Reply:
        """The next whole message from SUMO."""
        deadline = time.monotonic() + self._limit
        while (length := self._length()) > self._end - self._begin:
            self._receive(length, deadline)
        begin = self._begin + 4
        self._begin += length
        self.owed -= 1
        if self.owed == 0:
            self._wake_at(1)
        return Reply(bytes(memoryview(self._buffer)[begin : self._begin]))

    def _length(self) -> int:
        """Bytes of the next message, its length included; those of the length alone while that is not there."""
        if self._end - self._begin < 4:
            return 4 + 1
        return max(4, int.from_bytes(self._buffer[self._begin : self._begin + 4]))

    def _receive(self, length: int, deadline: float) -> None:
        """Wait for more of a message of ``length`` bytes, until ``deadline`` at most."""
        if self._begin == self._end:
            self._begin = self._end = 0
        if self._begin + length > len(self._buffer):
            waiting = self._buffer[self._begin : self._end]
            self._buffer = bytearray(max(len(self._buffer), 2 * length))
            self._buffer[: len(waiting)] = waiting
            self._begin, self._end = 0, len(waiting)
        try:
            received = self._socket.recv_into(memoryview(self._buffer)[self._end :])
        except BlockingIOError as error:
            raise TimeoutError from error
        if not received:
            raise FatalTraCIError("connection closed")
        if time.monotonic() > deadline:  # the kernel's limit begins anew with every signal and every part that comes
            raise TimeoutError
        self._end += received
        self._wake_at(1)

    def _wake_at(self, least: int) -> None:
        """Be woken once so many bytes are there: not by the first of several messages that come one by one."""
        if least != self._least:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least
