from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learner.vtrace import VTrace, vtrace

Batch = dict[str, Tensor]


def literal_vtrace(
    batch: Batch, lengths: list[int], rho_clip: float, c_clip: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Equation 1 and section 4.1 column by column, as sums over products of plain floats; padding is left at 0."""
    targets, advantages = torch.zeros_like(batch["values"]), torch.zeros_like(batch["values"])
    for column, length in enumerate(lengths):
        rhos = [math.exp(x) for x in batch["log_rhos"][:length, column].tolist()]
        discounts = batch["discounts"][:length, column].tolist()
        rewards = batch["rewards"][:length, column].tolist()
        values = [*batch["values"][:length, column].tolist(), float(batch["bootstrap"][column])]

        v = list(values)  # v[length] stays the bootstrap value
        for s in range(length):
            for t in range(s, length):
                product = math.prod(discounts[i] * lambda_ * min(c_clip, rhos[i]) for i in range(s, t))
                delta = min(rho_clip, rhos[t]) * (rewards[t] + discounts[t] * values[t + 1] - values[t])
                v[s] += product * delta
        for s in range(length):
            targets[s, column] = v[s]
            advantages[s, column] = rewards[s] + discounts[s] * v[s + 1] - values[s]
    return targets, advantages


def make_batch(steps: int, agents: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    terminated = torch.rand(steps, agents, generator=generator) < 0.1
    return {
        "log_rhos": normal(steps, agents),
        "discounts": torch.where(terminated, 0.0, 0.9 + 0.02 * normal(steps, agents).clamp(-3, 3)),
        "rewards": normal(steps, agents),
        "values": normal(steps, agents),
        "bootstrap": normal(agents),
    }


def valid_rows(steps: int, lengths: list[int]) -> Tensor:
    return torch.arange(steps).unsqueeze(1) < torch.tensor(lengths)


def successor_values(batch: Batch, valid: Tensor | None = None) -> Tensor:
    """V(x_{s+1}) for every row: the next row's value, and in each column's last valid row its bootstrap value."""
    following = torch.cat([batch["values"][1:], batch["bootstrap"].unsqueeze(0)])
    if valid is None:
        return following
    goes_on = torch.cat([valid[1:], torch.zeros_like(valid[:1])])
    return torch.where(goes_on, following, batch["bootstrap"])


def run(batch: Batch, valid: Tensor | None = None, **clips: float) -> VTrace:
    following = successor_values(batch, valid)
    return vtrace(batch["log_rhos"], batch["discounts"], batch["rewards"], batch["values"], following, valid, **clips)


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(1, 12),
    agents=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    c_clip=st.floats(0.1, 2.0),
    wider=st.floats(0.0, 2.0),
    lambda_=st.floats(0.0, 1.0),
    data=st.data(),
)
def test_agrees_with_the_paper_s_sum_over_products(
    steps: int, agents: int, seed: int, c_clip: float, wider: float, lambda_: float, data: st.DataObject
) -> None:
    batch = make_batch(steps, agents, seed)
    lengths = data.draw(st.lists(st.integers(1, steps), min_size=agents, max_size=agents))
    valid = valid_rows(steps, lengths)
    clips = {"rho_clip": c_clip + wider, "c_clip": c_clip, "lambda_": lambda_}

    ours = run(batch, valid, **clips)
    targets, advantages = literal_vtrace(batch, lengths, **clips)

    torch.testing.assert_close(ours.targets[valid], targets[valid], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.advantages[valid], advantages[valid], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", range(1, 9))
def test_on_policy_targets_are_n_step_returns(steps: int) -> None:
    batch = make_batch(steps, 3, seed=steps)
    batch["log_rhos"].zero_()
    returns = torch.empty(steps, 3, dtype=torch.float64)
    following = batch["bootstrap"]
    for t in reversed(range(steps)):
        following = returns[t] = batch["rewards"][t] + batch["discounts"][t] * following

    ours = run(batch)

    torch.testing.assert_close(ours.targets, returns, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.advantages, returns - batch["values"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", range(1, 7))
def test_a_padded_column_is_the_same_as_the_column_cut_to_its_length(length: int) -> None:
    batch = make_batch(6, 4, seed=7)
    cut = {name: tensor if name == "bootstrap" else tensor[:length] for name, tensor in batch.items()}

    padded = run(batch, valid_rows(6, [length] * 4))

    torch.testing.assert_close(padded.targets[:length], run(cut).targets, rtol=0, atol=0)
    torch.testing.assert_close(padded.advantages[:length], run(cut).advantages, rtol=0, atol=0)


def test_nan_in_the_padding_reaches_no_valid_row_and_padding_costs_nothing() -> None:
    batch, lengths = make_batch(5, 3, seed=3), [1, 5, 3]
    valid = valid_rows(5, lengths)
    clean = run(batch, valid)
    poisoned = {
        name: tensor if name == "bootstrap" else torch.where(valid, tensor, math.nan) for name, tensor in batch.items()
    }

    ours = run(poisoned, valid)

    torch.testing.assert_close(ours.targets[valid], clean.targets[valid], rtol=0, atol=0)
    torch.testing.assert_close(ours.advantages[valid], clean.advantages[valid], rtol=0, atol=0)
    assert (ours.advantages[~valid] == 0).all()
    assert torch.equal(clean.targets[~valid], batch["values"][~valid])


def test_nothing_after_a_terminated_decision_counts() -> None:
    batch = make_batch(6, 2, seed=5)
    batch["discounts"][2] = 0.0
    changed = {name: tensor.clone() for name, tensor in batch.items()}
    for name in ("rewards", "values", "log_rhos"):
        changed[name][3:] += 10.0
    changed["bootstrap"] += 10.0

    assert torch.equal(run(batch).targets[:3], run(changed).targets[:3])
    assert torch.equal(run(batch).advantages[:3], run(changed).advantages[:3])


def test_without_traces_the_target_is_one_step() -> None:
    batch = make_batch(6, 2, seed=9)
    batch["log_rhos"].zero_()
    following = successor_values(batch)

    ours = run(batch, lambda_=0.0)

    torch.testing.assert_close(ours.targets, batch["rewards"] + batch["discounts"] * following, rtol=1e-12, atol=1e-12)


def test_a_huge_ratio_is_clipped_to_the_on_policy_numbers() -> None:
    batch = make_batch(4, 2, seed=2)
    huge = run(batch | {"log_rhos": torch.full((4, 2), 1e4, dtype=torch.float64)})
    even = run(batch | {"log_rhos": torch.zeros(4, 2, dtype=torch.float64)})
    assert torch.equal(huge.targets, even.targets)
    assert torch.equal(huge.advantages, even.advantages)


def test_no_gradient_flows_through() -> None:
    batch = {name: tensor.requires_grad_() for name, tensor in make_batch(3, 2, seed=1).items()}
    ours = run(batch)
    assert not ours.targets.requires_grad
    assert not ours.advantages.requires_grad


def test_any_trailing_shape() -> None:
    batch = make_batch(4, 6, seed=4)
    folded = {name: tensor.reshape(*tensor.shape[:-1], 2, 3) for name, tensor in batch.items()}
    assert torch.equal(run(folded).targets.reshape(4, 6), run(batch).targets)
    assert run({name: tensor[..., 0] for name, tensor in batch.items()}).targets.shape == (4,)


def test_single_precision_stays_close_over_a_long_fragment() -> None:
    batch = make_batch(128, 8, seed=6)
    single = run({name: tensor.float() for name, tensor in batch.items()})
    assert single.targets.dtype == torch.float32
    torch.testing.assert_close(single.targets.double(), run(batch).targets, rtol=1e-4, atol=1e-4)


def test_shapes_that_would_broadcast_are_refused() -> None:
    column, row = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(ValueError, match=r"rewards is \[3\], must be \[3, 1\] like log_rhos"):
        vtrace(column, column, row, column, column)
