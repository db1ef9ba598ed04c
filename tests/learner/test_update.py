from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from graph.policy import PolicyShape, SignalPolicy
from learner import checkpoints
from learner.errors import CheckpointError, DivergedError
from learner.losses import actor_critic_loss
from learner.update import Learner
from tests.learner.examples import ALONE, WEIGHTS, make_batch, make_learner, make_policy
from tests.learner.ranks import count_reductions, update
from tests.learner.test_world import on_two_ranks


def by_hand(seeds: list[int], scale: Tensor, clip: float) -> tuple[np.ndarray, float]:
    """Weights after one step of Adam on the mean of these batches' gradients, and the norm of that mean."""
    policy = make_policy()
    gradients = []
    for seed in seeds:
        batch = make_batch(seed)
        fresh = torch.ones(batch.valid.shape[1], dtype=torch.bool)
        total = actor_critic_loss(policy(batch.graph), batch, fresh, scale, WEIGHTS).total
        gradients.append(torch.autograd.grad(total, list(policy.parameters())))
    mean = [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]
    norm = float(torch.cat([part.flatten() for part in mean]).norm())
    for parameter, gradient in zip(policy.parameters(), mean, strict=True):
        parameter.grad = gradient * min(1.0, clip / norm)
    torch.optim.Adam(policy.parameters(), lr=1e-3, eps=1e-5).step()
    return parameters_to_vector(policy.parameters()).detach().numpy(), norm


def reward_size(seed: int) -> float:
    """Mean absolute reward over a horizon of 1 / (1 - 0.9) decisions."""
    batch = make_batch(seed)
    return float(batch.rewards[batch.valid].abs().mean()) * 10.0


@pytest.mark.parametrize("clip", [0.05, 1e9])
def test_one_batch_is_one_step_of_adam(clip: float) -> None:
    learner = make_learner(gradient_clip=clip)
    figures = learner.update([make_batch(0)])
    expected, norm = by_hand([0], torch.tensor(reward_size(0)), clip)
    np.testing.assert_allclose(learner.flat_weights(), expected, atol=1e-5)
    assert figures["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert norm > 0.05
    assert learner.version == 2


def test_accumulating_batches_is_one_step_on_their_mean_gradient() -> None:
    """All batches have rewards of one size, so that the reward scale, which follows them, is the same throughout."""
    batches = [make_batch(seed) for seed in range(3)]
    sizes = [reward_size(seed) for seed in range(3)]
    equal = [
        replace(batch, rewards=batch.rewards * (sizes[0] / size)) for batch, size in zip(batches, sizes, strict=True)
    ]
    learner = make_learner(gradient_clip=1e9)
    figures = learner.update(equal)

    policy = make_policy()
    scale = torch.tensor(sizes[0])
    for batch in equal:
        fresh = torch.ones(batch.valid.shape[1], dtype=torch.bool)
        (actor_critic_loss(policy(batch.graph), batch, fresh, scale, WEIGHTS).total / 3).backward()
    norm = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]).norm()
    torch.optim.Adam(policy.parameters(), lr=1e-3, eps=1e-5).step()
    np.testing.assert_allclose(
        learner.flat_weights(), parameters_to_vector(policy.parameters()).detach().numpy(), atol=1e-5
    )
    assert figures["gradient_norm"] == pytest.approx(float(norm), rel=1e-3)
    assert learner.version == 2


def test_the_reward_scale_makes_units_of_reward_irrelevant() -> None:
    digests = set()
    for unit in (1.0, 1024.0):  # a power of two: exact
        learner = make_learner()
        for seed in range(2):
            batch = make_batch(seed)
            learner.update([replace(batch, rewards=batch.rewards * unit)])
        digests.add(learner.digest())
    assert len(digests) == 1


def test_old_experience_is_measured_and_left_out() -> None:
    learner = Learner(make_policy(), ALONE, WEIGHTS, learning_rate=1e-3, gradient_clip=1.0, max_lag=2)
    learner.version = 10
    before = learner.digest()
    figures = learner.update([make_batch(0, version=7)])
    assert (figures["lag"], figures["lag_max"], figures["stale"]) == (3.0, 3.0, 1.0)
    assert learner.digest() == before
    figures = learner.update([make_batch(0, version=9)])
    assert (figures["lag"], figures["lag_max"], figures["stale"]) == (2.0, 2.0, 0.0)
    assert learner.digest() != before


