"""Fragments against a second simulation that takes the same actions, and slots that are too small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from buffers import Fragment, SharedMemoryError
from collectors.plan import CollectionPlan
from envs import Frame, Simulation
from envs.jams import JamWatch
from graph import PolicyShape
from tests.support.plans import EPISODE, SHAPE, Rig, assert_same_decisions, decisions_of, make_plan, same

DECISIONS = int(EPISODE / 10)  # of one episode
FRAME = ("time", "vehicles", "lanes", "shown", "elapsed", "allowed")


def collect(plan: CollectionPlan, decisions: int) -> list[Fragment]:
    with Rig(plan) as rig:
        return rig.collect(decisions)


def replay(plan: CollectionPlan, rows: Sequence[dict[str, Any]]) -> None:
    """Take the actions of whole episodes again in another simulation and compare everything."""
    simulation = Simulation(plan.place(0).scenario, plan.backend, **plan.simulation)
    try:
        for row in rows:
            if row["decision"] == 0:
                frame = simulation.reset(plan.seeds(0, row["episode"])[0])
            compare(frame, row, "")
            simulation.send(row["actions"])
            outcome = simulation.receive()
            compare(outcome.frame, row, "_after")
            assert same(outcome.rewards, row["rewards"])
            assert same(outcome.costs, row["costs"])
            assert outcome.truncated == row["ended"]
            frame = outcome.frame
    finally:
        simulation.close()


def compare(frame: Frame, row: dict[str, Any], suffix: str) -> None:
    for name in FRAME:
        expected = np.asarray(getattr(frame, name))
        assert np.array_equal(expected, row[name + suffix]), f"{name}{suffix} of decision {row['decision']}"


def test_what_is_collected_is_what_happened() -> None:
    plan = make_plan()
    fragments = collect(plan, 2 * DECISIONS + 5)
    rows = decisions_of(fragments, 0)
    assert [row["episode"] for row in rows[: 2 * DECISIONS]] == [0] * DECISIONS + [1] * DECISIONS
    assert any(len(row["lanes"]) for row in rows)
    replay(plan, rows)


def test_decisions_follow_each_other_and_no_fragment_crosses_an_episode() -> None:
    fragments = collect(make_plan(), 3 * DECISIONS)
    expected: dict[int, int] = {}
    for fragment in fragments:
        assert fragment.first == expected.get(fragment.episode, 0)
        expected[fragment.episode] = fragment.first + len(fragment)
        assert np.all(np.diff(fragment.time) > 0)
        assert fragment.ended == (expected[fragment.episode] == DECISIONS)
    assert [fragment.episode for fragment in fragments] == sorted(fragment.episode for fragment in fragments)


def test_the_end_of_the_time_window_is_truncation_and_has_a_summary() -> None:
    fragments = collect(make_plan(), 2 * DECISIONS)
    ended = [fragment for fragment in fragments if fragment.ended]
    assert len(ended) == 2
    for fragment in ended:
        assert fragment.truncated
        assert not fragment.terminated
        assert fragment.summary is not None
        assert fragment.summary["seconds"] == EPISODE
    rows = decisions_of(fragments, 0)
    total = sum(float(row["rewards"].sum()) for row in rows if row["episode"] == ended[0].episode)
    assert ended[0].summary is not None
    assert ended[0].summary["return"] == pytest.approx(total)
    assert all(fragment.summary is None for fragment in fragments if not fragment.ended)


def test_an_episode_that_no_decision_interval_divides_ends_with_a_short_decision() -> None:
    plan = make_plan(simulation={"episode_seconds": 45.0})
    rows = decisions_of(collect(plan, 10), 0)
    assert [row["time_after"] for row in rows[:5]] == [10, 20, 30, 40, 45]
    assert [row["ended"] for row in rows[:5]] == [False] * 4 + [True]
    replay(plan, rows[:10])


@pytest.mark.parametrize("vehicles", [8, 9, 11])
def test_small_slots_end_fragments_early_and_lose_nothing(vehicles: int) -> None:
    large = collect(make_plan(), 3 * DECISIONS)
    small = collect(make_plan(slot_vehicles=vehicles), 3 * DECISIONS)
    early = [fragment for fragment in small if len(fragment) < 8 and not fragment.ended]
    assert len(early) > len(large), "the slots are not small enough for this test"
    assert_same_decisions(decisions_of(small, 0)[: 3 * DECISIONS], decisions_of(large, 0)[: 3 * DECISIONS])


def test_the_history_of_an_episode_does_not_see_the_one_before_whatever_the_slots() -> None:
    shape = PolicyShape(**{**SHAPE.as_dict(), "history": 3})
    large = decisions_of(collect(make_plan(shape=shape), 4 * DECISIONS), 0)[: 4 * DECISIONS]
    overflowed_at_the_end = 0
    for vehicles in (9, 10, 11):
        fragments = collect(make_plan(shape=shape, slot_vehicles=vehicles), 4 * DECISIONS)
        overflowed_at_the_end += sum(fragment.ended and len(fragment) == 1 for fragment in fragments)
        assert_same_decisions(decisions_of(fragments, 0)[: 4 * DECISIONS], large)
    assert overflowed_at_the_end, "the slots are not small enough for this test"


def test_a_slot_too_small_for_one_decision_is_said_with_the_setting_that_helps() -> None:
    with pytest.raises(SharedMemoryError, match="--slot-vehicles"):
        collect(make_plan(slot_vehicles=1, fragment_length=1), DECISIONS)


def test_a_gridlock_ends_an_episode_and_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(simulation={"gridlock": "ends"})
    jammed = plan.place(0).scenario.begin + 50.0  # s
    monkeypatch.setattr(JamWatch, "gridlocked", lambda self, snapshot: snapshot.time >= jammed)
    ended = [fragment for fragment in collect(plan, 12) if fragment.ended]
    assert [(fragment.episode, fragment.first + len(fragment)) for fragment in ended[:2]] == [(0, 5), (1, 5)]
    for fragment in ended:
        assert (fragment.terminated, fragment.truncated) == (False, True)
        assert fragment.summary is not None
        assert (fragment.summary["gridlocked"], fragment.summary["seconds"]) == (1.0, 50.0)
