"""A collector: one version per fragment, envs side by side, back-pressure."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import pytest

from buffers import Continuity, Fragment, Slots
from collectors import collector
from collectors.board import Activity, Board, Wish
from collectors.driver import EnvDriver
from collectors.plan import CollectionPlan
from envs import Frame, Simulation, SumoError
from graph import Actor, Topology
from tests.support.plans import Rig, assert_same_decisions, decisions_of, make_plan, make_weights


def log_probs_under(weights: np.ndarray, rig: Rig, fragment: Fragment) -> np.ndarray:
    """Log-probabilities of a fragment's actions under these weights, [n, S]."""
    actor = Actor(Topology.of(rig.plan.place(0).network), rig.plan.shape, rig.plan.radius)
    actor.policy.load(weights)
    frames = []
    for row in decisions_of([fragment], fragment.env):
        frames.append(Frame(**{name: row[name] for name in Frame.__dataclass_fields__}))
    every = actor._log_probs(range(len(frames)), frames)  # [n, P]
    start = rig.plan.place(0).network.phase_start[:-1]
    return np.take_along_axis(every, start + fragment.actions.astype(int), axis=1)


def test_a_fragment_is_acted_by_the_version_that_it_names() -> None:
    versions = {1: make_weights(seed=1), 2: make_weights(seed=2), 3: make_weights(seed=3)}
    found: list[Fragment] = []
    with Rig(make_plan(), num_envs=2) as rig:
        for round_number in range(40):
            rig.collector.round()
            found += rig.read()
            if round_number in (10, 21):
                rig.weights.publish(versions[rig.weights.version + 1], rig.weights.version + 1)
        assert {fragment.version for fragment in found} == {1, 2, 3}
        for fragment in found:
            for version, weights in versions.items():
                fits = np.allclose(log_probs_under(weights, rig, fragment), fragment.log_probs, atol=1e-4)
                assert fits == (version == fragment.version)


def test_the_versions_of_an_env_never_go_back_and_no_decision_is_lost_between_them() -> None:
    with Rig(make_plan(slot_vehicles=10)) as rig:
        found: list[Fragment] = []
        for round_number in range(100):
            rig.collector.round()
            found += rig.read()
            if round_number % 3 == 0:
                rig.weights.publish(make_weights(), rig.weights.version + 1)
    rows = decisions_of(found, 0)
    assert [row["decision"] for row in rows] == [number % 20 for number in range(len(rows))]
    versions = [fragment.version for fragment in found]
    assert versions == sorted(versions)
    assert versions[-1] > 10


def test_new_weights_are_read_when_a_fragment_length_is_over_also_where_episodes_end_in_between() -> None:
    with Rig(make_plan(fragment_length=7)) as rig:
        for number in range(1, 30):
            rig.collector.round()
            if number == 1:
                rig.weights.publish(make_weights(seed=2), 2)
            acting = int(rig.board.rows[0]["version"])
            assert acting == (1 if number <= 7 else 2)


def test_envs_that_share_a_collector_see_what_each_would_see_alone() -> None:
    with Rig(make_plan(), num_envs=3) as rig:
        together = rig.collect(150)
    for env in range(3):
        with Rig(make_plan(), num_envs=3, alone=env) as rig:
            alone = decisions_of(rig.collect(45), env)[:40]
        shared = decisions_of(together, env)[:40]
        assert len(shared) == 40
        # Matrix products of other sizes round differently: log-probabilities agree closely, all else to the bit.
        for one, other in zip(alone, shared, strict=True):
            assert one.pop("log_probs") == pytest.approx(other.pop("log_probs"), abs=1e-5)
        assert_same_decisions(alone, shared)


def test_the_same_seed_gives_the_same_fragments_to_the_bit_and_another_does_not() -> None:
    def run(seed: int) -> list[Fragment]:
        with Rig(make_plan(seed=seed), num_envs=2) as rig:
            return rig.collect(80)

    first, second, other = run(5), run(5), run(6)
    for env in range(2):
        assert_same_decisions(decisions_of(first, env), decisions_of(second, env))
    with pytest.raises(AssertionError):
        assert_same_decisions(decisions_of(first, 0), decisions_of(other, 0))
    with pytest.raises(AssertionError):
        assert_same_decisions(decisions_of(first, 0), decisions_of(first, 1))


