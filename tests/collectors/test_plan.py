"""The plan: seeds that never meet, env numbers across ranks, slots that are large enough."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from buffers.layout import Layout
from buffers.shared import SharedMemory
from collectors.plan import CollectionPlan
from tests.support.plans import arterial, make_plan, single


def rows(plan: CollectionPlan) -> int:
    """Vehicles that a slot of this plan has room for, all frames together."""
    layout: Layout
    (layout,) = plan.layouts()
    return len(layout.views(SharedMemory(layout.size), 0)["lanes"])


def test_every_episode_of_every_env_of_every_seed_has_its_own_seed() -> None:
    found = [
        make_plan(seed=seed).seeds(env, episode)[0] for seed in range(5) for env in range(20) for episode in range(50)
    ]
    assert len(set(found)) > 0.999 * len(found), "seeds collide more often than chance would have it"
    assert min(found) >= 2**16, "a seed that is kept for evaluation"
    assert max(found) < 2**31, "SUMO's seeds are 32-bit integers with a sign"


def test_seeds_and_exploration_depend_on_nothing_else() -> None:
    one, other = make_plan(fragment_length=4), make_plan(slot_vehicles=10)
    seed, generator = one.seeds(2, 7)
    again, same = other.seeds(2, 7)
    assert seed == again
    assert generator.random(10).tolist() == same.random(10).tolist()
    _, another = one.seeds(2, 8)
    assert generator.random(10).tolist() != another.random(10).tolist()


def test_ranks_number_their_envs_apart() -> None:
    ranks = [make_plan(first_env=rank, env_stride=3) for rank in range(3)]
    numbers = [plan.env_number(env) for plan in ranks for env in range(4)]
    assert sorted(numbers) == list(range(12))
    assert len({plan.seeds(env, 0)[0] for plan in ranks for env in range(4)}) == 12


def test_a_slot_has_room_for_two_frames_of_a_jam() -> None:
    plan = make_plan(fragment_length=1)
    assert rows(plan) >= 2 * plan.places[0].network.jam_capacity


@pytest.mark.parametrize(("length", "vehicles"), [(1, 10), (16, 10), (16, 200)])
def test_slot_vehicles_is_what_a_frame_has_room_for(length: int, vehicles: int) -> None:
    assert rows(make_plan(fragment_length=length, slot_vehicles=vehicles)) == (length + 1) * vehicles


def test_a_plan_travels_to_another_process() -> None:
    plan = make_plan(slot_vehicles=10)
    copy: CollectionPlan = pickle.loads(pickle.dumps(plan))  # noqa: S301 - our own bytes
    assert copy.seeds(1, 1)[0] == plan.seeds(1, 1)[0]
    assert copy.layouts()[0].size == plan.layouts()[0].size
    assert np.array_equal(copy.place(0).network.lane_length, plan.place(0).network.lane_length)


@pytest.mark.parametrize(("ranks", "envs"), [(1, 4), (2, 2), (3, 5)])
def test_envs_of_all_ranks_are_dealt_to_the_places_in_turn(ranks: int, envs: int) -> None:
    places = (single(), arterial())
    dealt = {}
    for rank in range(ranks):
        plan = make_plan(places=places, first_env=rank, env_stride=ranks)
        for env in range(envs):
            dealt[plan.env_number(env)] = plan.map_of(env)
            assert plan.place(env) is places[plan.map_of(env)]
            layout = plan.layouts()[env % len(places)]
            views = layout.views(SharedMemory(layout.size), 0)
            assert views["shown"].shape[1] == len(plan.place(env).network.signals)
            assert views["allowed"].shape[1] == plan.place(env).network.num_phases
    assert [dealt[number] for number in range(ranks * envs)] == [number % 2 for number in range(ranks * envs)]
