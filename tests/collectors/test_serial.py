"""The serial pool: everything in this process, and the same again to the bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from buffers import Fragment, Slots
from collectors.errors import ControlError
from collectors.serial import SerialPool
from tests.support.leftovers import assert_gone
from tests.support.plans import assert_same_decisions, decisions_of, make_channel, make_plan, same_fragment, take
from tests.support.waiting import wait_for


@pytest.fixture
def pool() -> Iterator[SerialPool]:
    plan = make_plan()
    slots, weights = Slots(plan.layout(), 2, slots_per_env=3), make_channel()
    pool = SerialPool(plan, slots, weights)
    pool.start()
    yield pool
    pool.close()
    slots.close()
    weights.close()


def work(pool: SerialPool) -> None:
    assert pool.work is not None
    pool.work()


def has_passed(pool: SerialPool, decisions: int) -> bool:
    return bool(pool.status()["decisions"] > decisions)


def collect(seed: int, fragments: int) -> list[Fragment]:
    plan = make_plan(seed=seed)
    slots, weights = Slots(plan.layout(), 2, slots_per_env=3), make_channel()
    pool = SerialPool(plan, slots, weights)
    found: list[Fragment] = []
    try:
        pool.start()
        while len(found) < fragments:
            fragment = take(slots, 0.0)
            if fragment is None:
                work(pool)
            else:
                found.append(fragment)
    finally:
        pool.close()
        slots.close()
        weights.close()
    return found


def test_the_same_seed_gives_the_same_fragments_in_the_same_order() -> None:
    first, second = collect(4, 14), collect(4, 14)
    assert all(same_fragment(one, other) for one, other in zip(first, second, strict=True))
    other = collect(5, 14)
    assert not any(same_fragment(one, different) for one, different in zip(first, other, strict=True))
    with pytest.raises(AssertionError):
        assert_same_decisions(decisions_of(first, 0), decisions_of(other, 0))


def test_work_is_one_decision_of_every_env(pool: SerialPool) -> None:
    for done in (2, 4, 6):
        work(pool)
        assert pool.status()["decisions"] == done


def test_pause_holds_it_and_says_so_and_resume_goes_on(pool: SerialPool) -> None:
    work(pool)
    pool.pause()
    assert pool.status()["state"] == "paused"
    stood = pool.status()["decisions"]
    work(pool)
    assert pool.status()["decisions"] == stood
    pool.resume()
    assert pool.status()["state"] == "running"
    work(pool)
    assert pool.status()["decisions"] == stood + 2


def test_pause_from_another_thread_returns_when_it_stands(pool: SerialPool) -> None:
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            work(pool)
            while (announcement := pool._slots.take(0, 0.0)) is not None:
                pool._slots.release(announcement.slot)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        wait_for(lambda: pool.status()["decisions"] > 10, "the first decisions")
        for _ in range(5):
            pool.pause()
            stood = pool.status()["decisions"]
            assert not threading.Event().wait(0.1)
            assert pool.status()["decisions"] == stood
            pool.resume()
            wait_for(partial(has_passed, pool, stood), "the next decision")
    finally:
        stop.set()
        thread.join(10)


def test_an_unknown_collector_is_named(pool: SerialPool) -> None:
    with pytest.raises(ControlError, match="collector 1"):
        pool.pause([1])


def test_work_before_start_or_after_close_collects_nothing() -> None:
    plan = make_plan()
    slots, weights = Slots(plan.layout(), 1, slots_per_env=2), make_channel()
    pool = SerialPool(plan, slots, weights)
    work(pool)
    assert pool.status()["decisions"] == 0
    pool.start()
    pool.close()
    work(pool)
    slots.close()
    weights.close()


def test_closing_ends_its_sumos_and_twice_is_fine(pool: SerialPool) -> None:
    pids = pool.status()["collectors"][0]["sumo"]
    assert len(pids) == 2
    pool.close()
    pool.close()
    assert_gone(pids)
