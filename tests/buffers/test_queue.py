from __future__ import annotations

import random
import select

import pytest

from buffers.errors import ChannelClosedError, SharedMemoryError
from buffers.queue import END, Announcement, AnnouncementQueue, Doorbell
from tests.buffers.workers import announce, announce_once, answer_bell
from tests.processes import LIMIT, end, hear, running, start


def test_first_in_first_out_and_none_when_empty() -> None:
    queue = AnnouncementQueue(10)
    sent = [Announcement(slot, 7 << 40 | slot) for slot in range(10)]
    for announcement in sent:
        queue.put(announcement)
    assert len(queue) == 10
    assert [queue.get(0.0) for _ in range(11)] == [*sent, None]
    assert len(queue) == 0
    queue.close()
    queue.close()


def test_end_is_told_from_every_slot() -> None:
    queue = AnnouncementQueue(1)
    queue.put(END)
    assert queue.get(0.0) == END
    assert all(Announcement(slot, sequence) != END for slot in range(3) for sequence in range(3))
    queue.close()


@pytest.mark.parametrize("capacity", [1, 33, 200, 256, 257, 1000])
@pytest.mark.timeout(20)
def test_put_never_waits_while_no_more_than_capacity_are_unread(capacity: int) -> None:
    """Wherever in the pipe's pages the unread ones lie: by signal, the timeout also ends a put that waits."""
    queue = AnnouncementQueue(capacity)
    for number in range(capacity):
        queue.put(Announcement(0, number))
    for number in range(600):
        assert queue.get(0.0) == Announcement(0, number)
        queue.put(Announcement(0, number + capacity))
    assert len(queue) == capacity
    queue.close()


def test_it_is_bounded() -> None:
    queue = AnnouncementQueue(1)
    with running(announce, queue, 0):
        assert queue.get(LIMIT) == Announcement(0, 0)
        # However long it goes on, no more wait than the two pages that a pipe has at least.
        for number in range(1, 3000):
            assert len(queue) <= 512
            assert queue.get(LIMIT) == Announcement(0, number)
    queue.close()


@pytest.mark.parametrize("seed", range(3))
def test_killed_writers_neither_tear_nor_block(seed: int) -> None:
    chance = random.Random(seed)
    queue = AnnouncementQueue(chance.choice([1, 20, 2000]))
    writers = [start(announce, queue, writer) for writer in range(4)]
    dies_after = [chance.randrange(500, 5000) for _ in writers]
    next_of = [0] * len(writers)
    try:
        while any(process.is_alive() for process, _ in writers):
            announcement = queue.get(LIMIT)
            assert announcement is not None
            writer, number = announcement
            assert number == next_of[writer], "lost, doubled, torn or out of order"
            next_of[writer] += 1
            if next_of[writer] == dies_after[writer]:
                writers[writer][0].kill()
                writers[writer][0].join(LIMIT)
        while (announcement := queue.get(0.0)) is not None:
            assert announcement.sequence == next_of[announcement.slot]
            next_of[announcement.slot] += 1
        assert all(count >= limit for count, limit in zip(next_of, dies_after, strict=True))
        with running(announce_once, queue, Announcement(9, 9)) as (_, connection):
            assert hear(connection) == "done"
        assert queue.get(0.0) == Announcement(9, 9)
    finally:
        for process, connection in writers:
            end(process, connection)
        queue.close()


def test_reader_learns_that_all_writers_are_gone() -> None:
    queue = AnnouncementQueue(1)
    queue.put(Announcement(1, 1))
    queue._write_end.close()
    assert queue.get(0.0) == Announcement(1, 1)
    with pytest.raises(ChannelClosedError, match="every process that announces"):
        queue.get(0.0)
    queue.close()


def test_doorbell_rings_across_processes_and_is_quiet_once_answered() -> None:
    question, reply = Doorbell(), Doorbell()
    reply.answer()
    assert select.select([reply.fileno()], [], [], 0.0)[0] == []
    with running(answer_bell, question, reply) as (_, connection):
        question.ring()
        assert select.select([reply.fileno()], [], [], LIMIT)[0]
        assert hear(connection) is True
    for _ in range(3):
        reply.ring()
    reply.answer()
    assert select.select([reply.fileno()], [], [], 0.0)[0] == []
    for bell in (question, reply):
        bell.close()
        bell.close()


def test_a_queue_that_is_too_long_is_refused_with_the_settings_that_help() -> None:
    with pytest.raises(SharedMemoryError, match=r"--max-envs or --queue-size"):
        AnnouncementQueue(2**40)
