"""Being asked to stop: Ctrl-C, SIGTERM, or the terminal going away."""

from __future__ import annotations

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequestedError(Exception):
    """Somebody has asked to stop while something long was under way."""


class StopRequest:
    """Notes the first request to stop and ends the process at once at the second Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Listen for signals from now on. As process 1 of a container nobody else would.

        A hangup that is ignored already stays ignored: that is what ``nohup`` asks for. An interrupt does not: scripts
        start background jobs that way, and somebody who sends it to one of them wants it to stop.
        """
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def request(self) -> None:
        """Ask for a stop from inside the program."""
        self.requested = True

    def raise_if_requested(self, *_: object) -> None:
        """Raise ``StopRequestedError`` where somebody has asked; takes and ignores anything, to serve as a callback."""
        if self.requested:
            raise StopRequestedError("stopped on request")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number != signal.SIGHUP:  # a closing terminal sends that one twice
            os._exit(128 + number)
        self.requested = True
