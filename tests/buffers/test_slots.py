from __future__ import annotations

import os
import pickle
import select
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from buffers.errors import SharedMemoryError
from buffers.layout import Layout
from buffers.queue import END, Announcement
from buffers.slots import Slots
from tests.buffers.workers import die_announced, die_unannounced, die_unsaid, die_writing, write_when_told
from tests.processes import hear, running

LAYOUT = Layout({"numbers": ("f4", (8,))})


def rung(slots: Slots, env: int) -> bool:
    return bool(select.select([slots.doorbell(env).fileno()], [], [], 0.0)[0])


def test_a_slot_goes_round() -> None:
    slots = Slots(LAYOUT, num_envs=2, slots_per_env=2)
    assert slots.counts() == {"free": 4, "writing": 0, "ready": 0, "reading": 0}
    slot = slots.begin(1)
    assert slot is not None
    assert slots.counts() == {"free": 3, "writing": 1, "ready": 0, "reading": 0}
    slots.views(slot)["numbers"][:] = np.arange(8)
    slots.finish(slot, 5)
    assert slots.counts() == {"free": 3, "writing": 0, "ready": 1, "reading": 0}
    assert slots.take(0, 0.0) == Announcement(slot, 5)
    assert slots.counts() == {"free": 3, "writing": 0, "ready": 0, "reading": 1}
    assert slots.views(slot)["numbers"].tolist() == list(range(8))
    assert not rung(slots, 1)
    slots.release(slot)
    assert slots.counts() == {"free": 4, "writing": 0, "ready": 0, "reading": 0}
    assert rung(slots, 1)
    assert not rung(slots, 0)
    slots.close()
    slots.close()


def test_envs_have_their_layouts_in_turn_and_no_slot_reaches_into_the_next() -> None:
    layouts = [LAYOUT, Layout({"numbers": ("i8", (100,)), "more": ("?", (3,))})]
    slots = Slots(layouts, num_envs=3, slots_per_env=2, capacity=4, poison=True)
    shapes = [{name: array.shape for name, array in slots.views(slot).items()} for slot in range(6)]
    assert shapes == 2 * [{"numbers": (8,)}] + 2 * [{"numbers": (100,), "more": (3,)}] + 2 * [{"numbers": (8,)}]
    for slot in range(6):
        for array in slots.views(slot).values():
            array[:] = slot
    for slot in range(6):
        assert all((array == (slot if array.dtype != bool else slot > 0)).all() for array in slots.views(slot).values())
    slots.close()


def test_no_free_slot_holds_the_writer_back_until_one_is_released() -> None:
    slots = Slots(LAYOUT, num_envs=2, slots_per_env=2)
    for sequence in (1, 2):
        slot = slots.begin(0)
        assert slot is not None
        slots.finish(slot, sequence)
    assert slots.begin(0) is None
    assert slots.begin(1) is not None, "one env's back-pressure holds back another"
    announcement = slots.take(0, 0.0)
    assert announcement is not None
    assert slots.begin(0) is None, "a slot that is being read was given away"
    slots.release(announcement.slot)
    assert slots.begin(0) == announcement.slot
    slots.close()


def test_every_env_has_one_reader() -> None:
    slots = Slots(LAYOUT, num_envs=5, slots_per_env=3, readers=2)
    for env in range(5):
        for sequence in range(3):
            slot = slots.begin(env)
            assert slot is not None
            slots.finish(slot, 10 * env + sequence)
    for reader in range(2):
        got = [slots.take(reader, 0.0) for _ in range(3 * len(range(reader, 5, 2)))]
        sequences = [announcement.sequence for announcement in got if announcement is not None]
        assert sequences == [10 * env + sequence for env in range(reader, 5, 2) for sequence in range(3)]
        assert slots.take(reader, 0.0) is None
    slots.end()
    assert [slots.take(reader, 0.0) for reader in range(2)] == [END, END]
    slots.close()


def test_poison_covers_what_was_never_written_and_what_was_read() -> None:
    floats = {"half": ("f2", (3,)), "single": ("f4", (3,)), "double": ("f8", (3,))}
    integers = {"small": ("i2", (3,)), "large": ("i8", (3,))}
    layout = Layout(floats | integers)
    slots = Slots(layout, num_envs=1, slots_per_env=2, poison=True)

    def poisoned(slot: int) -> bool:
        views = slots.views(slot)
        limits = {"half": -6e4, "single": -1e36, "double": -1e280, "small": -1000, "large": -(2**50)}
        return all((views[name] < limit).all() for name, limit in limits.items())

    assert poisoned(0)
    assert poisoned(1)
    for sequence in range(2):
        slot = slots.begin(0)
        assert slot is not None
        for array in slots.views(slot).values():
            array[:] = 1
        slots.finish(slot, sequence)
    announcement = slots.take(0, 0.0)
    assert announcement is not None
    assert not poisoned(announcement.slot)
    slots.release(announcement.slot)
    assert poisoned(announcement.slot)
    assert not poisoned(1 - announcement.slot), "the neighbour was overwritten"
    slots.close()