def test_it_learns_what_pays() -> None:
    """Rewards for one phase of every signal and none for others: that phase becomes the likelier one."""
    batch = make_batch(0, (12, 12, 12))
    chosen = batch.phase_rows - batch.graph.signal_start[batch.signal_rows[:-1]]
    paying = replace(batch, rewards=torch.where(chosen == 0, 0.0, -1.0), terminated=torch.ones_like(batch.terminated))
    learner = Learner(make_policy(), ALONE, WEIGHTS, learning_rate=1e-2, gradient_clip=1.0)

    def share() -> float:
        with torch.no_grad():
            log_probs, _ = learner.policy(batch.graph)
        return float(log_probs[batch.graph.signal_start].exp().mean())

    before = share()
    for _ in range(30):
        learner.version = 1  # the batch is never too old
        learner.update([paying])
    assert share() > before + 0.05


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_learns(amp: str) -> None:
    learner = make_learner(amp=amp)
    before = learner.flat_weights()
    # fp16 begins with a loss scale that is too large on purpose, and skips steps until it has come down.
    for _ in range(20):
        learner.update([make_batch(0), make_batch(1)])
    after = learner.flat_weights()
    assert np.isfinite(after).all()
    assert after.dtype == np.float32
    assert (after != before).mean() > 0.5


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_restored_it_goes_on_to_the_bit(tmp_path: Path, amp: str) -> None:
    learner = make_learner(amp=amp)
    for seed in range(3):
        learner.update([make_batch(seed)])
    path = checkpoints.save(tmp_path, 1, learner.state(), keep=1)
    resumed = Learner(make_policy(seed=9), ALONE, WEIGHTS, learning_rate=1e-3, gradient_clip=1.0, amp=amp)
    resumed.restore(checkpoints.load(path))
    assert resumed.version == learner.version == 4
    assert resumed.digest() == learner.digest()
    for seed in range(3, 6):
        assert resumed.update([make_batch(seed)]) == learner.update([make_batch(seed)])
    assert resumed.digest() == learner.digest()


@pytest.mark.parametrize(("saved", "resumed"), [("off", "fp16"), ("fp16", "off"), ("fp16", "bf16")])
def test_precision_may_change_between_starts(saved: str, resumed: str) -> None:
    learner = make_learner(amp=saved)
    learner.update([make_batch(0)])
    other = make_learner(amp=resumed)
    other.restore(learner.state())
    assert other.digest() == learner.digest()
    assert np.isfinite(other.update([make_batch(1)])["loss"])


def test_learning_rate_is_the_one_asked_for_also_after_restoring() -> None:
    learner = make_learner()
    learner.update([make_batch(0)])
    frozen = Learner(make_policy(), ALONE, WEIGHTS, learning_rate=0.0, gradient_clip=1.0)
    frozen.restore(learner.state())
    frozen.update([make_batch(1)])
    assert frozen.digest() == learner.digest()


def test_another_shape_is_refused() -> None:
    wide = Learner(SignalPolicy(PolicyShape(hidden=24)), ALONE, WEIGHTS, learning_rate=1e-3, gradient_clip=1.0)
    before = wide.digest()
    with pytest.raises(CheckpointError, match="another shape"):
        wide.restore(make_learner().state())
    assert wide.digest() == before


def test_two_ranks_learn_as_one() -> None:
    results: list[dict[str, Any]] = on_two_ranks(update)
    assert results[0]["digest"] == results[1]["digest"]
    np.testing.assert_array_equal(results[0]["weights"], results[1]["weights"])
    scale = torch.tensor((reward_size(0) + reward_size(1)) / 2)
    expected, norm = by_hand([0, 1], scale, clip=1e9)
    np.testing.assert_allclose(results[0]["weights"], expected, atol=1e-5)
    assert [result["norm"] for result in results] == pytest.approx([norm, norm], rel=1e-3)


def test_gradients_travel_once_per_step_however_many_batches() -> None:
    for counts in on_two_ranks(count_reductions):
        # The first step may still use other buckets than the later ones: DDP sorts them by the order of arrival.
        assert counts[0] >= 1
        assert counts[1] == counts[2] == 1


def test_a_step_that_is_no_number_is_left_out_and_many_are_the_end() -> None:
    learner = make_learner()
    before = learner.flat_weights()
    broken = replace(make_batch(0), rewards=torch.full_like(make_batch(0).rewards, torch.nan))
    assert learner.update([broken])["skipped"] == 1.0
    np.testing.assert_array_equal(learner.flat_weights(), before)
    for _ in range(48):
        learner.version = 1  # or the batch would soon be too old to count
        learner.update([broken])
    learner.version = 1
    with pytest.raises(DivergedError, match="--learning-rate"):
        learner.update([broken])
