from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from graph.batch import Batch
from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from learner import checkpoints
from learner.checkpoints import digest
from learner.errors import CheckpointError, DivergedError, OutOfMemoryError, RankLostError
from learner.losses import actor_critic_loss
from learner.update import Learner, ran_out_of_memory
from tests.learner.examples import ALONE, LOSS, make_batch, make_learner, make_policy
from tests.learner.ranks import count_reductions, find_no_room_at_all, update, update_short_of_memory
from tests.learner.shortage import CPU, failing
from tests.learner.test_world import on_two_ranks


def by_hand(seeds: list[int], scale: Tensor, clip: float) -> tuple[np.ndarray, float]:
    """Weights after one step of Adam on the mean of these batches' gradients, and the norm of that mean."""
    policy = make_policy()
    gradients = []
    for seed in seeds:
        batch = make_batch(seed)
        fresh = torch.ones(batch.valid.shape[1], dtype=torch.bool)
        total = actor_critic_loss(policy(batch.graph), batch, fresh, scale, LOSS).total
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
        (actor_critic_loss(policy(batch.graph), batch, fresh, scale, LOSS).total / 3).backward()
    norm = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]).norm()
    torch.optim.Adam(policy.parameters(), lr=1e-3, eps=1e-5).step()
    np.testing.assert_allclose(
        learner.flat_weights(), parameters_to_vector(policy.parameters()).detach().numpy(), atol=1e-5
    )
    assert figures["gradient_norm"] == pytest.approx(float(norm), rel=1e-3)
    assert learner.version == 2


def test_an_update_that_uses_experience_again_is_as_many_steps_and_one_version() -> None:
    again, anew = make_learner(reuse=3, replay=1), make_learner()
    figures = again.update([make_batch(0)])
    first = anew.update([make_batch(0)])
    for _ in range(2):
        anew.update([make_batch(0)])
    assert again.digest() == anew.digest()
    assert figures == first
    assert (again.version, anew.version) == (2, 4)