def test_without_a_free_slot_it_waits_and_goes_on_where_it_stood() -> None:
    with Rig(make_plan(), slots=2) as rig:
        while rig.collector.round():
            pass
        assert rig.board.rows[0]["activity"] == Activity.WAITING
        stood = int(rig.board.rows[0]["decisions"])
        assert stood == 16, "two fragments of eight decisions"
        assert rig.slots.counts() == {"free": 0, "writing": 0, "ready": 2, "reading": 0}
        assert not rig.collector.round()
        assert int(rig.board.rows[0]["decisions"]) == stood
        before = rig.read()
        rows = decisions_of(before + rig.collect(24), 0)
    assert [row["decision"] for row in rows[:40]] == list(range(20)) * 2


def test_an_env_that_waits_for_a_slot_holds_up_no_other() -> None:
    with Rig(make_plan(), num_envs=2, slots=2) as rig:
        kept = []
        for _ in range(60):
            rig.collector.round()
            while (announcement := rig.slots.take(0, 0.0)) is not None:
                if announcement.slot < 2:
                    kept.append(announcement)  # env 0 is not read
                else:
                    rig.slots.release(announcement.slot)
        assert len(kept) == 2
        assert int(rig.board.rows[0]["decisions"]) == 16 + 60


def test_after_waiting_it_acts_with_the_newest_weights() -> None:
    with Rig(make_plan(), slots=1) as rig:
        while rig.collector.round():
            pass
        assert not rig.collector.round()
        rig.weights.publish(make_weights(seed=2), 2)
        rig.read()
        (fragment,) = rig.collect(1)
        assert fragment.version == 2


def test_the_board_counts_what_the_fragments_hold() -> None:
    with Rig(make_plan(slot_vehicles=10), num_envs=2) as rig:
        found = rig.collect(150)
        for env in range(2):
            rig.collector._drivers[env].cut()
        found += rig.read()
        row = rig.board.rows[0]
        unwritten = sum(driver._unwritten is not None for driver in rig.collector._drivers.values())
        assert int(row["decisions"]) == sum(map(len, found)) + unwritten
        assert int(row["episodes"]) == sum(fragment.ended for fragment in found)


def test_closing_ends_its_sumos_and_twice_is_fine() -> None:
    with Rig(make_plan(), num_envs=2) as rig:
        assert len(rig.collector.sumo_pids) == 2
        rig.collector.close()
        rig.collector.close()
        assert rig.collector.sumo_pids == []
        assert rig.board.rows[0]["activity"] == Activity.STOPPED


def test_a_collector_whose_second_env_fails_closes_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Simulation] = []

    def driver(plan: CollectionPlan, env: int, slots: Slots, simulation: Simulation, *rest: Any) -> EnvDriver:
        started.append(simulation)
        if env == 1:
            raise RuntimeError("the second one")
        return EnvDriver(plan, env, slots, simulation, *rest)

    monkeypatch.setattr(collector, "EnvDriver", driver)
    with pytest.raises(RuntimeError, match="the second one"):
        Rig(make_plan(), num_envs=2)
    assert [simulation.session.pids for simulation in started] == [[], []]


