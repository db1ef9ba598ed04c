"""The policy that acts against the policy that learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.utils import parameters_to_vector

from graph.acting import stack
from graph.build import build
from graph.history import history_rows
from graph.inference import ActingPolicy, choose
from graph.policy import SignalPolicy
from graph.shape import PolicyShape, parameter_shapes
from graph.tensors import to_tensors
from graph.topology import Topology
from tests.graph.examples import make_frames, make_network

SHAPES = st.builds(
    PolicyShape,
    hidden=st.integers(1, 70),
    vehicle_rounds=st.integers(0, 2),
    phase_rounds=st.integers(0, 3),
    history=st.integers(1, 3),
)


def make_pair(shape: PolicyShape, seed: int) -> tuple[SignalPolicy, ActingPolicy]:
    """A policy with weights large enough to be of some opinion, and its copy that acts."""
    torch.manual_seed(seed)
    policy = SignalPolicy(shape)
    with torch.no_grad():
        for parameter in policy.score.parameters():
            parameter.mul_(5)
    acting = ActingPolicy(shape)
    acting.load(parameters_to_vector(policy.parameters()).detach().numpy())
    return policy, acting


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.lists(st.integers(0, 14), min_size=1, max_size=4), st.integers(0, 2**16))
@example(PolicyShape(), [0], 0)
@example(PolicyShape(hidden=64, history=3), [5, 0, 9, 3], 1)
def test_it_computes_what_the_learning_policy_computes(shape: PolicyShape, counts: list[int], seed: int) -> None:
    network = make_network(seed)
    graphs = build(stack(make_frames(seed, network, counts)), Topology.of(network), radius=90.0)
    policy, acting = make_pair(shape, seed)
    earlier = np.arange(len(counts))  # the frames are one episode
    with torch.no_grad():
        expected, _ = policy(to_tensors(graphs, shape.history, earlier))
    actual = acting.log_probs(graphs, history_rows(graphs, shape.history, earlier))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected.numpy(), rtol=2e-4, atol=2e-5)


def test_it_is_uniform_until_it_has_weights() -> None:
    network = make_network(3)
    graphs = build(stack(make_frames(3, network, [4])), Topology.of(network), radius=90.0)
    log_probs = ActingPolicy(PolicyShape()).log_probs(graphs, history_rows(graphs, 1, None))
    for signal in range(len(network.phase_start) - 1):
        own = log_probs[graphs.phase_signal == signal]
        allowed = np.isfinite(own)
        np.testing.assert_allclose(own[allowed], -np.log(allowed.sum()), rtol=1e-5)


def test_the_shapes_are_those_of_the_parameters() -> None:
    shape = PolicyShape(hidden=12, vehicle_rounds=2, history=3)
    assert parameter_shapes(shape) == [tuple(parameter.shape) for parameter in SignalPolicy(shape).parameters()]


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="7 weights were given to a policy of"):
        ActingPolicy(PolicyShape()).load(np.zeros(7, np.float32))


def test_draws_fall_where_the_cumulated_probabilities_say() -> None:
    start = np.array([0, 3, 5], np.int32)
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.2, 0.0, 0.8, 0.5, 0.5]], np.float32))
    for draw, expected in ((0.0, 0), (0.19, 0), (0.21, 2), (0.999, 2), (1.0 - 1e-16, 2)):
        chosen, certainty = choose(log_probs, start, np.array([[draw, 0.6]]))
        assert chosen.tolist() == [[expected, 1]]
        np.testing.assert_allclose(certainty, [[log_probs[0, expected], log_probs[0, 4]]])


def test_without_draws_the_likeliest_phase_is_chosen_and_the_first_of_several() -> None:
    log_probs = np.log(np.array([[0.2, 0.5, 0.3, 0.5, 0.5]], np.float32))
    chosen, _ = choose(log_probs, np.array([0, 3, 5], np.int32), np.empty((0, 2)))
    assert chosen.tolist() == [[1, 0]]