def test_what_is_used_again_is_one_of_the_latest_updates_experience(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [make_batch(seed) for seed in range(4)]
    seen: list[int] = []

    def spy(self: Learner, waiting: Sequence[Batch]) -> dict[str, float]:
        seen.append(next(number for number, batch in enumerate(batches) if batch is waiting[0]))
        return {}

    monkeypatch.setattr(Learner, "_step", spy)
    learner = make_learner(reuse=5, replay=2)
    for batch in batches:
        learner.update([batch])
    assert seen[::5] == [0, 1, 2, 3], "new experience comes first"
    used = [seen[5 * number : 5 * number + 5] for number in range(4)]
    for number, own in enumerate(used):
        assert set(own) <= {number, max(0, number - 1)}
    assert any(number - 1 in own for number, own in enumerate(used)), "nothing is used again"


def test_what_is_forgotten_is_not_used_again() -> None:
    forgetful, anew = make_learner(reuse=2, replay=4), make_learner()
    forgetful.update([make_batch(0)])
    forgetful.forget_experience()
    forgetful.update([make_batch(1)])
    for seed in (0, 0, 1, 1):
        anew.update([make_batch(seed)])
    assert forgetful.digest() == anew.digest()


def test_nothing_is_kept_where_nothing_is_used_again() -> None:
    learner, batch = make_learner(reuse=1, replay=4), make_batch(0)
    learner.update([batch])
    kept = weakref.ref(batch.rewards)
    del batch
    learner.update([make_batch(1)])
    assert kept() is None


def test_the_average_follows_the_weights_of_all_steps_at_first_and_of_the_latest_ones_then() -> None:
    learner = make_learner(averaging=0.75)
    seen, expected = [], np.zeros(0)
    for number in range(1, 8):
        learner.update([make_batch(number)])
        seen.append(learner.flat_weights().astype(np.float64))
        expected = np.mean(seen, axis=0) if number <= 4 else 0.75 * expected + 0.25 * seen[-1]
        average = parameters_to_vector(learner.average.parameters()).numpy()
        np.testing.assert_allclose(average, expected, atol=1e-6)
    assert not np.allclose(average, seen[-1], atol=1e-4)


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
    learner = Learner(make_policy(), ALONE, LOSS, learning_rate=1e-3, gradient_clip=1.0, max_lag=2)
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
    learner = Learner(make_policy(), ALONE, LOSS, learning_rate=1e-2, gradient_clip=1.0)

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
    learner = make_learner(amp=amp, averaging=0.9)
    for seed in range(3):
        learner.update([make_batch(seed)])
    path = checkpoints.save(tmp_path, 1, learner.state(), keep=1)
    resumed = Learner(make_policy(seed=9), ALONE, LOSS, learning_rate=1e-3, gradient_clip=1.0, amp=amp, averaging=0.9)
    resumed.restore(checkpoints.load(path))
    assert resumed.version == learner.version == 4
    assert resumed.digest() == learner.digest()
    average = digest(learner.average.state_dict())
    assert digest(resumed.average.state_dict()) == average != learner.digest()
    for seed in range(3, 6):
        assert resumed.update([make_batch(seed)]) == learner.update([make_batch(seed)])
    assert resumed.digest() == learner.digest()
    assert digest(resumed.average.state_dict()) == digest(learner.average.state_dict())


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
    frozen = Learner(make_policy(), ALONE, LOSS, learning_rate=0.0, gradient_clip=1.0)
    frozen.restore(learner.state())
    frozen.update([make_batch(1)])
    assert frozen.digest() == learner.digest()


def test_another_shape_is_refused() -> None:
    wide = Learner(SignalPolicy(PolicyShape(hidden=24)), ALONE, LOSS, learning_rate=1e-3, gradient_clip=1.0)
    before = wide.digest()
    with pytest.raises(CheckpointError, match="another shape"):
        wide.restore(make_learner().state())
    assert wide.digest() == before


def test_what_was_trained_on_other_features_is_refused() -> None:
    learner, state = make_learner(), make_learner().state()
    before = learner.digest()
    for columns in (state["columns"][::-1], state["columns"][1:], None):
        with pytest.raises(CheckpointError, match="another version of this program, whose policies see other features"):
            learner.restore({**state, "columns": columns})
    assert learner.digest() == before


def test_two_ranks_learn_as_one() -> None:
    results: list[dict[str, Any]] = on_two_ranks(update)
    assert results[0]["digest"] == results[1]["digest"]
    np.testing.assert_array_equal(results[0]["weights"], results[1]["weights"])
    scale = torch.tensor((reward_size(0) + reward_size(1)) / 2)
    expected, norm = by_hand([0, 1], scale, clip=1e9)
    np.testing.assert_allclose(results[0]["weights"], expected, atol=1e-5)
    assert [result["norm"] for result in results] == pytest.approx([norm, norm], rel=1e-3)


def steps(amp: str, where: str = "", calls: tuple[int, ...] = (), error: Exception = CPU) -> dict[str, Any]:
    """Two steps on three batches each, with memory running out in these calls of the first; what came of them."""
    learner = make_learner(amp=amp, gradient_clip=1e9)
    with failing(learner.policy, where, calls, error):
        figures = learner.update([make_batch(seed, (4, 6, 1, 3)) for seed in range(3)])
    again = learner.update([make_batch(seed, (4, 6, 1, 3)) for seed in range(3, 6)])
    return {**figures, "again": again["parts"], "weights": learner.flat_weights(), "scale": learner.state()["scaler"]}


@pytest.mark.parametrize(
    ("where", "calls", "parts"),
    [("forward", (1,), 2.0), ("backward", (1,), 2.0), ("backward", (3,), 2.0), ("backward", (2, 5), 4.0)],
)
@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_step_that_does_not_fit_is_the_same_in_parts(
    amp: str, where: str, calls: tuple[int, ...], parts: float
) -> None:
    whole, divided = steps(amp), steps(amp, where, calls)
    assert (whole.pop("parts"), whole.pop("again")) == (1.0, 1.0)
    assert (divided.pop("parts"), divided.pop("again")) == (parts, parts), "the next step begins with as many parts"
    np.testing.assert_allclose(divided.pop("weights"), whole.pop("weights"), atol=1e-5 if amp == "off" else 1e-3)
    assert divided.pop("scale") == whole.pop("scale")
    assert divided == pytest.approx(whole, rel=1e-5 if amp == "off" else 1e-2, abs=1e-6)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_runs_out_in_many_words(error: Exception) -> None:
    assert steps("off", "forward", (2,), error)["parts"] == 2.0


def test_what_has_nothing_to_do_with_memory_is_not_tried_again() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        steps("off", "forward", (1,), RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_where_a_single_fragment_does_not_fit_it_says_what_would_help() -> None:
    with pytest.raises(OutOfMemoryError, match=r"^a single fragment .*--fragment-length.*--hidden.*--amp") as error:
        steps("off", "forward", range(1, 100))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_with_half_of_the_memory_it_learns_the_same(tmp_path: Path) -> None:
    """Real memory, in processes of their own; what they need is measured first."""

    def learn(need: int, share: float, path: Path) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.learner.shortage", str(need), str(share), str(path)]
        root = Path(__file__).parents[2]
        return json.loads(subprocess.run(command, cwd=root, timeout=60, check=True, capture_output=True).stdout)

    enough = learn(0, 0, tmp_path / "enough.npy")
    assert enough["parts"] == [1.0, 1.0, 1.0]
    half = learn(enough["need"], 0.6, tmp_path / "half.npy")
    assert half["parts"][-1] > 1.0
    assert half["need"] < 0.7 * enough["need"]
    # A fifth of what one step may change: Adam makes much of rounding where a gradient is next to nothing.
    np.testing.assert_allclose(np.load(tmp_path / "half.npy"), np.load(tmp_path / "enough.npy"), atol=2e-4)


def test_a_rank_that_is_short_of_memory_learns_as_one_with_the_others() -> None:
    plenty, short = on_two_ranks(update), on_two_ranks(update_short_of_memory)
    assert [result["parts"] for result in short] == [(1.0, 1.0), (2.0, 3.0)]
    assert short[0]["digest"] == short[1]["digest"]
    np.testing.assert_allclose(short[0]["weights"], plenty[0]["weights"], atol=1e-5)
    assert short[0]["norm"] == pytest.approx(plenty[0]["norm"], rel=1e-5)


def test_no_rank_waits_for_one_that_has_no_room_at_all() -> None:
    waiting, failed = on_two_ranks(find_no_room_at_all)
    assert waiting.startswith("RankLostError: another rank has ended or has not answered within 30 s: ")
    assert failed.startswith("OutOfMemoryError: a single fragment does not fit into memory")
    assert "--batch-fragments" in failed


def test_gradients_travel_once_per_step_however_many_batches() -> None:
    assert on_two_ranks(count_reductions) == [[1, 1, 1], [1, 1, 1]]


def test_a_run_that_diverged_can_be_gone_on_with() -> None:
    """Its scaler has halved its scale at every step, until gradients in fp16 would all be zero."""
    learner = make_learner(amp="fp16")
    learner.update([make_batch(0)])
    state = learner.state()
    state["scaler"]["scale"] = 5.8e-11
    resumed = make_learner(amp="fp16")
    resumed.restore(state)
    assert resumed.update([make_batch(1)])["gradient_norm"] > 1e-3
    assert resumed.digest() != learner.digest()


def test_another_rank_short_of_memory_is_no_reason_to_try_again() -> None:
    assert not ran_out_of_memory(RankLostError("another rank has ended: CUDA out of memory"))


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
