"""One collector as its pool sees it: the process, and those that take its place."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess

from buffers.shared import Descriptor
from collectors.board import Activity, Board
from collectors.holds import Holds
from collectors.setbacks import Setbacks
from collectors.worker import WHERE_ARE_YOU
from envs.last_words import LastWords

_WORDS = 20_000  # bytes of a collector's last words that are quoted
_MOST_WORDS = 1_000_000  # bytes after which the file that they are in begins anew
_REPORT = 1.0  # s
_CONDEMNED = 1.0  # s that a collector that hangs has to write down where
GLANCE = 0.25  # s between two looks of the pool, at most

Launch = Callable[[int, Descriptor], BaseProcess]


def patience(limit: float) -> float:
    """Seconds of silence after which a process is condemned, so that it has ended ``limit`` s after its last sign.

    One look may pass until the silence is noticed, one until it is too long, and one until the process is killed.
    """
    return max(limit / 2, limit - _CONDEMNED - 3 * GLANCE)


class Member:
    """The process of collector ``number``, over all its lives; used by one thread at a time.

    ``launch`` starts a process that writes why it fails into the file that it is given.
    """

    def __init__(self, number: int, launch: Launch, board: Board, restart_limit: int) -> None:
        self.number = number
        self.holds = Holds()
        self.setbacks = Setbacks(restart_limit)
        self.due = 0.0  # monotonic s before which it is not started again
        self.trouble: str | None = None  # the latest, in one line
        self.process: BaseProcess | None = None
        self.has_ended = False  # and its exit code is as good as known
        self._launch = launch
        self._board = board
        self._row = board.rows[number]
        self._row["activity"] = Activity.STOPPED
        self._words = LastWords()
        self._pidfd = -1
        self._heard = 0  # bytes of its words
        self._heartbeat = 0.0
        self._silence = 0.0  # s that the pool has watched without a sign of life
        self._condemned = math.inf  # monotonic s at which it is killed
        self._episodes = 0  # ended, when it was started

    def start(self) -> None:
        """Begin a life; raises OSError or EOFError where the machine or the forkserver does not let it."""
        self._row["activity"] = Activity.STARTING
        self._row["obeyed"] = -1
        self._row["heartbeat"] = time.monotonic()
        self._row["loading"] = 0.0
        self._words.forget()
        try:
            self._pidfd, process = self._begin()
        except BaseException:
            self._row["activity"] = Activity.STOPPED
            raise
        self._heard = 0
        self._silence, self._condemned = 0.0, math.inf
        self._episodes = int(self._row["episodes"])
        self.process = process

    def _begin(self) -> tuple[int, BaseProcess]:
        """Launch the process; returns a descriptor that is readable once it has ended, and the process.

        It is readable whatever becomes of the forkserver that would report the end otherwise.
        """
        words = Descriptor(os.dup(self._words.fileno()))
        try:
            process = self._launch(self.number, words)
        finally:
            words.close()
        assert process.pid is not None
        try:
            return os.pidfd_open(process.pid), process
        except ProcessLookupError:  # it has ended already
            return os.eventfd(1, os.EFD_CLOEXEC), process
        except OSError:
            process.kill()
            raise

    @property
    def pidfd(self) -> int | None:
        """Readable once the process has ended; None where there is none."""
        return self._pidfd if self.process is not None else None

    @property
    def pid(self) -> int | None:
        """The process id, None between two lives."""
        return self.process.pid if self.process is not None else None

    @property
    def activity(self) -> Activity:
        """What it does, by its own account."""
        return Activity(int(self._row["activity"]))

    @property
    def is_up(self) -> bool:
        """Whether it has its simulations and obeys orders."""
        return self.process is not None and self.activity not in (Activity.STARTING, Activity.STOPPED)

    @property
    def loading(self) -> float:
        """Seconds that a SUMO of it may take to load its scenario, longer than a decision; 0 while none does."""
        return float(self._row["loading"]) if self.is_up else math.inf

    def silent_for(self, passed: float) -> float:
        """Seconds without a sign of life; ``passed`` of them since it was last asked.

        Only time that the pool itself was awake for counts: everything may have been stopped together.
        """
        heartbeat = float(self._row["heartbeat"])
        self._silence = 0.0 if heartbeat != self._heartbeat else self._silence + passed
        self._heartbeat = heartbeat
        return self._silence

    def note_progress(self) -> None:
        """Forgive it all earlier failures once an episode has ended in this life."""
        if int(self._row["episodes"]) > self._episodes:
            self.setbacks.forget()

    def condemn(self) -> None:
        """Have it write down where it hangs, and kill it soon after."""
        if self._condemned == math.inf:
            self._signal(WHERE_ARE_YOU)
            self._condemned = time.monotonic() + _CONDEMNED

    @property
    def is_condemned(self) -> bool:
        """Whether its end is decided."""
        return self._condemned < math.inf

    def execute(self) -> None:
        """Kill it if it has been condemned and its time has come."""
        if time.monotonic() >= self._condemned:
            self.kill()

    def kill(self) -> None:
        """End it at once; its SUMOs go with it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(OSError):  # it has ended
                signal.pidfd_send_signal(self._pidfd, number)

    def await_code(self) -> None:
        """Wait for the exit code of a process that has ended: the forkserver reports it a moment later, if it lives.

        Without it, an end that was ordered looks like an accident.
        """
        if self.process is not None:
            self.process.join(_REPORT)
            self.has_ended = True

    def bury(self) -> int | None:
        """Forget a process that has ended; returns its exit code, None where nobody knows it."""
        assert self.process is not None
        self.process.join(0)
        code = self.process.exitcode
        self.process, self.has_ended = None, False
        os.close(self._pidfd)
        self._pidfd = -1
        self._row["activity"] = Activity.STOPPED
        return code

    def take_words(self) -> str:
        """What it wrote since this was last asked, the last of it where that is much."""
        size = self._words.size()
        text = self._words.text(min(_WORDS, size - self._heard)) if size > self._heard else ""
        self._heard = size
        if size > _MOST_WORDS:
            self._words.forget()
            self._heard = 0
        return text

    def close(self) -> None:
        """Give the file with its words back; closing twice is fine."""
        self._words.close()
