"""The pool with real collectors and real SUMOs: pausing, back-pressure, and all the ways to die."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from buffers import END, Fragment, Slots
from collectors.errors import CollectorError, ControlError
from collectors.member import Member
from collectors.pool import ANSWER
from collectors.processes import ProcessPool
from tests.support.gates import Gate
from tests.support.leftovers import alive, assert_gone, assert_nothing_new, bearers, marked, shared_names
from tests.support.plans import Rig, assert_same_decisions, decisions_of, make_channel, make_plan, make_weights, take
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


class Site:
    """A pool of two collectors with two envs each, unless told otherwise, and somebody who reads."""

    def __init__(
        self, envs: int = 4, collectors: int = 2, slots_per_env: int = 3, capacity: int | None = None, **plan: Any
    ) -> None:
        self.plan = make_plan(**plan)
        self.slots = Slots(
            self.plan.layouts(), envs, slots_per_env, collectors=collectors, capacity=capacity or envs, poison=True
        )
        self.weights = make_channel(self.plan.shape)
        self.pool = ProcessPool(self.plan, self.slots, self.weights, envs, stall_limit=20.0)

    def close(self) -> None:
        self.pool.close()
        self.slots.close()
        self.weights.close()

    def read(self, fragments: int) -> list[Fragment]:
        """So many fragments."""
        found: list[Fragment] = []
        while len(found) < fragments:
            self.pool.check()
            fragment = take(self.slots, 10.0)
            assert fragment is not None, "no fragment within 10 s"
            found.append(fragment)
        return found

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.pool.status()["collectors"]
        return rows

    def decisions(self) -> list[int]:
        """Of each collector."""
        return [row["decisions"] for row in self.rows()]

    def pids(self, *numbers: int) -> list[int]:
        """Processes of some collectors and their SUMOs, or of all."""
        chosen = self.rows() if not numbers else [self.rows()[number] for number in numbers]
        return [pid for row in chosen for pid in (row["pid"], *row["sumo"]) if pid is not None]

    def wait_until_full(self) -> None:
        wait_for(lambda: {row["state"] for row in self.rows()} == {"waiting"}, "all collectors wait for a slot")


@pytest.fixture
def site() -> Iterator[Site]:
    before = shared_names()
    site = Site()
    site.pool.start()
    pids = site.pids()
    yield site
    site.close()
    assert_gone(pids)
    assert_nothing_new(before)


def processor_time(pids: list[int]) -> float:
    """Seconds that these processes have spent together."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def check_until_it_fails(pool: ProcessPool) -> str:
    """What ``check`` raises, sooner or later."""

    def failure() -> CollectorError | None:
        try:
            pool.check()
        except CollectorError as error:
            return error
        return None

    return str(wait_for(failure, "an error from check()"))


# Collecting


def test_all_envs_are_collected_and_new_weights_arrive(site: Site) -> None:
    assert [row["envs"] for row in site.rows()] == [[0, 2], [1, 3]]
    assert all(len(row["sumo"]) == 2 for row in site.rows())
    seen: set[int] = set()

    def all_have_come() -> bool:  # one collector may be far ahead of the other
        seen.update(fragment.env for fragment in site.read(1))
        return seen == {0, 1, 2, 3}

    wait_for(all_have_come, "a fragment of every env")
    site.weights.publish(make_weights(seed=2), 2)
    wait_for(lambda: any(fragment.version == 2 for fragment in site.read(1)), "a fragment of version 2")
    status = site.pool.status()
    assert status["decisions"] == sum(site.decisions())
    assert status["state"] == "running"


@pytest.mark.parametrize("backend", ["traci", "libsumo"])
def test_processes_collect_what_one_collector_here_would(backend: str) -> None:
    with Rig(make_plan(), num_envs=2) as rig:
        expected = rig.collect(100)
    site = Site(envs=2, collectors=2, backend=backend)
    try:
        site.pool.start()
        found: list[Fragment] = []
        while min(len(decisions_of(found, env)) for env in range(2)) < 30:
            found += site.read(1)
    finally:
        site.close()
    for env in range(2):
        here, there = decisions_of(expected, env), decisions_of(found, env)
        length = min(len(here), len(there))
        for one, other in zip(here[:length], there[:length], strict=True):
            assert one.pop("log_probs") == pytest.approx(other.pop("log_probs"), abs=1e-5)
        assert_same_decisions(here[:length], there[:length])
    assert all(row["sumo"] == [] for row in site.rows()) or backend == "traci"


