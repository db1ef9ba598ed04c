from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from graph.batch import Batch
from graph.schema import ALLOWED
from learner.losses import LossSettings, actor_critic_loss, masked_mean, normalised, variance
from tests.learner.examples import make_batch, make_policy

LOSS = LossSettings(discount=0.9, value=0.7, exploration=0.05, rho_clip=1.2, c_clip=0.8, trace=0.9, ratio_clip=0.3)
SCALE = torch.tensor(3.0)


def outputs_of(batch: Batch, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities and values with a wide spread; -inf where a phase may not be chosen."""
    torch.manual_seed(seed)
    with torch.no_grad():
        log_probs, values = make_policy()(batch.graph)
    scores = torch.where(log_probs.isinf(), log_probs, torch.randn(len(log_probs)))
    for signal in range(len(values)):
        own = batch.graph.phase_signal == signal
        log_probs[own] = torch.log_softmax(scores[own], 0)
    return log_probs.requires_grad_(), torch.randn(len(values)).requires_grad_()


def slow_loss(outputs: tuple[Tensor, Tensor], batch: Batch, fresh: list[bool]) -> dict[str, float]:
    """The same agent by agent, decision by decision, in floats."""
    log_probs, values = (output.tolist() for output in outputs)
    advantages, ratios, errors, entropies, barriers, rewards = [], [], [], [], [], []
    known = batch.rewards[batch.valid & torch.tensor(fresh)]
    largest = float(known.abs().max() / SCALE) / (1 - LOSS.discount)
    for a in range(batch.valid.shape[1]):
        length = int(batch.valid[:, a].sum())
        if not fresh[a]:
            continue
        raw = [values[int(batch.signal_rows[t, a])] for t in range(length + 1)]
        v = [min(max(value, -largest), largest) for value in raw]
        r = [float(batch.rewards[t, a]) / float(SCALE) for t in range(length)]
        log_pi = [log_probs[int(batch.phase_rows[t, a])] for t in range(length)]
        rho = [math.exp(log_pi[t] - float(batch.log_probs[t, a])) for t in range(length)]
        gamma = [0.0 if batch.terminated[t, a] else LOSS.discount for t in range(length)]
        target = [*v]
        for s in range(length):
            trace = 1.0
            for t in range(s, length):
                target[s] += trace * min(LOSS.rho_clip, rho[t]) * (r[t] + gamma[t] * v[t + 1] - v[t])
                trace *= gamma[t] * LOSS.trace * min(LOSS.c_clip, rho[t])
        for t in range(length):
            advantages.append(r[t] + gamma[t] * target[t + 1] - v[t])
            ratios.append(rho[t])
            error = abs(raw[t] - target[t])
            errors.append(0.5 * error**2 if error < 1 else error - 0.5)
            own = torch.nonzero(batch.graph.phase_signal == batch.signal_rows[t, a]).flatten().tolist()
            logs = [log_probs[p] for p in own if log_probs[p] > -math.inf]
            entropies.append(-sum(math.exp(log) * log for log in logs))
            barriers.append(sum(logs) / len(logs))
            rewards.append(r[t])
    count = len(advantages)
    mean = sum(advantages) / count
    deviation = math.sqrt(sum((x - mean) ** 2 for x in advantages) / count)
    low, high = 1 - LOSS.ratio_clip, 1 + LOSS.ratio_clip
    weighed = [((x - mean) / deviation, ratio) for x, ratio in zip(advantages, ratios, strict=True)]
    policy_loss = -sum(min(x * ratio, x * min(max(ratio, low), high)) for x, ratio in weighed) / count
    value_loss = sum(errors) / count
    return {
        "total": policy_loss + LOSS.value * value_loss - LOSS.exploration * sum(barriers) / count,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": sum(entropies) / count,
        "reward": sum(rewards) / count * float(SCALE),
    }


def all_fresh(batch: Batch) -> Tensor:
    return torch.ones(batch.valid.shape[1], dtype=torch.bool)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stale", [(), (0, 4, 8)])
@pytest.mark.parametrize("size", [1.0, 1e3], ids=["values near returns", "values beyond any return"])
def test_against_a_loop(seed: int, stale: tuple[int, ...], size: float) -> None:
    batch = make_batch(seed, (5, 2, 7))
    log_probs, values = outputs_of(batch, seed)
    outputs = (log_probs, size * values)
    fresh = all_fresh(batch)
    fresh[list(stale)] = False
    loss = actor_critic_loss(outputs, batch, fresh, SCALE, LOSS)
    expected = slow_loss(outputs, batch, fresh.tolist())
    assert loss.total.item() == pytest.approx(expected.pop("total"), rel=1e-4, abs=1e-5)
    for name, value in expected.items():
        assert loss.figures[name].item() == pytest.approx(value, rel=1e-4, abs=1e-5), name


def gradients(batch: Batch, fresh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients by log-probabilities and values."""
    outputs = outputs_of(batch)
    loss = actor_critic_loss(outputs, batch, fresh, SCALE, LOSS)
    loss.total.backward()
    assert all(torch.isfinite(figure) for figure in loss.figures.values())
    assert outputs[0].grad is not None
    assert outputs[1].grad is not None
    return loss.total.detach(), outputs[0].grad, outputs[1].grad


def assert_equal(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


def test_padding_has_no_influence() -> None:
    batch = make_batch(0, (6, 1, 3))
    forbidden = int(torch.nonzero(batch.graph.phases[:, ALLOWED] < 0.5)[0])
    garbage = replace(
        batch,
        log_probs=torch.where(batch.valid, batch.log_probs, torch.nan),
        rewards=torch.where(batch.valid, batch.rewards, torch.nan),
        costs=torch.where(batch.valid, batch.costs, torch.nan),
        terminated=batch.terminated | ~batch.valid,
        phase_rows=torch.where(batch.valid, batch.phase_rows, forbidden),
    )
    assert not batch.valid.all()
    assert_equal(gradients(garbage, all_fresh(batch)), gradients(batch, all_fresh(batch)))


def test_stale_columns_count_nothing() -> None:
    batch = make_batch(1, (4, 4, 4))
    fresh = all_fresh(batch)
    fresh[:4] = False
    changed = replace(
        batch,
        rewards=torch.where(fresh, batch.rewards, 1e6),
        log_probs=torch.where(fresh, batch.log_probs, -50.0),
    )
    assert_equal(gradients(changed, fresh), gradients(batch, fresh))
    assert not torch.equal(gradients(batch, fresh)[0], gradients(batch, all_fresh(batch))[0])


def test_nothing_fresh_is_no_loss_and_no_gradient() -> None:
    batch = make_batch(2)
    total, by_log_probs, by_values = gradients(batch, ~all_fresh(batch))
    assert total == 0
    assert not by_log_probs.any()
    assert not by_values.any()


def test_gradient_takes_targets_and_advantages_as_given() -> None:
    """A decision after which the episode ended: nothing but its own value is pulled towards the reward."""
    batch = make_batch(3, (1, 1))
    log_probs, values = outputs_of(batch)
    settings = replace(LOSS, exploration=0.0, value=1.0)
    loss = actor_critic_loss((log_probs.detach(), values), batch, all_fresh(batch), SCALE, settings)
    (gradient,) = torch.autograd.grad(loss.total, values)
    decided = set(batch.signal_rows[0].tolist())
    assert {int(row) for row in torch.nonzero(gradient)} <= decided


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_values_beyond_any_return_are_pulled_back_each_as_hard(far: float) -> None:
    """However far off they are, the policy's share of the gradient stays."""
    batch = make_batch(4, (6, 3))
    log_probs, values = outputs_of(batch)
    values = torch.full_like(values, far).requires_grad_()
    loss = actor_critic_loss((log_probs.detach(), values), batch, all_fresh(batch), SCALE, LOSS)
    (gradient,) = torch.autograd.grad(loss.total, values)
    expected = torch.zeros_like(values)
    expected[batch.signal_rows[:-1][batch.valid]] = math.copysign(LOSS.value / int(batch.valid.sum()), far)
    torch.testing.assert_close(gradient, expected)


def test_helpers() -> None:
    values = torch.tensor([[1.0, 5.0], [torch.nan, 3.0]])
    counts = torch.tensor([[True, True], [False, True]])
    assert masked_mean(values, counts) == 3.0
    assert variance(values, counts).item() == pytest.approx(8 / 3)
    result = normalised(values, counts)[counts]
    assert result.mean().abs() < 1e-6
    assert result.std(unbiased=False).item() == pytest.approx(1.0)
    assert masked_mean(values, torch.zeros_like(counts)) == 0.0
    assert torch.isfinite(normalised(torch.ones(3, 2), torch.ones(3, 2, dtype=torch.bool))).all()
