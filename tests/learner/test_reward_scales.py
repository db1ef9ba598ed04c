"""The scale of rewards on each map, against a slow loop over single rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graph.batch import Batch
from learner import checkpoints
from learner.losses import actor_critic_loss
from learner.reward_scales import RewardScales
from tests.learner.examples import ALONE, LOSS, make_learner, make_mixed_batch, make_policy
from tests.learner.ranks import MAPS_OF_RANKS, learn_on_two_maps
from tests.learner.test_world import on_two_ranks

DISCOUNT = LOSS.discount
NAMES = ("one", "other")


def slow_scales(steps: Sequence[Sequence[Batch]]) -> list[list[float]]:
    """The scales after each step, on batches that several ranks have at once; reward by reward, in floats."""
    scales, after = [0.0, 0.0], []
    for batches in steps:
        sizes: list[list[float]] = [[], []]
        for batch in batches:
            for t, a in torch.nonzero(batch.valid).tolist():
                sizes[int(batch.maps[a])].append(abs(float(batch.rewards[t, a])))
        for number, found in enumerate(sizes):
            if found:
                size = max(sum(found) / len(found) / (1 - DISCOUNT), 1e-3)
                scales[number] = size if scales[number] == 0 else 0.99 * scales[number] + 0.01 * size
        after.append(list(scales))
    return after


def test_each_map_has_its_own_scale_and_one_that_is_absent_keeps_it() -> None:
    batches = [make_mixed_batch(seed, maps) for seed, maps in enumerate([(0, 0), (0, 1, 1), (1,), (1, 0)])]
    scales = RewardScales(NAMES, ALONE, DISCOUNT)
    found = torch.cat([scales.follow(batches[:2]), scales.follow(batches[2:])])
    expected = slow_scales([[batch] for batch in batches])
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=0.0)
    assert found[0, 1] == 0
    assert found[1, 1] > 100 * found[1, 0]
    assert scales.state() == dict(zip(NAMES, found[-1].tolist(), strict=True))


def test_what_is_no_number_leaves_the_scale_of_its_map_and_no_other() -> None:
    scales = RewardScales(NAMES, ALONE, DISCOUNT)
    (before,) = scales.follow([make_mixed_batch(0)])
    batch = make_mixed_batch(1)
    (after,) = scales.follow([replace(batch, rewards=torch.where(batch.maps == 0, torch.nan, batch.rewards))])
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_loss_divides_every_reward_by_the_scale_of_its_map() -> None:
    batch, policy = make_mixed_batch(3), make_policy()
    fresh = torch.ones(batch.valid.shape[1], dtype=torch.bool)
    scales = torch.tensor([4.0, 512.0])
    by_map = actor_critic_loss(policy(batch.graph), batch, fresh, scales[batch.maps], LOSS)
    divided = batch.rewards.clone()
    for a, number in enumerate(batch.maps.tolist()):
        divided[:, a] /= (4.0, 512.0)[number]
    by_hand = actor_critic_loss(policy(batch.graph), replace(batch, rewards=divided), fresh, torch.tensor(1.0), LOSS)
    assert torch.equal(by_map.total, by_hand.total)


def test_units_of_reward_are_irrelevant_map_by_map() -> None:
    digests = set()
    for unit in (1.0, 1024.0):  # a power of two: exact
        learner = make_learner(maps=NAMES)
        for seed in range(2):
            learner.update([make_mixed_batch(seed, unit=unit)])
        digests.add(learner.digest())
    assert len(digests) == 1


def test_two_ranks_that_meet_other_maps_have_the_same_scales_and_weights() -> None:
    results = on_two_ranks(learn_on_two_maps)
    assert results[0] == results[1]
    of_ranks = [
        [make_mixed_batch(10 * rank + i, maps) for i, maps in enumerate(MAPS_OF_RANKS[rank])] for rank in (0, 1)
    ]
    for found, expected in zip(results[0]["scales"], slow_scales(list(zip(*of_ranks, strict=True))), strict=True):
        assert [found[name] for name in NAMES] == pytest.approx(expected, rel=1e-5)


def test_a_run_goes_on_with_other_maps_and_comes_back_to_those_that_it_left(tmp_path: Path) -> None:
    learner = make_learner(maps=NAMES)
    learner.update([make_mixed_batch(0)])
    state = checkpoints.load(checkpoints.save(tmp_path, 1, learner.state(), keep=1))
    assert set(state["reward_scales"]) == set(NAMES)

    other = make_learner(maps=("new", "one"))
    other.restore(state)
    assert other.state()["reward_scales"] == state["reward_scales"], "a map that was not met has a scale"
    other.update([make_mixed_batch(1)])  # its first map is new, its second is "one"
    scales = other.state()["reward_scales"]
    assert scales["other"] == state["reward_scales"]["other"]
    assert scales["one"] != state["reward_scales"]["one"]
    assert set(scales) == {"new", *NAMES}

    back = make_learner(maps=NAMES)
    back.restore(other.state())
    assert back.state()["reward_scales"] == scales
