"""What the processes of the tests in this folder do."""

from __future__ import annotations

import ctypes
import itertools
import select
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from buffers.children import die_with_forkserver, follow_parent
from buffers.queue import Announcement, AnnouncementQueue, Doorbell
from buffers.shared import SharedMemory
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from tests.processes import LIMIT


def listing() -> set[str]:
    """The names on /dev/shm."""
    return {path.name for path in Path("/dev/shm").iterdir()}


def double(connection: Connection, memory: SharedMemory) -> None:
    """Double every number in the memory, and report the names seen on /dev/shm meanwhile."""
    numbers = memory.array(np.int64, memory.size // 8)
    numbers *= 2
    connection.send(listing())


def announce(connection: Connection, queue: AnnouncementQueue, writer: int) -> None:
    """Put 0, 1, 2, ... as fast as the queue takes them, for ever."""
    for number in itertools.count():
        queue.put(Announcement(writer, number))


def announce_once(connection: Connection, queue: AnnouncementQueue, announcement: Announcement) -> None:
    """Put one announcement."""
    queue.put(announcement)
    connection.send("done")


def answer_bell(connection: Connection, question: Doorbell, reply: Doorbell) -> None:
    """Ring back once rung."""
    assert select.select([question.fileno()], [], [], LIMIT)[0]
    question.answer()
    reply.ring()
    connection.send(select.select([question.fileno()], [], [], 0.0)[0] == [])


def read_weights(connection: Connection, channel: WeightsChannel, count: int) -> None:
    """Read until ``count`` versions have been met; report (version, smallest, largest weight) of each reading."""
    met: list[tuple[int, float, float]] = []
    while len({version for version, _, _ in met}) < count:
        weights, version = channel.read()
        if not met or met[-1] != (version, weights.min(), weights.max()):
            met.append((version, float(weights.min()), float(weights.max())))
    connection.send(met)


def die_writing(connection: Connection, slots: Slots, env: int) -> None:
    """Take a slot, write half of it, say so, and wait to be killed."""
    slot = slots.begin(env)
    assert slot is not None
    slots.views(slot)["numbers"][:4] = 1.0
    connection.send(slot)
    connection.recv()


def die_announced(connection: Connection, slots: Slots, env: int, sequence: int) -> None:
    """Finish a slot, say so, and wait to be killed."""
    slot = slots.begin(env)
    assert slot is not None
    slots.views(slot)["numbers"][:] = sequence
    slots.finish(slot, sequence)
    connection.send(slot)
    connection.recv()


def die_unannounced(connection: Connection, slots: Slots, env: int, sequence: int) -> None:
    """Mark a slot as ready, say so, and wait to be killed at the point where it would be announced."""

    class Stuck:
        def put(self, announcement: Announcement) -> None:
            connection.send(announcement.slot)
            connection.recv()

    slot = slots.begin(env)
    assert slot is not None
    slots.views(slot)["numbers"][:] = sequence
    slots._queue_of = lambda slot: Stuck()  # type: ignore[method-assign, assignment, return-value]
    slots.finish(slot, sequence)


def die_unsaid(connection: Connection, slots: Slots, env: int, sequence: int) -> None:
    """Announce a slot, say so, and wait to be killed before that is noted in the slot's ticket."""
    queue = slots._queues[0]

    class Stuck:
        def put(self, announcement: Announcement) -> None:
            queue.put(announcement)
            connection.send(announcement.slot)
            connection.recv()

    slot = slots.begin(env)
    assert slot is not None
    slots.views(slot)["numbers"][:] = sequence
    slots._queue_of = lambda slot: Stuck()  # type: ignore[method-assign, assignment, return-value]
    slots.finish(slot, sequence)


def write_when_told(connection: Connection, slots: Slots, env: int) -> None:
    """Write one fragment as soon as told to."""
    connection.recv()
    slot = slots.begin(env)
    assert slot is not None
    slots.views(slot)["numbers"][:] = 5.0
    slots.finish(slot, 5)
    connection.send(slot)


def do_nothing() -> None:
    """End at once."""
    follow_parent()


def hold_the_interpreter(connection: Connection, server: int) -> None:
    """Say so, then keep the interpreter's lock for longer than any test lasts."""
    follow_parent()
    die_with_forkserver(server)
    connection.send("now")
    ctypes.PyDLL(None).sleep(600)
