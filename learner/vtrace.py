"""V-trace: off-policy corrected value targets and policy-gradient advantages.

Espeholt et al. 2018, "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner Architectures",
equation 1 and section 4.1. Everything is time-major: [T, A], T decisions of A agents (any trailing shape will do).

The paper sums over products of the traces c_i. The same numbers come out of one backward pass over the correction
v_s - V(x_s), here `excess`:

    excess_s = delta_s + discount_s * c_s * excess_{s+1},    delta_s = rho_s * (r_s + discount_s * V(x_{s+1}) - V(x_s))

Columns may end at different rows. V(x_{s+1}) is therefore given for every row, with the bootstrap value in each
column's own last row, and the excess is zero wherever `valid` is not set; no other case has to be told apart.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """What V-trace gives to the losses; both [T, A] and cut off from the gradient."""

    targets: Tensor  # v_s, what the value function should have said
    advantages: Tensor  # r_s + discount_s * v_{s+1} - V(x_s), how much better the choice was than expected


@torch.no_grad()
def vtrace(
    log_rhos: Tensor,
    discounts: Tensor,
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    valid: Tensor | None = None,
    *,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    lambda_: float = 1.0,
) -> VTrace:
    """V-trace targets and policy-gradient advantages (Espeholt et al. 2018, equation 1 and section 4.1).

    The paper weighs the advantage with rho_s in the gradient of the policy; here that is left to the loss.

    All tensors are [T, A]. In rows that are not valid both losses vanish: the advantage is 0 and the target is the
    value itself; whatever stands there, NaN included, reaches no other row.

    log_rhos: log pi(a_s | x_s) - log mu(a_s | x_s), pi the learning policy and mu the one that acted.
    discounts: factor on everything after the decision; 0 where the episode terminated.
    values, next_values: V(x_s) and V(x_{s+1}) under pi.
    valid: bool, set where a decision was taken; None means everywhere.
    rho_clip, c_clip: the paper's rho-bar and c-bar; it asks for rho_clip >= c_clip.
    lambda_: c_s = lambda_ * min(c_clip, rho_s), the paper's remark 2.
    Raises ValueError when the shapes differ, because broadcasting would hide the mistake.
    """
    _check_same_shape(
        log_rhos=log_rhos, discounts=discounts, rewards=rewards, values=values, next_values=next_values, valid=valid
    )
    rhos = log_rhos.exp()
    clipped_rhos = rhos.clamp(max=rho_clip)
    traces = discounts * lambda_ * rhos.clamp(max=c_clip)
    deltas = clipped_rhos * (rewards + discounts * next_values - values)

    excess = torch.zeros_like(deltas)  # v_s - V(x_s)
    next_excess = torch.zeros_like(deltas)  # v_{s+1} - V(x_{s+1})
    later = torch.zeros_like(deltas[0]) if len(deltas) else deltas
    for t in reversed(range(len(deltas))):
        next_excess[t] = later
        later = deltas[t] + traces[t] * later
        if valid is not None:
            later = torch.where(valid[t], later, 0.0)
        excess[t] = later

    advantages = rewards + discounts * (next_values + next_excess) - values
    if valid is not None:
        advantages = torch.where(valid, advantages, 0.0)
    return VTrace(targets=values + excess, advantages=advantages)


def _check_same_shape(**tensors: Tensor | None) -> None:
    (first, reference), *rest = ((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in rest:
        if tensor.shape != reference.shape:
            raise ValueError(f"{name} is {_shape(tensor)}, must be {_shape(reference)} like {first}")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
