"""Slots: the pieces of shared memory that hold one fragment each, and the state that each of them is in."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffers.layout import Layout
from buffers.queue import Announcement, AnnouncementQueue, Doorbell
from buffers.shared import SharedMemory


class State(IntEnum):
    """What a slot is doing; each change is made by one process only, the one named here."""

    FREE = 0  # -> WRITING: by the collector of the slot's env
    WRITING = 1  # -> READY: by the same; -> FREE: by whoever replaces that collector when it is dead
    READY = 2  # -> READING: by the one reader of the env's queue
    READING = 3  # -> FREE: by the same


# One row per slot, beside its content.
TICKET = np.dtype([("state", "u1"), ("sequence", "i8")], align=True)


class Slots:
    """A fixed number of slots per env, in shared memory, with a queue to each reader.

    Slots belong to envs and every env has one reader, so that no slot is ever contended for: each state has one
    process that may end it, and no lock is needed. ``readers`` is how many processes take fragments (1 unless a
    loader has workers); env e is read by reader ``e % readers``, which keeps the order of its fragments.

    ``poison`` overwrites what has been read, so that reading too late shows as nonsense instead of as old data.
    """

    def __init__(
        self, layout: Layout, num_envs: int, slots_per_env: int, readers: int = 1, poison: bool = False
    ) -> None:
        self.layout = layout
        self.num_envs = num_envs
        self.slots_per_env = slots_per_env
        self.readers = readers
        self._poison = poison
        count = num_envs * slots_per_env
        self._content = SharedMemory(count * layout.size)
        self._ledger = SharedMemory(count * TICKET.itemsize)
        # A slot can be announced twice, when its collector dies right after it announced it.
        self._queues = [AnnouncementQueue(2 * count + 1) for _ in range(readers)]
        self._doorbells = [Doorbell() for _ in range(num_envs)]
        if poison:
            self._content.array(np.uint8, self._content.size)[:] = POISON
        self._attach()

    def _attach(self) -> None:
        self._tickets = self._ledger.array(TICKET, self.num_envs * self.slots_per_env)

    def __len__(self) -> int:
        return self.num_envs * self.slots_per_env

    def views(self, slot: int) -> dict[str, NDArray[Any]]:
        """The arrays of a slot; views, not copies."""
        return self.layout.views(self._content, slot * self.layout.size)

    def doorbell(self, env: int) -> Doorbell:
        """Rung when a slot of this env becomes free."""
        return self._doorbells[env]

    # The collector's side.

    def begin(self, env: int) -> int | None:
        """Take a free slot of an env for writing; None when all of them wait to be read: that is the back-pressure."""
        own = slice(env * self.slots_per_env, (env + 1) * self.slots_per_env)
        free = np.flatnonzero(self._tickets["state"][own] == State.FREE)
        if not len(free):
            return None
        slot = own.start + int(free[0])
        self._tickets["state"][slot] = State.WRITING
        return slot

    def finish(self, slot: int, sequence: int) -> None:
        """Announce what has been written; ``sequence`` is different for every fragment of the run."""
        self._tickets["sequence"][slot] = sequence
        self._tickets["state"][slot] = State.READY
        self._queue_of(slot).put(Announcement(slot, sequence))

    # The reader's side.

    def take(self, reader: int, timeout: float) -> Announcement | None:
        """The next fragment for a reader, to be given back with ``release``; None when none comes in ``timeout`` s.

        ``END`` when no more will come.
        """
        announcement = self._queues[reader].get(timeout)
        if announcement is None or announcement.slot < 0:
            return announcement
        ticket = self._tickets[announcement.slot]
        if ticket["state"] != State.READY or ticket["sequence"] != announcement.sequence:
            return None  # announced twice and read already
        self._tickets["state"][announcement.slot] = State.READING
        return announcement

    def release(self, slot: int) -> None:
        """Give a slot back that has been read; nothing may look at its arrays any more."""
        if self._poison:
            self._content.array(np.uint8, self.layout.size, slot * self.layout.size)[:] = POISON
        self._tickets["state"][slot] = State.FREE
        self._doorbells[slot // self.slots_per_env].ring()

    # The pool's side.

    def end(self) -> None:
        """Tell every reader that no more fragments will come."""
        for queue in self._queues:
            queue.put(Announcement(-1, 0))

    def recover(self, env: int) -> None:
        """After the death of an env's collector: what it was writing is dropped, what it finished is announced again.

        It may have died between marking a slot ready and announcing it; readers pass over what they know already.
        """
        for slot in range(env * self.slots_per_env, (env + 1) * self.slots_per_env):
            ticket = self._tickets[slot]
            if ticket["state"] == State.WRITING:
                self._tickets["state"][slot] = State.FREE
            elif ticket["state"] == State.READY:
                self._queue_of(slot).put(Announcement(slot, int(ticket["sequence"])))

    def counts(self) -> dict[str, int]:
        """How many slots are in each state, by its name in lower case; they add up to ``len(self)``."""
        found = Counter(self._tickets["state"].tolist())
        return {state.name.lower(): found[state] for state in State}

    def close(self) -> None:
        """Close everything in this process; closing twice is fine."""
        for queue in self._queues:
            queue.close()
        for doorbell in self._doorbells:
            doorbell.close()
        self._content.close()
        self._ledger.close()

    def _queue_of(self, slot: int) -> AnnouncementQueue:
        return self._queues[slot // self.slots_per_env % self.readers]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_tickets"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()


POISON = 0xFB  # as bytes: a far too negative number in every format, -2.6e36 as float32 and -1029 as int16
