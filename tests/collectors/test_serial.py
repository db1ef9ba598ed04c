"""The serial pool: everything in this process, and the same again to the bit."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial

import pytest

from buffers import Fragment, Slots
from collectors.board import Wish
from collectors.errors import ControlError
from collectors.plan import CollectionPlan
from collectors.serial import SerialPool
from tests.support.leftovers import assert_gone
from tests.support.plans import (
    arterial,
    assert_same_decisions,
    decisions_of,
    make_channel,
    make_plan,
    same_fragment,
    single,
    take,
)
from tests.support.waiting import wait_for


def work(pool: SerialPool) -> None:
    assert pool.work is not None
    pool.work()


def has_passed(pool: SerialPool, decisions: int) -> bool:
    return bool(pool.status()["decisions"] > decisions)


def collect(seed: int, fragments: int) -> list[Fragment]:
    return collect_by(make_plan(seed=seed), 2, fragments)


def collect_by(plan: CollectionPlan, envs: int, fragments: int) -> list[Fragment]:
    slots, weights = Slots(plan.layouts(), envs, slots_per_env=3, collectors=1), make_channel()
    pool = SerialPool(plan, slots, weights, slots.capacity)
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


def test_envs_of_two_maps_collect_what_each_map_alone_would_to_the_bit() -> None:
    """Three envs: of the first map numbers 0 and 2, of the second number 1; episodes of 20 decisions, three of each."""
    maps = (single(), arterial())
    together = collect_by(make_plan(places=maps), 3, 3 * 3 * 3)
    alone = collect_by(make_plan(places=maps[:1], env_stride=2), 2, 2 * 3 * 3)
    alone += collect_by(make_plan(places=maps[1:], first_env=1, env_stride=2), 1, 3 * 3)
    for env in range(3):
        rows = decisions_of(together, env)
        assert len(rows) >= 40
        assert rows[0]["actions"].shape == (len(maps[env % 2].network.signals),)
        assert rows[0]["allowed"].shape == (maps[env % 2].network.num_phases,)
        assert_same_decisions(rows, decisions_of(alone, env)[: len(rows)])


def test_envs_that_come_later_are_dealt_to_the_maps_too() -> None:
    maps = (single(), arterial())
    plan = make_plan(places=maps, fragment_length=2, first_env=1)
    slots, weights = Slots(plan.layouts(), 1, slots_per_env=3, collectors=1, capacity=4), make_channel()
    pool = SerialPool(plan, slots, weights, 1)
    try:
        pool.start()
        pool.scale(4)
        found: dict[int, int] = {}  # env -> signals
        while len(found) < 4:
            work(pool)
            while (fragment := take(slots, 0.0)) is not None:
                found[fragment.env] = fragment.actions.shape[1]
        assert found == {env: len(maps[env % 2].network.signals) for env in range(1, 5)}
    finally:
        pool.close()
        slots.close()
        weights.close()


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
    slots, weights = Slots(plan.layouts(), 1, slots_per_env=2, collectors=1), make_channel()
    pool = SerialPool(plan, slots, weights, slots.capacity)
    work(pool)
    assert pool.status()["decisions"] == 0
    pool.start()
    pool.close()
    work(pool)
    slots.close()
    weights.close()


def test_a_sumo_that_dies_is_replaced_and_the_other_env_loses_nothing(pool: SerialPool) -> None:
    found: list[Fragment] = []

    def go_on() -> None:
        work(pool)
        while (fragment := take(pool._slots, 0.0)) is not None:
            found.append(fragment)

    for _ in range(30):
        go_on()
    before = pool.status()["collectors"][0]["sumo"]
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: go_on() or pool.status()["restarts"] == 1, "the loss")  # type: ignore[func-returns-value]
    assert len(pool.status()["collectors"][0]["sumo"]) == 1
    (news,) = pool.news()
    assert "env 1: SUMO was ended by SIGKILL" in news
    assert pool.status()["collectors"][0]["trouble"] == news
    wait_for(lambda: go_on() or len(pool.status()["collectors"][0]["sumo"]) == 2, "another SUMO")  # type: ignore[func-returns-value]
    assert pool.status()["collectors"][0]["sumo"][0] == before[0]
    for _ in range(30):
        go_on()
    numbers = [(row["episode"], row["decision"]) for row in decisions_of(found, 0)]
    assert numbers == [(n // 20, n % 20) for n in range(len(numbers))]
    episodes = [fragment.episode for fragment in found if fragment.env == 1]
    assert episodes == sorted(episodes)
    assert next(f for f in found if f.env == 1 and f.episode == episodes[-1]).first == 0
    assert pool._slots.counts()["writing"] <= 2


def test_more_envs_and_fewer(pool: SerialPool) -> None:
    for count in (4, 1, 3):
        pool.scale(count)
        assert len(pool.status()["collectors"][0]["sumo"]) == count
        for _ in range(3):
            work(pool)
        while take(pool._slots, 0.0) is not None:
            pass
        work(pool)
        assert len(pool._slots) == 3 * count
    with pytest.raises(ControlError, match="from 1 to 4"):
        pool.scale(5)


def test_a_pause_for_a_time_ends_by_itself(pool: SerialPool) -> None:
    pool.pause(seconds=0.3)
    assert pool.status()["state"] == "paused"
    wait_for(lambda: work(pool) or pool.status()["decisions"] > 0, "decisions after the pause")  # type: ignore[func-returns-value]


def test_closing_ends_its_sumos_and_twice_is_fine(pool: SerialPool) -> None:
    pids = pool.status()["collectors"][0]["sumo"]
    assert len(pids) == 2
    pool.close()
    pool.close()
    assert_gone(pids)


def test_slots_are_not_taken_from_an_env_that_is_still_driven(
    pool: SerialPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody asks for fewer right after the collector has looked for orders."""
    assert pool._collector is not None
    obey = pool._collector.obey

    def be_overtaken() -> Wish:
        wish = obey()
        monkeypatch.undo()
        pool.board.num_envs = 1
        pool._order()
        return wish

    monkeypatch.setattr(pool._collector, "obey", be_overtaken)
    work(pool)
    assert len(pool._slots) == 6
    work(pool)
    while take(pool._slots, 0.0) is not None:
        pass
    work(pool)
    assert len(pool._slots) == 3


def test_a_pool_that_is_closed_refuses_orders_and_answers_all_the_same(pool: SerialPool) -> None:
    pool.close()
    assert pool.status()["state"] == "stopped"
    for order in (pool.pause, pool.resume, lambda: pool.scale(1)):
        with pytest.raises(ControlError, match="the run is ending"):
            order()
