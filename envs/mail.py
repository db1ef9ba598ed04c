"""Messages to and from SUMO: one system call to send them, and where possible one to receive all that is due."""

from __future__ import annotations

import math
import select
import socket
import struct
import time

from traci.exceptions import FatalTraCIError

from envs.codec import ProtocolError, Reply

_ROOM = 1 << 16  # bytes, to begin with
_LONGEST = 1e6  # s that the kernel can be asked to wait, by all its clocks
_GRACE = 1.0  # s that answers may be late, when more of them comes at once


class Mail:
    """The raw side of a TraCI connection, for messages that the stock client does not compose.

    Both may use the connection in turn, as long as nothing is ``owed``. Raises ``TimeoutError`` when the answers to
    what was sent have not come ``limit`` s after somebody began to wait for them, nor go on coming ``grace`` s later,
    and ``FatalTraCIError`` when SUMO hangs up.
    """

    def __init__(self, connection: socket.socket, limit: float, grace: float = _GRACE) -> None:
        self.owed = 0  # messages that SUMO has yet to send
        self._socket = connection
        self._buffer = bytearray(_ROOM)
        self._begin = self._end = 0  # what is there and has not been read
        self._least = 1
        self._grace = grace
        self._deadline, self._forgiven = math.inf, False  # of the answers that are awaited; inf: nobody waits yet
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        # The kernel minds the limit for the stock client: Python would ask before every call whether it may.
        connection.settimeout(None)
        self.wait_at_most(limit)

    def wait_at_most(self, limit: float) -> None:
        """Have this limit (s) from now on, for the stock client too."""
        self._limit = min(limit, _LONGEST)
        period = struct.pack("ll", int(self._limit), int(self._limit % 1 * 1e6) or int(self._limit < 1))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, period)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, period)

    def send(self, outgoing: bytes, messages: int, least: int) -> None:
        """Send, and expect so many messages in return, of no less than ``least`` bytes altogether."""
        if self.owed:
            raise ProtocolError("the last decision was interrupted before its answers were read; reset first")
        self._wake_at(least)
        self._deadline, self._forgiven = math.inf, False
        self.owed = messages  # before the first byte goes out: an interrupt may come at any moment
        try:
            self._socket.sendall(outgoing)
        except BlockingIOError as error:
            raise TimeoutError from error

    def next(self) -> Reply:
        """The next whole message from SUMO."""
        if self._deadline == math.inf:
            self._deadline = time.monotonic() + self._limit
        while (length := self._length()) > self._end - self._begin:
            self._receive(length)
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

    def _receive(self, length: int) -> None:
        """Wait for more of a message of ``length`` bytes, until the deadline at most."""
        if self._begin == self._end:
            self._begin = self._end = 0
        if self._begin + length > len(self._buffer):
            waiting = self._buffer[self._begin : self._end]
            self._buffer = bytearray(max(len(self._buffer), 2 * length))
            self._buffer[: len(waiting)] = waiting
            self._begin, self._end = 0, len(waiting)
        if time.monotonic() > self._deadline:
            self._forgive()
        # Not recv() itself: it would take what is there already, and then be woken only by another ``least`` bytes.
        if not self._comes_within(self._deadline - time.monotonic()):
            self._forgive()
            return
        received = self._socket.recv_into(memoryview(self._buffer)[self._end :])
        if not received:
            raise FatalTraCIError("connection closed")
        self._end += received
        self._wake_at(1)
        if time.monotonic() > self._deadline:  # the kernel's limit begins anew with every signal and every part
            self._forgive()

    def _forgive(self) -> None:
        """It is late. All of us may have been asleep together, in a frozen container for example: wait on, once."""
        if self._length() <= self._end - self._begin:
            return  # it has come, if late
        if self._forgiven or not self._comes_within(self._grace):
            raise TimeoutError
        self._deadline, self._forgiven = time.monotonic() + self._grace, True

    def _comes_within(self, seconds: float) -> bool:
        return bool(self._readable.poll(max(0.0, seconds) * 1000))

    def _wake_at(self, least: int) -> None:
        """Be woken once so many bytes are there: not by the first of several messages that come one by one."""
        if least != self._least:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            self._least = least
