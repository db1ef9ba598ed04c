"""Being asked to stop, to pause or to make room in the terminal: Ctrl-C, SIGTERM, SIGUSR1, Ctrl-Z and their kin.

Python runs signal handlers only between two bytecodes of the main thread, which may sit in an all-reduce for minutes.
So the handlers here do nothing: the interpreter also writes the number of each signal into a pipe, at once, and a small
thread reads it. Only the standard library is imported, so that all of this can be in place before torch is.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TO_STEER = (signal.SIGUSR1, signal.SIGUSR2)
# s in which further signals are the same request: who ends a whole service or job signals torchrun and its ranks, and
# torchrun hands it on to its ranks once more.
_ONE_REQUEST = 0.5
_CURSOR = b"\x1b[?25h\n"  # shows it again, where a display has hidden it
_LEFT_IGNORED = (signal.SIGHUP, signal.SIGTSTP)  # where they are ignored already


class StopRequestedError(Exception):
    """Somebody has asked to stop while something long was under way."""


class StopRequest:
    """What signals ask of this process.

    The first SIGINT, SIGTERM or SIGHUP sets ``requested``; a second SIGINT or SIGTERM, half a second later or more,
    ends the process at once, whatever its main thread does. Ctrl-Z sets ``suspend_requested``; whoever sees it calls
    ``suspend``, and where nobody comes round to it the second Ctrl-Z stops the process at once. SIGUSR1 and SIGUSR2 are
    for ``steer``.
    """

    def __init__(self) -> None:
        self.requested = False
        self._signalled_at: float | None = None  # monotonic s of the first signal to stop
        self.suspend_requested = False
        self._orders: deque[int] = deque(maxlen=1)  # until somebody steers, only the last one counts
        self._ordered = threading.Condition()
        self._callbacks: dict[int, Callable[[], object]] = {}

    def install(self) -> None:
        """Listen for signals from now on; in the main thread. As process 1 of a container nobody else would.

        A hangup that is ignored already stays ignored: that is what ``nohup`` asks for; so does Ctrl-Z where a shell
        has no job control. An interrupt does not: scripts start background jobs that way, and somebody who sends it to
        one of them wants it to stop.
        """
        numbers, written = os.pipe()
        os.set_blocking(written, False)  # a handler must not wait
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        # A child between fork and exec still has our handlers, and would report its signals as ours.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=self._listen, args=(numbers,), name="signals", daemon=True).start()
        for number in (*_TO_STOP, *_TO_STEER, signal.SIGTSTP):
            if number not in _LEFT_IGNORED or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _nothing)

    def retire(self) -> None:
        """Be deaf to requests to stop from now on: the program ends, and with it Python gives up all handlers."""
        for number in _TO_STOP:
            signal.signal(number, signal.SIG_IGN)

    def request(self) -> None:
        """Ask for a stop from inside the program."""
        self.requested = True

    def follow_parent(self) -> None:
        """Ask for a stop when the process that started this one ends: one that is killed tells nobody."""
        parent = os.pidfd_open(os.getppid())
        threading.Thread(target=self._outlive, args=(parent,), name="parent-watch", daemon=True).start()

    def _outlive(self, parent: int) -> None:
        select.select([parent], [], [])
        self.requested = True

    def raise_if_requested(self, *_: object) -> None:
        """Raise ``StopRequestedError`` where somebody has asked; takes and ignores anything, to serve as a callback."""
        if self.requested:
            raise StopRequestedError("stopped on request")

    def steer(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        """Call ``pause`` at each SIGUSR1 and ``resume`` at each SIGUSR2 from now on.

        The calls come one after the other, in order, in a thread of their own; the last signal from before the first
        ``steer`` comes now. What a call raises is logged.
        """
        with self._ordered:
            first = not self._callbacks
            self._callbacks = {signal.SIGUSR1: pause, signal.SIGUSR2: resume}
            self._orders = deque(self._orders)
        if first:
            threading.Thread(target=self._follow_orders, name="steering", daemon=True).start()

    def suspend(self) -> None:
        """Stop this process, as Ctrl-Z does to others, and return when it has been continued."""
        self.suspend_requested = False
        # To this very thread: a signal to the process may reach another one first, and we would run on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def _listen(self, numbers: int) -> None:
        while True:
            for number in os.read(numbers, 4096):
                self._act_on(number)

    def _act_on(self, number: int) -> None:
        if number in _TO_STOP:
            self.requested = True
            now = time.monotonic()
            if self._signalled_at is None:
                self._signalled_at = now
            elif number != signal.SIGHUP and now - self._signalled_at >= _ONE_REQUEST:  # terminals send SIGHUP twice
                if os.isatty(1):
                    os.write(1, _CURSOR)
                os._exit(128 + number)
        elif number in _TO_STEER:
            with self._ordered:
                self._orders.append(number)
                self._ordered.notify()
        elif number == signal.SIGTSTP:
            if self.suspend_requested:
                self.suspend()
            else:
                self.suspend_requested = True

    def _follow_orders(self) -> None:
        while True:
            with self._ordered:
                self._ordered.wait_for(lambda: self._orders)
                number = self._orders.popleft()
                callback = self._callbacks[number]
            try:
                callback()
            except Exception:  # noqa: BLE001 - a caller's own; the next order is to be followed all the same
                _LOG.exception("%s could not be followed", signal.Signals(number).name)


def _nothing(*_: object) -> None:
    """A handler, because what has none is not reported."""