def test_without_poison_nothing_is_overwritten() -> None:
    slots = Slots(LAYOUT, num_envs=1, slots_per_env=1)
    slot = slots.begin(0)
    assert slot is not None
    slots.views(slot)["numbers"][:] = 3
    slots.finish(slot, 1)
    slots.take(0, 0.0)
    slots.release(slot)
    assert slots.views(slot)["numbers"].tolist() == [3] * 8
    slots.close()


def test_what_a_dead_writer_had_begun_is_dropped() -> None:
    slots = Slots(LAYOUT, num_envs=2, slots_per_env=1)
    other = slots.begin(0)
    with running(die_writing, slots, 1) as (process, connection):
        slot = hear(connection)
        assert slots.counts()["writing"] == 2
        process.kill()
        process.join()
    slots.recover(1, 0)
    assert slots.counts() == {"free": 1, "writing": 1, "ready": 0, "reading": 0}, "the other env's slot was touched"
    assert slots.take(0, 0.0) is None
    assert slots.begin(1) == slot
    assert slots.begin(0) is None
    assert other is not None
    slots.close()


@pytest.mark.parametrize("death", [die_announced, die_unannounced, die_unsaid])
def test_what_a_dead_writer_had_finished_arrives_exactly_once(death) -> None:  # type: ignore[no-untyped-def]
    slots = Slots(LAYOUT, num_envs=2, slots_per_env=2, poison=True)
    with running(death, slots, 1, 77) as (process, connection):
        slot = hear(connection)
        process.kill()
        process.join()
    slots.recover(1, 0)
    slots.recover(1, 0)
    assert slots.take(0, 0.0) == Announcement(slot, 77)
    assert slots.views(slot)["numbers"].tolist() == [77.0] * 8
    assert slots.take(0, 0.0) is None
    slots.release(slot)
    assert slots.take(0, 0.0) is None
    assert slots.counts()["free"] == len(slots)
    slots.close()


@pytest.mark.parametrize("met_while", ["writing", "ready"])
def test_an_announcement_from_before_a_death_is_not_taken_for_a_later_one(met_while: str) -> None:
    """The slot has been read, and written by the next incarnation, when the repeated announcement is met."""
    slots = Slots(LAYOUT, num_envs=1, slots_per_env=1)
    with running(die_unsaid, slots, 0, 1) as (process, connection):
        slot = hear(connection)
        process.kill()
        process.join()
    slots.recover(0, 0)
    assert slots.take(0, 0.0) == Announcement(slot, 1)
    slots.release(slot)
    assert slots.begin(0) == slot
    if met_while == "writing":
        assert slots.take(0, 0.0) is None, "a slot that is being written was given away"
    slots.finish(slot, 1 << 40)
    if met_while == "ready":
        assert slots.take(0, 0.0) is None, "the old number was taken for the new fragment"
    assert slots.take(0, 0.0) == Announcement(slot, 1 << 40)
    assert slots.take(0, 0.0) is None
    slots.close()


def test_recovery_leaves_alone_what_is_being_read() -> None:
    slots = Slots(LAYOUT, num_envs=1, slots_per_env=1)
    slot = slots.begin(0)
    assert slot is not None
    slots.finish(slot, 1)
    slots.take(0, 0.0)
    slots.recover(0, 0)
    assert slots.counts()["reading"] == 1
    assert slots.take(0, 0.0) is None
    slots.close()


def test_however_often_collectors_die_the_queue_never_fills_up() -> None:
    slots = Slots(LAYOUT, num_envs=2, slots_per_env=2)
    for env in range(2):
        for sequence in range(2):
            slot = slots.begin(env)
            assert slot is not None
            slots.finish(slot, sequence)
    for _ in range(10_000):  # a pipe that is full would hold the pool for ever
        slots.recover(0, 0)
        slots.recover(1, 0)
    assert [slots.take(0, 0.0) for _ in range(5)] == [*(Announcement(slot, slot % 2) for slot in range(4)), None]
    slots.close()


def test_what_is_abandoned_is_never_read() -> None:
    slots = Slots(LAYOUT, num_envs=1, slots_per_env=1)
    slot = slots.begin(0)
    assert slot is not None
    slots.abandon(slot)
    assert slots.counts()["free"] == 1
    assert slots.take(0, 0.0) is None
    slots.close()


# Growing and shrinking


def occupied(slots: Slots) -> int:
    """Bytes of /dev/shm that the slots' content takes."""
    return os.fstat(slots._content._descriptor.fileno()).st_blocks * 512


