from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from graph.acting import stack
from graph.build import build
from graph.graphs import Graphs
from graph.policy import SignalPolicy, entropy_by, log_softmax_by, max_by, mean_by, mean_log_prob_by, sum_by
from graph.schema import (
    ALLOWED,
    COLUMNS,
    PHASE_EDGE_FEATURES,
    PHASE_FEATURES,
    SHARES,
    VEHICLE_EDGE_FEATURES,
    VEHICLE_FEATURES,
)
from graph.shape import PolicyShape
from graph.tensors import GraphTensors, to_tensors
from graph.topology import Topology
from tests.graph.examples import make_frames, make_network

COUNTS = [6, 0, 11, 1]


def make_graphs(counts: list[int] = COUNTS, seed: int = 0, signals: int = 3) -> Graphs:
    network = make_network(seed, signals)
    return build(stack(make_frames(seed, network, counts)), Topology.of(network), 90.0)


def make_policy(**shape: int) -> SignalPolicy:
    """With heads that are not near zero, so that differences show."""
    torch.manual_seed(5)
    policy = SignalPolicy(PolicyShape(hidden=32, **shape)).eval()
    with torch.no_grad():
        for head in (policy.score, policy.value):
            list(head.parameters())[-2].mul_(30)
    return policy


def assert_close(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_shapes_and_probabilities() -> None:
    tensors = to_tensors(make_graphs())
    log_probs, values = make_policy()(tensors)
    signals = len(tensors.signal_start)
    assert log_probs.shape == (len(tensors.phases),)
    assert values.shape == (signals,)
    allowed = tensors.phases[:, ALLOWED] > 0.5
    assert not allowed.all()
    assert (log_probs[~allowed] == -torch.inf).all()
    assert torch.isfinite(log_probs[allowed]).all()
    total = torch.zeros(signals).index_add_(0, tensors.phase_signal, log_probs.exp())
    torch.testing.assert_close(total, torch.ones(signals))
    assert log_probs[allowed].std() > 0.1, "this policy tells nothing apart, and neither can this test"


def test_order_of_vehicles_and_edges_does_not_matter() -> None:
    tensors = to_tensors(make_graphs())
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(tensors.vehicles), generator=generator)
    place = torch.argsort(order)  # where each vehicle went
    near = torch.randperm(len(tensors.vehicle_source), generator=generator)
    served = torch.randperm(len(tensors.served_vehicle), generator=generator)
    shuffled = replace(
        tensors,
        vehicles=tensors.vehicles[order],
        vehicle_source=place[tensors.vehicle_source][near],
        vehicle_target=place[tensors.vehicle_target][near],
        vehicle_edge_features=tensors.vehicle_edge_features[near],
        served_vehicle=place[tensors.served_vehicle][served],
        serving_phase=tensors.serving_phase[served],
        phase_edge_features=tensors.phase_edge_features[served],
    )
    policy = make_policy(vehicle_rounds=2)
    assert_close(policy(shuffled), policy(tensors))


def test_a_batch_of_frames_is_the_frames_one_by_one() -> None:
    graphs = make_graphs()
    policy = make_policy()
    single = [policy(to_tensors(graphs.take([frame]))) for frame in range(len(graphs))]
    assert_close(
        policy(to_tensors(graphs)), (torch.cat([one[0] for one in single]), torch.cat([one[1] for one in single]))
    )


def test_one_policy_serves_networks_of_any_size() -> None:
    small, large = make_graphs([3, 5], seed=1, signals=1), make_graphs([4, 9], seed=2, signals=7)
    policy = make_policy()
    one, other = policy(to_tensors(small)), policy(to_tensors(large))
    assert len(one[1]) == 2
    assert len(other[1]) == 14
    assert_close(
        policy(to_tensors(Graphs.join([small, large]))), (torch.cat([one[0], other[0]]), torch.cat([one[1], other[1]]))
    )


# What tells one place from another.
PLACES = [("vehicles", VEHICLE_FEATURES.index(name)) for name in ("x", "y", "heading_sin", "heading_cos")]
ALL = {
    "vehicles": VEHICLE_FEATURES,
    "vehicle_edge_features": VEHICLE_EDGE_FEATURES,
    "phase_edge_features": PHASE_EDGE_FEATURES,
    "phases": PHASE_FEATURES,
}


@pytest.mark.parametrize(("kind", "column"), [(kind, i) for kind, names in ALL.items() for i in range(len(names))])
def test_every_feature_counts_but_places(kind: str, column: int) -> None:
    tensors = to_tensors(make_graphs())
    features = getattr(tensors, kind).clone()
    features[:, column] += 0.5
    policy = make_policy(vehicle_rounds=1)
    counts = not torch.equal(policy(replace(tensors, **{kind: features}))[1], policy(tensors)[1])
    assert counts == ((kind, column) not in PLACES)


def test_checkpoints_remember_what_policies_look_at() -> None:
    seen = {f"vehicle {name}" for column, name in enumerate(VEHICLE_FEATURES) if ("vehicles", column) not in PLACES}
    assert {name for name in COLUMNS if name.split()[:-1] == ["vehicle"]} == seen
    assert len(COLUMNS) == sum(map(len, ALL.values())) - len(PLACES)


def test_vehicles_count_by_the_share_of_their_ways_on_that_a_phase_opens() -> None:
    """Where that is none, a phase hears them as little as if they were not before it."""
    tensors = to_tensors(make_graphs())
    policy = make_policy(vehicle_rounds=1)
    shut = tensors.phase_edge_features.clone()
    shut[:, SHARES] = 0.0
    none = torch.zeros(0, dtype=torch.int64)
    alone = replace(tensors, served_vehicle=none, serving_phase=none, phase_edge_features=shut[:0])
    assert_close(policy(replace(tensors, phase_edge_features=shut)), policy(alone))
    assert not torch.equal(policy(tensors)[1], policy(alone)[1])