# Pausing


def test_while_all_are_paused_nothing_moves_and_then_the_same_episodes_go_on(site: Site) -> None:
    first = site.read(8)
    pids = site.pids()
    site.pool.pause()
    assert site.pool.status()["state"] == "paused"
    assert {row["state"] for row in site.rows()} == {"paused"}
    stood, spent = site.decisions(), processor_time(pids)
    time.sleep(1.5)  # time itself is what must pass
    assert site.decisions() == stood
    assert processor_time(pids) - spent <= 0.05
    site.pool.check()
    site.pool.resume()
    second = site.read(16)
    assert site.pids() == pids
    for env in range(4):
        rows = decisions_of(first + second, env)
        assert [(row["episode"], row["decision"]) for row in rows] == [(n // 20, n % 20) for n in range(len(rows))]
        for one, following in pairwise(rows):
            assert following["decision"] == 0 or following["time"] == one["time_after"]


def test_one_can_be_paused_while_the_other_works(site: Site) -> None:
    site.pool.pause([1])
    stood = site.decisions()[1]
    reached = site.decisions()[0] + 60

    def other_has_gone_on() -> bool:
        take(site.slots, 0.1)
        return site.decisions()[0] >= reached

    wait_for(other_has_gone_on, "the other collector's decisions")
    assert site.decisions()[1] == stood
    assert [row["state"] for row in site.rows()][1] == "paused"
    assert site.pool.status()["state"] == "running"
    site.pool.resume([1])
    wait_for(lambda: take(site.slots, 0.1) is not None and site.decisions()[1] > stood, "decisions after the pause")


def test_pausing_twice_and_resuming_twice_is_fine(site: Site) -> None:
    for _ in range(2):
        site.pool.pause()
    assert site.pool.status()["state"] == "paused"
    for _ in range(2):
        site.pool.resume()
    site.read(4)


def test_a_collector_that_waits_for_a_slot_can_be_paused(site: Site) -> None:
    site.wait_until_full()
    site.pool.pause()
    site.pool.resume()
    site.read(20)


def test_an_unknown_collector_is_named(site: Site) -> None:
    for wrong in (2, -1, "0"):
        with pytest.raises(ControlError, match="collectors 0 to 1"):
            site.pool.pause([wrong])  # type: ignore[list-item]
    assert site.pool.status()["state"] == "running"


# Back-pressure


def test_when_nobody_reads_collectors_wait_and_lose_nothing(site: Site) -> None:
    site.wait_until_full()
    pids, stood = site.pids(), site.decisions()
    assert site.slots.counts() == {"free": 0, "writing": 0, "ready": 12, "reading": 0}
    spent = processor_time(pids)
    time.sleep(1.5)  # time itself is what must pass
    assert processor_time(pids) - spent <= 0.05
    assert site.decisions() == stood
    site.pool.check()
    found = site.read(30)
    for env in range(4):
        numbers = [(row["episode"], row["decision"]) for row in decisions_of(found, env)]
        assert numbers == [(n // 20, n % 20) for n in range(len(numbers))]


def assert_no_slot_is_lost(site: Site) -> None:
    """Once all stand and everything has been read, a slot is free, or the one that an env is writing into."""
    site.pool.pause()
    wait_for(lambda: site.pool.status()["state"] == "paused", "all paused")
    while take(site.slots, 0.0) is not None:
        pass
    counts = site.slots.counts()
    assert counts["ready"] == counts["reading"] == 0
    assert counts["writing"] <= site.pool.board.num_envs, "somebody wrote into two slots at once"
    assert counts["free"] == len(site.slots) - counts["writing"]
    states = site.slots._tickets["state"].reshape(site.slots.capacity, -1)
    assert not states[site.pool.board.num_envs :].any(), "an env that is wanted no more holds a slot"
    site.pool.resume()


def test_no_slot_is_lost(site: Site) -> None:
    site.read(40)
    assert_no_slot_is_lost(site)
    site.read(10)


# Failing


def test_a_collector_that_cannot_start_quotes_sumo() -> None:
    site = Site(extra_options=("--no-such-option",))
    try:
        with pytest.raises(CollectorError, match="no-such-option"):
            site.pool.start()
        pids = site.pids()
    finally:
        site.close()
    assert_gone(pids)


# Recovering


class Audit:
    """Everything that is read, held against what must come: every env's decisions in order, and no doubt about gaps."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.fragments: list[Fragment] = []
        self._reached: dict[int, tuple[int, int, float]] = {}  # env -> episode, next decision, time
        self.abandoned = 0  # episodes

    def read_until(self, condition: Callable[[], Any], what: str) -> None:
        def satisfied() -> bool:
            self.read()
            self._site.pool.check()
            return bool(condition())

        wait_for(satisfied, what, 60.0)

    def read(self) -> None:
        while (fragment := take(self._site.slots, 0.0)) is not None:
            self._check(fragment)
            self.fragments.append(fragment)

    def _check(self, fragment: Fragment) -> None:
        assert np.all(np.diff(fragment.time) == 10.0), "torn, or poison"
        episode, decision, time = self._reached.get(fragment.env, (-1, 0, 0.0))
        if fragment.episode == episode:
            assert (fragment.first, fragment.time[0]) == (decision, time), "lost, doubled, or out of order"
        else:
            assert fragment.episode > episode
            assert fragment.first == 0
            self.abandoned += fragment.episode > episode + 1 or (decision != 20 and episode >= 0)
        after = fragment.first + len(fragment)
        self._reached[fragment.env] = (fragment.episode, after, float(fragment.time[-1]))

    def of(self, *envs: int) -> int:
        """Fragments of some envs so far."""
        return sum(fragment.env in envs for fragment in self.fragments)


def test_a_killed_sumo_is_replaced_and_nothing_else_notices(site: Site) -> None:
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
    before = site.rows()
    victim = before[0]["sumo"][1]  # of env 2
    os.kill(victim, signal.SIGKILL)
    audit.read_until(lambda: site.rows()[0]["restarts"] == 1, "the loss on the board")
    audit.read_until(lambda: len(site.rows()[0]["sumo"]) == 2, "another SUMO")
    seen = audit.of(2)
    audit.read_until(lambda: audit.of(2) >= seen + 5, "more of the env that lost it")
    after = site.rows()
    assert [row["pid"] for row in after] == [row["pid"] for row in before]
    assert after[0]["sumo"][0] == before[0]["sumo"][0]
    assert after[1] == {**after[1], "sumo": before[1]["sumo"], "restarts": 0, "trouble": None}
    assert "env 2" in after[0]["trouble"]
    assert audit.abandoned <= 1
    (news,) = site.pool.news()
    assert "env 2" in news
    assert "SIGKILL" in news, "how SUMO ended"
    assert site.pool.status()["restarts"] == 1
    assert_gone([victim])


def test_a_killed_collector_is_replaced_and_takes_its_sumos_along(site: Site) -> None:
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 2) >= 8, "fragments")
    victims, others = site.pids(0), site.pids(1)
    decisions = site.decisions()[0]
    os.kill(victims[0], signal.SIGKILL)
    assert_gone(victims)
    audit.read_until(lambda: site.rows()[0]["restarts"] == 1, "its end")
    audit.read_until(lambda: site.rows()[0]["state"] == "running", "another one")
    seen = audit.of(0, 2)
    audit.read_until(lambda: audit.of(0, 2) >= seen + 8, "fragments of the new one")
    assert site.decisions()[0] > decisions, "it counts from zero"
    assert site.pids(1) == others
    assert not set(site.pids(0)) & set(victims)
    (news,) = site.pool.news()
    assert "collector 0" in news
    assert "SIGKILL" in news
    assert_no_slot_is_lost(site)


def test_one_that_shows_no_sign_of_life_is_replaced_and_says_where_it_was(site: Site) -> None:
    audit = Audit(site)
    audit.read_until(lambda: audit.of(1, 3) >= 4, "fragments")
    site.pool._stall_limit = 3.0  # only now: starting takes its time on a busy machine
    victims = site.pids(1)

    def stopped_while_it_works() -> bool:
        """One that is loading an episode would be waited for as long as loading may take."""
        os.kill(victims[0], signal.SIGSTOP)
        wait_for(lambda: psutil.Process(victims[0]).status() == psutil.STATUS_STOPPED, "the stop")
        if site.pool.board.rows[1]["loading"] == 0.0:
            return True
        os.kill(victims[0], signal.SIGCONT)
        return False

    audit.read_until(stopped_while_it_works, "a moment at which it loads nothing")
    assert_gone(victims)
    audit.read_until(lambda: site.rows()[1]["restarts"] == 1, "its end")
    site.pool._stall_limit = 20.0
    audit.read_until(lambda: site.rows()[1]["state"] == "running", "another one")
    seen = audit.of(1, 3)
    audit.read_until(lambda: audit.of(1, 3) >= seen + 4, "fragments of the new one")
    assert any("no sign of life" in line for line in site.pool.news())


def test_a_sumo_that_hangs_is_replaced_by_its_collector() -> None:
    site = Site(simulation={"step_limit": 0.5})
    try:
        site.pool.start()
        audit = Audit(site)
        audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
        before = site.rows()[1]
        os.kill(before["sumo"][0], signal.SIGSTOP)
        audit.read_until(lambda: site.rows()[1]["restarts"] == 1, "the loss on the board")
        audit.read_until(lambda: len(site.rows()[1]["sumo"]) == 2, "another SUMO")
        seen = audit.of(1)
        audit.read_until(lambda: audit.of(1) >= seen + 4, "fragments of that env")
        assert site.rows()[1]["pid"] == before["pid"]
        assert_gone([before["sumo"][0]])
    finally:
        site.close()


def test_killed_again_and_again_nothing_is_lost_doubled_or_left(site: Site) -> None:
    """At random moments, collectors and SUMOs alike, with a reader that is now fast and now slow."""
    chance = np.random.default_rng(7)
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
    everyone = set(site.pids())
    for kills in range(1, 13):
        audit.read_until(lambda: len(site.pids()) > 2, "somebody to kill")
        pids = site.pids()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[chance.integers(len(pids))], signal.SIGKILL)
        if kills % 3:
            seen, more = len(audit.fragments), int(chance.integers(1, 12))
            audit.read_until(lambda: len(audit.fragments) >= seen + more, "fragments")  # noqa: B023
        everyone |= set(site.pids())
    audit.read_until(lambda: all(row["state"] == "running" for row in site.rows()), "all of them")
    for env in range(4):
        seen = audit.of(env)
        audit.read_until(lambda: audit.of(env) >= seen + 3, "fragments of every env")  # noqa: B023
    assert site.pool.status()["restarts"] >= 6
    left = everyone - set(site.pids())
    assert_gone(left)
    assert_no_slot_is_lost(site)


@pytest.mark.parametrize("when", ["paused", "waiting"])
def test_who_dies_while_nothing_happens_is_replaced_and_stands_as_before(site: Site, when: str) -> None:
    if when == "paused":
        site.pool.pause()
    else:
        site.wait_until_full()
    os.kill(site.rows()[0]["pid"], signal.SIGKILL)
    os.kill(site.rows()[1]["sumo"][0], signal.SIGKILL)
    wait_for(lambda: [row["restarts"] for row in site.rows()] == [1, 1] or when == "waiting", "both losses")
    wait_for(lambda: site.rows()[0]["restarts"] == 1, "the loss of the collector")
    wait_for(lambda: {row["state"] for row in site.rows()} == {when}, f"all {when}")
    stood = site.decisions()
    time.sleep(0.5)  # time itself is what must pass
    assert site.decisions() == stood
    site.pool.resume()
    audit = Audit(site)
    audit.read_until(lambda: all(audit.of(env) >= 4 for env in range(4)), "fragments of all envs")


def test_the_forkserver_may_die_too(site: Site) -> None:
    """Its collectors go with it, and others come from another."""
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
    victims = site.pids()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    assert_gone(victims)
    audit.read_until(lambda: [row["restarts"] for row in site.rows()] == [1, 1], "their end")
    assert all("with the process that it was forked from" in line for line in site.pool.news())
    for env in range(4):
        seen = audit.of(env)
        audit.read_until(lambda: audit.of(env) > seen, "fragments of the new ones")  # noqa: B023


def test_a_forkserver_that_cannot_fork_is_a_setback_and_no_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
    launch, refused = Member.start, [0]

    def refuse_at_first(member: Member) -> None:
        refused[0] += 1
        if refused[0] <= 3:
            raise (
                EOFError("unexpected EOF"),
                OSError(errno.EAGAIN, "no more processes"),
                RuntimeError("can't start new thread"),
            )[refused[0] - 1]
        launch(member)

    monkeypatch.setattr(Member, "start", refuse_at_first)
    os.kill(site.pids(0)[0], signal.SIGKILL)
    audit.read_until(lambda: site.rows()[0]["restarts"] == 4, "four setbacks")
    audit.read_until(lambda: site.rows()[0]["state"] == "running", "another one")
    assert sum("could not be started" in line for line in site.pool.news()) == 3


def test_a_forkserver_that_stands_is_replaced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
    monkeypatch.setattr("buffers.children._FORK_LIMIT", 1.0)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    os.kill(site.pids(0)[0], signal.SIGKILL)
    audit.read_until(lambda: site.rows()[0]["restarts"] == 2, "its end, and a start that came to nothing")
    audit.read_until(lambda: site.rows()[0]["state"] == "running", "another one, from another forkserver")
    assert any("the process that it is forked from did not answer within 1 s" in line for line in site.pool.news())


def test_one_that_hangs_in_its_own_code_says_where(site: Site) -> None:
    """Its stack is in what the pool tells: here a SUMO that stands, for which it waits longer than it may."""
    audit = Audit(site)
    audit.read_until(lambda: audit.of(0, 1, 2, 3) >= 8, "fragments")
    site.pool._stall_limit = 1.0  # SUMO's own limit is a minute
    os.kill(site.rows()[0]["sumo"][0], signal.SIGSTOP)
    found: list[str] = []

    def told() -> bool:
        found.extend(site.pool.news())
        return any("no sign of life" in line for line in found)

    audit.read_until(told, "its end")
    site.pool._stall_limit = 20.0
    assert len(found) == 1, "the stack came as news"
    where = r'File "[^"]*(mail|connection)\.py", line \d+ in \w+ < File'  # of a decision, of a reset
    assert re.search(where, found[0]), "it does not say where it waits"


def test_a_collector_in_reserve_that_cannot_start_at_first_is_tried_again(
    site_for_eight: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_for_eight
    launch, refused = Member.start, [0]

    def refuse_once(member: Member) -> None:
        refused[0] += 1
        if refused[0] == 1:
            raise OSError(errno.EAGAIN, "no more processes")
        launch(member)

    monkeypatch.setattr(Member, "start", refuse_once)
    site.pool.scale(3)
    audit = Audit(site)
    audit.read_until(lambda: audit.of(2) >= 3, "fragments of the third")
    assert site.pool.status()["restarts"] == 1


def test_a_pool_that_is_closed_answers_all_the_same(site: Site) -> None:
    site.pool.close()
    assert site.pool.status()["state"] == "stopped"
    for order in (site.pool.pause, site.pool.resume, lambda: site.pool.scale(3)):
        with pytest.raises(ControlError, match="the run is ending"):
            order()


def test_what_fails_again_and_again_ends_with_its_own_traceback() -> None:
    """Slots that are too small for one decision: no episode is ever finished."""
    site = Site(slot_vehicles=1, fragment_length=1, restart_limit=2)
    try:
        with contextlib.suppress(CollectorError):  # it may be that fast
            site.pool.start()
        message = check_until_it_fails(site.pool)
        assert "as 2 times before" in message
        assert "--restart-limit is 2" in message
        assert "Traceback" in message
        assert "--slot-vehicles" in message
        assert "in append" in message
        assert len([line for line in site.pool.news() if "the next one starts in" in line]) >= 2
    finally:
        site.close()


def test_an_env_whose_sumos_always_die_ends_the_run_with_its_last_words() -> None:
    site = Site(envs=2, collectors=1, restart_limit=1, simulation={"episode_seconds": 100_000.0})
    try:
        site.pool.start()
        dead: set[int] = set()

        def failure() -> str | None:
            take(site.slots, 0.01)
            for pid in set(site.rows()[0]["sumo"]) - dead:
                dead.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                site.pool.check()
            except CollectorError as error:
                return str(error)
            return None

        message = str(wait_for(failure, "the end"))
        assert "failed 2 times without an episode" in message
        assert "SIGKILL" in message
    finally:
        site.close()


def test_an_episode_in_between_forgives(site: Site) -> None:
    audit = Audit(site)
    for losses in range(1, 9):  # more than the limit of five
        audit.read_until(lambda: len(site.rows()[0]["sumo"]) == 2, "both SUMOs")
        episode = site.pool.board.envs[0]["episode"]
        audit.read_until(lambda: site.pool.board.envs[0]["episode"] >= episode + 2, "whole episodes")  # noqa: B023
        os.kill(site.rows()[0]["sumo"][0], signal.SIGKILL)
        audit.read_until(lambda: site.rows()[0]["restarts"] == losses, "the loss")  # noqa: B023
    site.pool.check()


# Scaling


def test_more_envs_and_fewer(site_for_eight: Site) -> None:
    site = site_for_eight
    audit = Audit(site)
    site.pool.scale(8)
    assert site.pool.status()["num_envs"] == 8
    audit.read_until(lambda: all(audit.of(env) >= 3 for env in range(8)), "fragments of eight envs")
    assert [row["envs"] for row in site.rows()] == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert len(site.slots) == 24
    pids = {pid for row in site.rows() for pid in row["sumo"]}
    assert len(pids) == 8
    site.pool.scale(1)
    audit.read_until(lambda: len(site.slots) == 3, "the slots of the others to be given back")
    audit.read_until(lambda: [len(row["sumo"]) for row in site.rows()] == [1, 0, 0], "the end of seven SUMOs")
    assert_gone(pids - set(site.rows()[0]["sumo"]))
    wait_for(lambda: [row["pid"] is None for row in site.rows()] == [False, True, True], "the end of two collectors")
    seen = audit.of(0)
    audit.read_until(lambda: audit.of(0) >= seen + 3, "fragments of the one that is left")
    site.pool.scale(4)
    seen = audit.of(3)
    audit.read_until(lambda: audit.of(3) >= seen + 3, "fragments of an env that has come back")
    assert site.pool.status()["restarts"] == 0, site.pool.news()
    assert site.pool.news() == []


@pytest.fixture
def site_for_eight() -> Iterator[Site]:
    """Two envs at first, three collectors, room for eight envs."""
    site = Site(envs=2, collectors=3, capacity=8)
    site.pool.start()
    assert len(site.rows()) == 2, "a collector in reserve is shown"
    yield site
    pids = site.pids()
    site.close()
    assert_gone(pids)


def test_envs_that_come_during_a_pause_stand_too(site_for_eight: Site) -> None:
    site = site_for_eight
    site.pool.pause()
    stood = site.decisions()
    site.pool.scale(5)
    wait_for(lambda: sum(len(row["sumo"]) for row in site.rows()) == 5, "five SUMOs")
    wait_for(lambda: {row["state"] for row in site.rows()} == {"paused"}, "all paused")
    assert sum(site.decisions()) == sum(stood)
    site.pool.resume()
    audit = Audit(site)
    audit.read_until(lambda: all(audit.of(env) for env in range(5)), "fragments of all five")


@pytest.mark.parametrize("wrong", [0, 9, -1, "3", 2.0, True, None])
def test_a_number_of_envs_that_cannot_be_is_refused(site_for_eight: Site, wrong: Any) -> None:
    with pytest.raises(ControlError, match="from 1 to 8"):
        site_for_eight.pool.scale(wrong)
    assert site_for_eight.pool.status()["num_envs"] == 2


def test_orders_from_four_threads_are_each_answered(site_for_eight: Site) -> None:
    site = site_for_eight
    audit = Audit(site)
    answers: list[float] = []  # s

    def order(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(100):
            began = time.monotonic()
            match int(chance.integers(4)):
                case 0:
                    site.pool.pause(None if chance.random() < 0.5 else [int(chance.integers(3))])
                case 1:
                    site.pool.pause(seconds=float(chance.random()))
                case 2:
                    site.pool.resume()
                case 3:
                    site.pool.scale(int(chance.integers(1, 9)))
            answers.append(time.monotonic() - began)

    threads = [threading.Thread(target=order, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    audit.read_until(lambda: not any(thread.is_alive() for thread in threads), "the last order")
    assert len(answers) == 400
    assert max(answers) < ANSWER + 1.0, "somebody had to wait for more than the limit"
    site.pool.resume()
    site.pool.scale(8)
    for env in range(8):
        seen = audit.of(env)
        audit.read_until(lambda: audit.of(env) > seen, f"a fragment of env {env}")  # noqa: B023
    assert site.pool.status()["restarts"] == 0, site.pool.news()


def test_a_pause_for_a_time_ends_by_itself(site: Site) -> None:
    site.pool.pause(seconds=0.5)
    assert site.pool.status()["state"] == "paused"
    wait_for(lambda: site.pool.status()["state"] == "running", "the end of the pause")
    site.pool.pause(seconds=0.2)
    site.pool.pause()  # whoever comes later decides
    stood = site.decisions()
    time.sleep(0.5)  # time itself is what must pass
    assert site.decisions() == stood
    assert site.pool.status()["state"] == "paused"


def test_two_reasons_to_rest_must_both_end(site: Site) -> None:
    site.pool.pause()
    site.pool.pause(why="memory")
    site.pool.resume()
    assert site.pool.status()["state"] == "paused"
    assert site.rows()[0]["paused_for"] == ["memory"]
    site.pool.resume(why="memory")
    assert site.pool.status()["state"] == "running"


def test_a_pause_is_answered_while_a_collector_cannot_obey(site: Site) -> None:
    os.kill(site.rows()[1]["pid"], signal.SIGSTOP)
    try:
        site.pool.pause()
        assert [row["state"] for row in site.rows()] == ["paused", "pausing"]
        assert site.pool.status()["state"] == "pausing"
    finally:
        os.kill(site.rows()[1]["pid"], signal.SIGCONT)
    wait_for(lambda: site.pool.status()["state"] == "paused", "the other one")


# While a SUMO loads


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate.xml") as gate:
        yield gate


@pytest.fixture
def loading(gate: Gate) -> Iterator[Site]:
    """One collector with an env, room for three, in an episode without an end; another SUMO of it is loading."""
    site = Site(1, 1, capacity=3, extra_options=gate.options, simulation={"episode_seconds": 100_000.0})
    try:
        gate.close()
        threading.Timer(0.5, gate.open).start()  # loading is known to take that long
        site.pool.start()
        site.read(2)
        gate.close()
        began = time.monotonic()
        site.pool.scale(3)
        assert time.monotonic() - began < ANSWER + 0.5
        assert site.rows()[0]["state"] == "resuming"
        yield site
    finally:
        gate.open()
        site.close()


def test_a_pause_is_not_called_one_before_it_is(loading: Site, gate: Gate) -> None:
    began = time.monotonic()
    loading.pool.pause()
    assert time.monotonic() - began < ANSWER + 0.5
    assert loading.pool.status()["state"] == "pausing"
    stood = loading.decisions()
    gate.open()
    wait_for(lambda: loading.pool.status()["state"] == "paused", "the pause")
    assert loading.decisions() == stood, "a decision came after the order"
    assert len(loading.rows()[0]["sumo"]) == 3
    loading.pool.resume()
    seen: set[int] = set()

    def all_have_come() -> bool:
        seen.update(fragment.env for fragment in loading.read(1))
        return seen == {0, 1, 2}

    wait_for(all_have_come, "fragments of all three")


def test_fewer_envs_can_be_asked_for_meanwhile(loading: Site, gate: Gate) -> None:
    loading.pool.scale(1)
    gate.open()
    wait_for(lambda: loading.pool.board.has_obeyed(0), "the second order")
    assert loading.pool.board.envs["episode"].tolist() == [0, 0, -1], "a SUMO was started for nothing"
    loading.read(3)
    wait_for(lambda: len(loading.slots) == 3, "the slots of the others to be given back")


def test_loading_has_more_time_than_a_decision(loading: Site, gate: Gate) -> None:
    loading.pool._stall_limit = 1.0
    time.sleep(1.5)  # time itself is what must pass
    gate.open()
    wait_for(lambda: len(loading.rows()[0]["sumo"]) == 3, "three SUMOs")
    loading.pool._stall_limit = 20.0
    assert loading.pool.status()["restarts"] == 0


def test_loading_has_not_much_more_time_than_it_has_ever_taken(loading: Site) -> None:
    """Whoever hangs while it loads is not waited for as long as for a first start."""
    assert loading.pool.board.rows[0]["loading"] < 20.0
    loading.pool._stall_limit = 1.0
    wait_for(lambda: loading.pool.status()["restarts"] == 1, "its end", 25.0)
    loading.pool._stall_limit = 20.0


def test_a_start_that_takes_long_holds_up_no_end(gate: Gate) -> None:
    gate.close()
    site = Site(2, 1, extra_options=gate.options)

    def start() -> None:
        with contextlib.suppress(CollectorError):  # at the end
            site.pool.start()

    starting = threading.Thread(target=start)
    starting.start()
    pid = wait_for(lambda: site.rows()[0]["pid"], "the collector")
    wait_for(lambda: psutil.Process(pid).children(), "its SUMO")
    began = time.monotonic()
    site.close()
    assert time.monotonic() - began < 3.0
    assert_gone([pid])
    site.pool._fail(CollectorError("closed"))  # as a run does whose start is interrupted: nobody waits for it
    starting.join(10)


# Ending


def test_closing_ends_paused_and_waiting_collectors_and_tells_the_readers(site: Site) -> None:
    site.pool.pause([0])
    pids = site.pids()
    site.pool.close()
    assert_gone(pids)
    wait_for(lambda: site.slots.take(0, 0.1) == END, "the end of the stream")
    site.pool.close()


def test_a_pool_that_was_never_started_can_be_closed() -> None:
    site = Site()
    site.close()
    site.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_asks_the_run_to_stop_leaves_its_collectors_alone(site: Site, number: signal.Signals) -> None:
    for row in site.rows():
        os.kill(row["pid"], number)
    stood = site.decisions()

    def all_have_gone_on() -> bool:
        site.read(1)
        return all(now > before for now, before in zip(site.decisions(), stood, strict=True))

    wait_for(all_have_gone_on, "decisions of every collector")


def test_a_start_that_stands_holds_up_no_end(site: Site) -> None:
    pids = site.pids()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: site.rows()[0]["state"] == "recovering", "its end")
    time.sleep(1.0)  # until the next one is being started
    began = time.monotonic()
    site.pool.close(timeout=4.0)
    assert time.monotonic() - began < 5.0
    assert_gone(pids)
    assert not site.pool._watch.is_alive()


def test_what_the_watch_stumbles_over_is_an_error_of_the_pool(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("something unforeseen")

    monkeypatch.setattr(site.pool, "_look_after", stumble)
    message = check_until_it_fails(site.pool)
    assert "the watch over the collectors has failed" in message
    assert "something unforeseen" in message
    assert "in stumble" in message


ORPHANS = """
import os, signal, sys, time
from tests.collectors.test_pool import Site

if __name__ == "__main__":
    site = Site()
    site.pool.start()
    pids = site.pids()
    for number in map(int, sys.argv[1:]):
        os.kill(pids[number], signal.SIGSTOP)
    print(*pids, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [[], ["0"], ["0", "1", "3"]], ids=["none", "a collector", "several"])
def test_when_the_parent_is_killed_everything_goes(tmp_path: Path, stopped: list[str]) -> None:
    """Also what is stopped, and where nobody else leads the session."""
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    before = shared_names()
    environment, mark = marked({**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
    with subprocess.Popen(
        [sys.executable, script, *stopped],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 6
        assert all(map(alive, pids))
        parent.kill()
    wait_for(lambda: not bearers(mark), "the end of all its processes", 5.0)
    assert not any(map(alive, pids))
    assert_nothing_new(before)
    assert list(tmp_path.iterdir()) == [script], "a folder is left"
