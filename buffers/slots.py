"""Slots: the pieces of shared memory that hold one fragment each, and the state that each of them is in."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from buffers.errors import SharedMemoryError
from buffers.layout import Layout
from buffers.queue import Announcement, AnnouncementQueue, Doorbell
from buffers.shared import SharedMemory


class State(IntEnum):
    """What a slot is doing; each change is made by one process only, the one named here."""

    FREE = 0  # -> WRITING: by the collector of the slot's env
    WRITING = 1  # -> READY: by the same; -> FREE: by the same, or by the pool when that collector is dead
    READY = 2  # -> READING: by the one reader of the env's queue
    READING = 3  # -> FREE: by the same


_MOST_DOORBELLS = 200  # descriptors that travel to a child together; it can be given 252 in all

# One row per slot, beside its content. ``announced`` is set once the slot's number has gone into the queue.
TICKET = np.dtype([("state", "u1"), ("announced", "?"), ("sequence", "i8")], align=True)


class Slots:
    """A fixed number of slots per env, in shared memory, with a queue to each reader.

    Slots belong to envs, and every env has one collector and one reader, so that no slot is ever contended for: each
    state has one process that may end it, and no lock is needed. Env e is written by collector ``e % collectors`` and
    read by reader ``e % readers`` (1 unless a loader has workers), which keeps the order of its fragments. Where envs
    simulate different networks there are several ``layouts``, dealt to them in turn; the largest settles the size.

    ``num_envs`` envs have their slots from the start; up to ``capacity`` envs can be given theirs later with
    ``furnish`` and taken away with ``strip``, by the pool's process, which alone counts them.

    ``poison`` overwrites what has been read, so that reading too late shows as nonsense instead of as old data; writers
    of fragments add checksums then.
    """

    def __init__(
        self,
        layouts: Layout | Sequence[Layout],
        num_envs: int,
        slots_per_env: int,
        readers: int = 1,
        *,
        collectors: int | None = None,
        capacity: int | None = None,
        poison: bool = False,
    ) -> None:
        self.layouts = (layouts,) if isinstance(layouts, Layout) else tuple(layouts)
        self._slot_size = max(layout.size for layout in self.layouts)  # bytes
        self.capacity = capacity or num_envs
        self.collectors = collectors or self.capacity
        self.slots_per_env = slots_per_env
        self.readers = readers
        self.poison = poison
        self._env_size = -(-slots_per_env * self._slot_size // mmap.PAGESIZE) * mmap.PAGESIZE  # bytes
        count = self.capacity * slots_per_env
        # At once for all envs, so that a complaint names all that is needed.
        self._content = SharedMemory(self.capacity * self._env_size, occupied=num_envs * self._env_size)
        self._ledger = SharedMemory(count * TICKET.itemsize)
        # A slot can be announced twice, when its collector dies right after it announced it; while the second of these
        # still waits, the slot can have been read, written and announced again.
        self._queues = [AnnouncementQueue(3 * count + 1) for _ in range(readers)]
        self._doorbells = {collector: Doorbell() for collector in range(self.collectors)}
        self._furnished: set[int] = set()
        self._attach()
        try:
            for env in range(num_envs):
                self.furnish(env)
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        self._tickets = self._ledger.array(TICKET, self.capacity * self.slots_per_env)

    def __len__(self) -> int:
        return len(self._furnished) * self.slots_per_env

    def _offset(self, slot: int) -> int:
        env, own = divmod(slot, self.slots_per_env)
        return env * self._env_size + own * self._slot_size

    def _of(self, env: int) -> slice:
        return slice(env * self.slots_per_env, (env + 1) * self.slots_per_env)

    def views(self, slot: int) -> dict[str, NDArray[Any]]:
        """The arrays of a slot; views, not copies."""
        layout = self.layouts[slot // self.slots_per_env % len(self.layouts)]
        return layout.views(self._content, self._offset(slot))

    def doorbell(self, env: int) -> Doorbell:
        """Rung when a slot of this env becomes free; envs that share a collector share it."""
        return self._doorbells[env % self.collectors]

    # The collector's side.

    def begin(self, env: int) -> int | None:
        """Take a free slot of an env for writing; None when all of them wait to be read: that is the back-pressure."""
        own = self._of(env)
        free = np.flatnonzero(self._tickets["state"][own] == State.FREE)
        if not len(free):
            return None
        slot = own.start + int(free[0])
        self._tickets["announced"][slot] = False
        self._tickets["state"][slot] = State.WRITING
        return slot

    def finish(self, slot: int, sequence: int) -> None:
        """Announce what has been written; ``sequence`` is different for every fragment of an env."""
        self._tickets["sequence"][slot] = sequence
        self._tickets["state"][slot] = State.READY
        self._announce(slot)

    def abandon(self, slot: int) -> None:
        """Throw away what has been written so far."""
        self._tickets["state"][slot] = State.FREE

    def _announce(self, slot: int) -> None:
        self._queue_of(slot).put(Announcement(slot, int(self._tickets["sequence"][slot])))
        self._tickets["announced"][slot] = True

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
        if self.poison:
            self._content.array(np.uint8, self._slot_size, self._offset(slot))[:] = POISON
        self._tickets["state"][slot] = State.FREE
        self.doorbell(slot // self.slots_per_env).ring()

    # The pool's side.

    def end(self) -> None:
        """Tell every reader that no more fragments will come."""
        for queue in self._queues:
            queue.put(Announcement(-1, 0))

    def furnish(self, env: int) -> None:
        """Give an env its slots; raises ``SharedMemoryError`` when there is no room. Twice is fine."""
        if env in self._furnished:
            return
        self._content.occupy(env * self._env_size, self._env_size)
        if self.poison:
            self._content.array(np.uint8, self._env_size, env * self._env_size)[:] = POISON
        self._furnished.add(env)

    def strip(self, env: int) -> bool:
        """Take an env's slots away once all of them are free; False until then. Its collector must be done with it."""
        if env in self._furnished:
            if (self._tickets["state"][self._of(env)] != State.FREE).any():
                return False
            self._content.vacate(env * self._env_size, self._env_size)
            self._furnished.remove(env)
        return True

    def recover(self, env: int, noted: int) -> int:
        """After the death of an env's collector: drop what it was writing, announce what it had finished.

        It may have died between marking a slot ready and announcing it, or between announcing it and saying so;
        readers pass over what they know already. ``noted`` is the number of the latest fragment that it has noted;
        returns that of the latest which it has finished, so that whoever takes its place leaves out none and gives none
        twice.
        """
        latest = noted
        for slot in range(env * self.slots_per_env, (env + 1) * self.slots_per_env):
            ticket = self._tickets[slot]
            if ticket["state"] == State.WRITING:
                ticket["sequence"] = min(ticket["sequence"], noted)  # it may have had the next number already
                self.abandon(slot)
                continue
            latest = max(latest, int(ticket["sequence"]))
            if ticket["state"] == State.READY and not ticket["announced"]:
                self._announce(slot)
        return latest

    def counts(self) -> dict[str, int]:
        """How many slots are in each state, by its name in lower case; they add up to ``len(self)``."""
        states = self._tickets["state"].reshape(self.capacity, self.slots_per_env)
        found = Counter(states[sorted(self._furnished)].ravel().tolist())
        return {state.name.lower(): found[state] for state in State}

    def close(self) -> None:
        """Close everything in this process; closing twice is fine."""
        for queue in self._queues:
            queue.close()
        for doorbell in self._doorbells.values():
            doorbell.close()
        self._content.close()
        self._ledger.close()

    def for_collector(self, collector: int) -> Slots:
        """The same slots with no doorbell but a collector's own: a child can be given a limited number of them."""
        own = object.__new__(Slots)
        own.__dict__.update(self.__dict__)
        own._doorbells = {collector: self._doorbells[collector]}
        return own

    def _queue_of(self, slot: int) -> AnnouncementQueue:
        return self._queues[slot // self.slots_per_env % self.readers]

    def __getstate__(self) -> dict[str, Any]:
        if len(self._doorbells) > _MOST_DOORBELLS:
            raise SharedMemoryError(
                f"a process that reads fragments can be given the doorbells of {_MOST_DOORBELLS} collectors, not of "
                f"{len(self._doorbells)}; lower --num-collectors (with libsumo --max-envs), or use --loader-workers 0"
            )
        return {name: value for name, value in self.__dict__.items() if name != "_tickets"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()


POISON = 0xFB  # as bytes: a far too negative number in every format, -2.6e36 as float32 and -1029 as int16