def test_an_episode_that_ended_counts_although_the_next_one_could_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reset but the first of a SUMO fails: each has one whole episode, and nobody gives up."""
    resets: WeakKeyDictionary[Simulation, int] = WeakKeyDictionary()
    reset = Simulation.reset

    def fail_the_second_time(simulation: Simulation, seed: int) -> Frame:
        resets[simulation] = resets.get(simulation, 0) + 1
        if resets[simulation] == 2:
            raise SumoError("SUMO does not like this seed")
        return reset(simulation, seed)

    monkeypatch.setattr(Simulation, "reset", fail_the_second_time)
    monkeypatch.setattr("collectors.setbacks._FIRST", 0.01)
    with Rig(make_plan(restart_limit=1)) as rig:
        episodes = [fragment.episode for fragment in rig.collect(80) if fragment.ended]
        assert len(episodes) == 4
        assert int(rig.board.rows[0]["episodes"]) == 4
        assert len(rig.said) == int(rig.board.envs[0]["losses"]) >= 3
        assert all("does not like this seed" in line for line in rig.said)


@pytest.mark.parametrize("harm", ["connection", "death", "silence"])
def test_a_sumo_that_is_lost_in_any_way_costs_its_own_fragment_alone(harm: str) -> None:
    with Rig(make_plan(simulation={"step_limit": 0.3}), num_envs=2) as rig:
        found = rig.collect(50)
        session = rig.collector._drivers[1]._simulation.session
        (pid,) = session.pids
        match harm:
            case "connection":
                session.client._socket.shutdown(socket.SHUT_RDWR)
            case "death":
                os.kill(pid, signal.SIGKILL)
            case "silence":
                os.kill(pid, signal.SIGSTOP)
        while not rig.said:
            rig.collector.round()
            found += rig.read()
        assert rig.said[0].startswith("env 1: ")
        found += rig.collect(200)
        assert not psutil.pid_exists(pid)
        continuity = Continuity()
        numbers = dict.fromkeys(range(2), 0)
        for fragment in found:
            numbers[fragment.env] += 1
            continuity.check(fragment, numbers[fragment.env])
        assert continuity.delivered == int(rig.board.envs["fragments"].sum()), (
            "a fragment that was announced is missing"
        )
        whole = decisions_of(found, 0)
        assert [row["decision"] for row in whole] == [number % 20 for number in range(len(whole))]
        episodes = sorted({fragment.episode for fragment in found if fragment.env == 1})
        assert episodes == list(range(len(episodes))), "an episode was begun twice, or never"


# Orders


@pytest.mark.parametrize("wish", [Wish.PAUSE, Wish.STOP])
def test_an_order_that_comes_while_sumos_load_is_the_one_that_is_followed(
    wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.setbacks._FIRST", 0.0)
    started: list[Simulation] = []

    def load(*arguments: Any, **settings: Any) -> Simulation:
        rig.board.order(0, wish)
        started.append(Simulation(*arguments, **settings))
        return started[-1]

    with Rig(make_plan(), num_envs=3) as rig:
        rig.collect(30)
        for env in (1, 2):
            rig.collector._lose(env, SumoError("lost"))
        monkeypatch.setattr(collector, "Simulation", load)
        rig.board.order(0, Wish.RUN)
        assert rig.collector.obey() is wish
        assert rig.board.has_obeyed(0)
        assert len(started) == (1 if wish is Wish.STOP else 2), "it goes on loading although it is to stop"


def test_who_is_told_to_stop_while_it_starts_starts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Simulation] = []

    def load(*arguments: Any, **settings: Any) -> Simulation:
        started.append(Simulation(*arguments, **settings))
        boards[0].order(0, Wish.STOP)
        return started[-1]

    boards: list[Board] = []

    def remember(*arguments: Any) -> Board:
        boards.append(Board(*arguments))
        return boards[-1]

    monkeypatch.setattr(collector, "Simulation", load)
    monkeypatch.setattr("tests.support.plans.Board", remember)
    with Rig(make_plan(), num_envs=3) as rig:
        assert len(started) == 1
        assert rig.collector.obey() is Wish.STOP


def test_loading_is_shown_and_every_load_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first load of a SUMO, the one that begins an episode, and not the decisions between them."""
    seen: list[tuple[bool, float]] = []
    reset = Simulation.reset

    def note(simulation: Simulation, seed: int) -> Frame:
        seen.append((bool(rig.board.rows[0]["loading"]), float(rig.board.rows[0]["heartbeat"])))
        return reset(simulation, seed)

    with Rig(make_plan(), num_envs=2) as rig:
        monkeypatch.setattr(Simulation, "reset", note)
        assert not rig.board.rows[0]["loading"]
        rig.collect(50)
        assert not rig.board.rows[0]["loading"]
    assert len(seen) == 2, "two episodes"
    assert all(loading for loading, _ in seen)
    assert seen[0][1] < seen[1][1]


def test_who_has_lost_all_sumos_is_recovering_and_waits_for_no_slot() -> None:
    with Rig(make_plan(), num_envs=2) as rig:
        for env in range(2):
            rig.collector._lose(env, SumoError("lost"))
        rig.collector.obey()
        assert not rig.collector.round()
        assert rig.board.rows[0]["activity"] == Activity.RECOVERING
        assert 0.0 < rig.collector.patience() <= 0.5
