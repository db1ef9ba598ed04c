"""The actor–critic loss of one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graph.batch import Batch
from graph.policy import entropy_by, mean_log_prob_by
from learner.reward_scales import horizon
from learner.vtrace import vtrace

_MAX_LOG_RATIO = 20.0  # any larger one is clipped as well, and its gradient is a number


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What the loss is made of; ``value`` and ``exploration`` weigh its parts. See the flags of the same names."""

    discount: float
    value: float
    exploration: float
    rho_clip: float
    c_clip: float
    trace: float
    ratio_clip: float


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss to be differentiated, and numbers to be looked at (means over decisions that count)."""

    total: Tensor
    figures: dict[str, Tensor]


def actor_critic_loss(
    outputs: tuple[Tensor, Tensor], batch: Batch, fresh: Tensor, reward_scale: Tensor, settings: LossSettings
) -> Loss:
    """Clipped surrogate with V-trace advantages, value regression and a log barrier, each a mean over decisions.

    The surrogate is that of PPO (Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equation 7): nothing
    is to be gained by a policy that has moved further than ``ratio_clip`` away from the one that acted, so that a batch
    can be learned from several times. Values are regressed by Huber's loss (1964, "Robust estimation of a location
    parameter"): in a jam they are off by far, and would leave nothing of a clipped gradient to the policy.

    The log barrier of Agarwal et al. (2021, "On the Theory of Policy Gradient Methods") pulls at every phase alike,
    however unlikely it has become. The entropy's pull ends with the probability: a phase that is right in few places
    would be given up everywhere before these have been met.

    ``outputs``: log-probabilities [P] and values [S] of the policy, float32; ``fresh`` bool [A]: columns that are not
    too old to learn from; ``reward_scale`` [A], or one for all: what rewards are divided by, so that values stay near
    one on any map.
    """
    all_log_probs, all_values = outputs
    log_probs = all_log_probs[batch.phase_rows]  # [T, A]
    values = all_values[batch.signal_rows]  # [T + 1, A]
    counts = batch.valid & fresh
    # Padding points at some phase that perhaps may not be chosen; its -inf must not reach the sums.
    log_probs = torch.where(counts, log_probs, 0.0)
    log_rhos = torch.where(counts, log_probs - batch.log_probs, 0.0)
    rewards = torch.where(counts, batch.rewards / reward_scale, 0.0)
    # Values are believed up to what the largest reward of the batch would be worth if it came for ever. Where queues
    # grow by more than 1 / discount per decision, each value is drawn to a larger one, and they would without end.
    largest = rewards.abs().amax() * horizon(settings.discount)
    clipped_values = values.detach().clamp(-largest, largest)
    traced = vtrace(
        log_rhos.detach(),
        settings.discount * (~batch.terminated).float(),
        rewards,
        clipped_values[:-1],
        clipped_values[1:],
        counts,
        rho_clip=settings.rho_clip,
        c_clip=settings.c_clip,
        lambda_=settings.trace,
    )
    advantages = normalised(traced.advantages, counts)
    by_signal = (batch.graph.phase_signal, len(batch.graph.signal_start))
    ratios = log_rhos.clamp(max=_MAX_LOG_RATIO).exp()
    policy_loss = -masked_mean(surrogate(advantages, ratios, settings.ratio_clip), counts)
    value_loss = masked_mean(functional.huber_loss(values[:-1], traced.targets, reduction="none"), counts)
    barrier = masked_mean(mean_log_prob_by(all_log_probs, *by_signal)[batch.signal_rows[:-1]], counts)
    total = policy_loss + settings.value * value_loss - settings.exploration * barrier
    with torch.no_grad():
        entropies = entropy_by(all_log_probs, *by_signal)
        figures = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": masked_mean(entropies[batch.signal_rows[:-1]], counts),
            "value": masked_mean(values[:-1], counts),
            "explained": 1.0 - variance(traced.targets - values[:-1], counts) / variance(traced.targets, counts),
            "clipped": masked_mean((log_rhos.abs() > math.log1p(settings.ratio_clip)).float(), counts),
            "reward": masked_mean(batch.rewards, counts),
            "cost": masked_mean(batch.costs, counts),
        }
    return Loss(total, {name: figure.detach() for name, figure in figures.items()})


def surrogate(advantages: Tensor, ratios: Tensor, clip: float) -> Tensor:
    """What each decision is worth to a policy that makes it ``ratios`` times as often as the one that acted."""
    return torch.minimum(advantages * ratios, advantages * ratios.clamp(1.0 - clip, 1.0 + clip))


def masked_mean(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of the values that count; 0 where none does."""
    return torch.where(counts, values, 0.0).sum() / counts.sum().clamp(min=1)


def variance(values: Tensor, counts: Tensor) -> Tensor:
    """Variance of the values that count, at least 1e-8."""
    return masked_mean((values - masked_mean(values, counts)).square(), counts).clamp(min=1e-8)


def normalised(advantages: Tensor, counts: Tensor) -> Tensor:
    """Advantages shifted and scaled to mean 0 and standard deviation 1 over those that count."""
    return (advantages - masked_mean(advantages, counts)) / variance(advantages, counts).sqrt()