def test_signals_hear_the_ones_upstream_only() -> None:
    """Frame by frame, what one signal shows reaches exactly those that lie downstream within the rounds."""
    graphs = make_graphs([0], seed=3, signals=5)
    tensors = to_tensors(graphs)
    policy = make_policy(phase_rounds=1)
    phases = tensors.phases.clone()
    phases[tensors.phase_signal == 2, 2] += 1.0
    before, after = policy(tensors)[1], policy(replace(tensors, phases=phases))[1]
    downstream = {2} | {int(b) for a, b in graphs.signal_edges if a == 2}
    assert {int(signal) for signal in torch.nonzero(before != after)} == downstream
    assert len(downstream) < 5


def test_gradients_reach_every_weight_and_stay_finite() -> None:
    torch.manual_seed(0)
    policy = SignalPolicy(PolicyShape(hidden=32, vehicle_rounds=2, history=3))
    tensors = to_tensors(make_graphs([9, 4, 7, 12]), 3, np.arange(4))
    log_probs, values = policy(tensors)
    signals = len(tensors.signal_start)
    entropy = entropy_by(log_probs, tensors.phase_signal, signals)
    allowed = ~log_probs.isinf()
    weights = torch.randn(len(log_probs))
    loss = (log_probs[allowed] * weights[allowed]).sum() + (values - 1).square().sum() + entropy.sum()
    loss.backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_are_finite_without_any_vehicle() -> None:
    policy = SignalPolicy(PolicyShape(history=2))
    log_probs, values = policy(to_tensors(make_graphs([0, 0]), 2, np.array([0, 1])))
    (values.sum() + log_probs[~log_probs.isinf()].sum()).backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("earlier", "reached"), [([0, 1, 2], {0, 1, 2}), ([0, 1, 1], {0, 1}), ([0, 0, 1], {0})])
def test_an_earlier_frame_counts_where_it_is_known(earlier: list[int], reached: set[int]) -> None:
    """Frame 0 changes; only frames that may look back at it change with it."""
    graphs = make_graphs([5, 3, 4])
    tensors: GraphTensors = to_tensors(graphs, 3, np.array(earlier))
    policy = make_policy(history=3)
    phases = tensors.phases.clone()
    phases[: graphs.phase_offsets[1], 2] += 1.0
    before, after = policy(tensors)[1], policy(replace(tensors, phases=phases))[1]
    changed = torch.nonzero(before != after).flatten() // 3  # three signals a frame
    assert set(changed.tolist()) == reached


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    tensors = to_tensors(make_graphs(), 2, np.arange(4))
    policy = make_policy(history=2)
    exact = policy(tensors)
    with torch.autocast("cpu", dtype):
        rough = policy(tensors)
    assert all(output.dtype == torch.float32 for output in rough)
    for one, other in zip(rough, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.3)
    values = rough[1]
    values.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in policy.parameters())


def test_a_fresh_policy_is_nearly_uniform() -> None:
    tensors = to_tensors(make_graphs())
    log_probs, values = SignalPolicy(PolicyShape())(tensors)
    signals = len(tensors.signal_start)
    allowed = torch.zeros(signals).index_add_(0, tensors.phase_signal, (~log_probs.isinf()).float())
    entropy = entropy_by(log_probs, tensors.phase_signal, signals)
    torch.testing.assert_close(entropy, allowed.log(), rtol=0, atol=0.02)
    assert values.abs().max() < 0.5


def test_reductions_by_index() -> None:
    values, index = torch.randn(9, 4), torch.tensor([2, 0, 2, 2, 4, 0, 4, 4, 4])
    for i in range(5):
        rows = values[index == i]
        torch.testing.assert_close(sum_by(values, index, 5)[i], rows.sum(0))
        torch.testing.assert_close(mean_by(values, index, 5)[i], rows.mean(0) if len(rows) else torch.zeros(4))
        if len(rows):
            torch.testing.assert_close(max_by(values, index, 5)[i], rows.amax(0))


def test_softmax_and_entropy_by_index() -> None:
    scores = torch.tensor([1e4, 1e4 + 1, -torch.inf, 3.0, -torch.inf, -1e4, 0.0])
    index = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    log_probs = log_softmax_by(scores, index, 3)
    entropy = entropy_by(log_probs, index, 3)
    for i in range(3):
        expected = torch.log_softmax(scores[index == i].double(), 0)
        torch.testing.assert_close(log_probs[index == i].double(), expected, rtol=1e-5, atol=1e-3)
        terms = [-math_p * p for p in expected.tolist() if p > -1e3 for math_p in [float(np.exp(p))]]
        assert entropy[i].item() == pytest.approx(sum(terms), abs=1e-3)


def test_the_mean_log_probability_pulls_at_the_unlikeliest_phase_as_at_any_other() -> None:
    scores = torch.tensor([0.0, -30.0, -torch.inf, 2.0, 2.0, 5.0], requires_grad=True)
    index = torch.tensor([0, 0, 0, 1, 1, 1])
    log_probs = log_softmax_by(scores, index, 2)
    means = mean_log_prob_by(log_probs, index, 2)
    expected = [log_probs[:2].mean(), log_probs[3:].mean()]
    torch.testing.assert_close(means, torch.stack(expected))
    (gradient,) = torch.autograd.grad(means.sum(), scores)
    counts = torch.tensor([2, 2, 2, 3, 3, 3])
    pull = torch.where(scores.isinf(), 0.0, 1 / counts - log_probs.exp())
    torch.testing.assert_close(gradient, pull.detach())
