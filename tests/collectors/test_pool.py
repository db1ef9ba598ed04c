"""The pool with real collectors and real SUMOs: pausing, back-pressure, and all the ways to die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from buffers import END, Fragment, Slots
from collectors.errors import CollectorError, ControlError
from collectors.processes import ProcessPool, share_out
from tests.support.leftovers import alive, assert_gone, assert_nothing_new, bearers, marked, shared_names
from tests.support.plans import Rig, assert_same_decisions, decisions_of, make_channel, make_plan, make_weights, take
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


class Site:
    """A pool of two collectors with two envs each, unless told otherwise, and somebody who reads."""

    def __init__(self, envs: int = 4, collectors: int = 2, slots_per_env: int = 3, **plan: Any) -> None:
        self.plan = make_plan(**plan)
        self.slots = Slots(self.plan.layout(), envs, slots_per_env, poison=True)
        self.weights = make_channel(self.plan.shape)
        self.pool = ProcessPool(self.plan, collectors, self.slots, self.weights, stall_limit=20.0)

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
        return [pid for row in chosen for pid in (row["pid"], *row["sumo"])]

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


def test_envs_are_shared_out_evenly_and_completely() -> None:
    for envs in range(1, 12):
        for collectors in range(1, envs + 1):
            shares = share_out(envs, collectors)
            assert sorted(env for share in shares for env in share) == list(range(envs))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert all(shares)


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


def test_the_states_of_all_slots_add_up_at_any_time(site: Site) -> None:
    for _ in range(200):
        assert sum(site.slots.counts().values()) == len(site.slots)
        take(site.slots, 0.001)


# Failing


def test_a_collector_that_raises_is_quoted_with_its_own_traceback() -> None:
    site = Site(slot_vehicles=1, fragment_length=1)
    try:
        site.pool.start()
        pids = site.pids()
        message = check_until_it_fails(site.pool)
        assert "Traceback" in message
        assert "--slot-vehicles" in message
        assert "in append" in message
    finally:
        site.close()
    assert_gone(pids)


def test_a_collector_that_cannot_start_quotes_sumo() -> None:
    site = Site(extra_options=("--no-such-option",))
    try:
        with pytest.raises(CollectorError, match="no-such-option"):
            site.pool.start()
        pids = site.pids()
    finally:
        site.close()
    assert_gone(pids)


def test_a_killed_sumo_is_reported_and_the_rest_closes(site: Site) -> None:
    site.read(4)
    os.kill(site.rows()[0]["sumo"][1], signal.SIGKILL)
    message = check_until_it_fails(site.pool)
    assert "collector 0" in message
    assert "SIGKILL" in message, "how SUMO ended"


def test_a_killed_collector_is_reported_and_takes_its_sumos_along(site: Site) -> None:
    site.read(4)
    victims = site.pids(0)
    os.kill(victims[0], signal.SIGKILL)
    message = check_until_it_fails(site.pool)
    assert "collector 0" in message
    assert "-9" in message
    assert_gone(victims)
    assert all(map(alive, site.pids(1)))
    found = [take(site.slots, 10.0) for _ in range(12)]
    assert any(fragment is not None and fragment.env in (1, 3) for fragment in found), "the other is held up"


def test_a_killed_collector_is_noticed_by_pause() -> None:
    site = Site()
    try:
        site.pool.start()
        os.kill(site.rows()[1]["pid"], signal.SIGKILL)
        with pytest.raises(CollectorError, match="collector 1"):
            site.pool.pause()
    finally:
        site.close()


def test_a_collector_that_hangs_is_reported() -> None:
    site = Site()
    try:
        site.pool.start()
        site.pool._stall_limit = 1.0  # only now: starting takes its time on a busy machine
        pids = site.pids()
        os.kill(site.rows()[1]["pid"], signal.SIGSTOP)
        assert "collector 1" in check_until_it_fails(site.pool)
    finally:
        site.pool.close(timeout=0.5)
        site.close()
    assert_gone(pids)


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


ORPHANS = """
import time
from tests.collectors.test_pool import Site

if __name__ == "__main__":
    site = Site()
    site.pool.start()
    print(*site.pids(), flush=True)
    time.sleep(60)
"""


def test_when_the_parent_is_killed_everything_goes(tmp_path: Path) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    before = shared_names()
    environment, mark = marked({**os.environ, "PYTHONPATH": str(ROOT)})
    with subprocess.Popen([sys.executable, script], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 6
        assert all(map(alive, pids))
        parent.kill()
    wait_for(lambda: not bearers(mark), "the end of all its processes", 5.0)
    assert not any(map(alive, pids))
    assert_nothing_new(before)