def test_envs_get_their_slots_and_lose_them() -> None:
    layout = Layout({"numbers": ("f4", (100_000,))})
    slots = Slots(layout, num_envs=1, slots_per_env=2, capacity=50)
    alone = occupied(slots)
    assert 2 * layout.size <= alone < 2 * layout.size + 2 * 4096, "room for 50 envs was taken at once"
    slots.furnish(7)
    slots.furnish(7)
    assert occupied(slots) == 2 * alone
    assert slots.counts() == {"free": 4, "writing": 0, "ready": 0, "reading": 0}
    slot = slots.begin(7)
    assert slot is not None
    slots.views(slot)["numbers"][:] = 7.0
    assert not slots.strip(7), "a slot that is being written"
    slots.finish(slot, 1)
    assert not slots.strip(7), "a slot that waits to be read"
    assert slots.take(0, 0.0) == Announcement(slot, 1)
    assert slots.views(slot)["numbers"].min() == 7.0
    assert not slots.strip(7), "a slot that is being read"
    slots.release(slot)
    assert slots.strip(7)
    assert slots.strip(7)
    assert occupied(slots) == alone
    assert len(slots) == 2
    slots.furnish(7)
    assert slots.views(slot)["numbers"].max() == 0.0
    slots.close()


def test_a_child_sees_the_slots_that_an_env_was_given_after_the_child_was_started() -> None:
    slots = Slots(LAYOUT, num_envs=1, slots_per_env=1, capacity=3, collectors=1)
    with running(write_when_told, slots.for_collector(0), 2) as (_, connection):
        slots.furnish(2)
        connection.send("now")
        slot = hear(connection)
    assert slots.take(0, 1.0) == Announcement(slot, 5)
    assert slots.views(slot)["numbers"].tolist() == [5.0] * 8
    slots.close()


def test_what_travels_to_a_reader_has_a_limit_that_is_said() -> None:
    slots = Slots(LAYOUT, num_envs=1, slots_per_env=1, capacity=201)
    with pytest.raises(SharedMemoryError, match=r"doorbells of 200 collectors, not of 201; lower --num-collectors"):
        pickle.dumps(slots)
    slots.for_collector(0)
    slots.close()


def test_envs_of_one_collector_share_a_doorbell() -> None:
    slots = Slots(LAYOUT, num_envs=4, slots_per_env=1, collectors=2)
    slot = slots.begin(2)
    assert slot is not None
    slots.finish(slot, 1)
    slots.take(0, 0.0)
    slots.release(slot)
    assert [rung(slots, env) for env in range(4)] == [True, False, True, False]
    slots.close()


class Life(RuleBasedStateMachine):
    """Envs write, die and are replaced, readers read, in any order: one slot, one state; every fragment once."""

    ENVS = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(LAYOUT, num_envs=3, slots_per_env=2, readers=2)
        self.writing: dict[int, list[int]] = defaultdict(list)
        self.finished: dict[int, list[int]] = defaultdict(list)  # sequences per env
        self.taken: dict[int, list[int]] = defaultdict(list)
        self.reading: list[int] = []
        self.sequence = 0

    @rule(env=ENVS)
    def begin(self, env: int) -> None:
        slot = self.slots.begin(env)
        if slot is not None:
            assert slot // 2 == env
            self.writing[env].append(slot)

    @rule(env=ENVS)
    def finish(self, env: int) -> None:
        if self.writing[env]:
            self.sequence += 1
            self.finished[env].append(self.sequence)
            self.slots.finish(self.writing[env].pop(0), self.sequence)

    @rule(reader=st.integers(0, 1))
    def take(self, reader: int) -> None:
        announcement = self.slots.take(reader, 0.0)
        if announcement is not None:
            env = announcement.slot // 2
            assert env % 2 == reader
            self.taken[env].append(announcement.sequence)
            self.reading.append(announcement.slot)

    @rule()
    def release(self) -> None:
        if self.reading:
            self.slots.release(self.reading.pop(0))

    @rule(env=ENVS, between=st.booleans())
    def die(self, env: int, between: bool) -> None:
        """At any point: also between finishing a fragment and noting it, or with the number given that comes next."""
        latest, noted = [0, 0, *self.finished[env]][-1], [0, 0, *self.finished[env]][-1 - between]
        if self.writing[env]:
            noted = latest  # a collector notes one before it begins another
            if between:
                self.slots._tickets["sequence"][self.writing[env][0]] = latest + 1
        assert self.slots.recover(env, noted) == latest
        self.writing[env].clear()

    @invariant()
    def states_add_up(self) -> None:
        counts = self.slots.counts()
        unread = sum(len(self.finished[env]) - len(self.taken[env]) for env in range(3))
        assert sum(counts.values()) == len(self.slots) == 6
        assert counts["writing"] == sum(map(len, self.writing.values()))
        assert counts["ready"] == unread
        assert counts["reading"] == len(self.reading)

    def teardown(self) -> None:
        for reader in range(2):
            while len(self.slots._queues[reader]):
                self.take(reader)
        assert all(self.taken[env] == self.finished[env] for env in range(3))
        self.slots.close()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
