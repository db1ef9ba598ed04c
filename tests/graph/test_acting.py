from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from buffers.fragments import Decision, Fragment, fragment_layout
from buffers.slots import Slots
from envs.signals import Frame
from graph.acting import Actor, Actors, stack
from graph.dataset import ExperienceDataset
from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from graph.topology import Topology
from tests.graph.examples import make_frames, make_network, write_fragment

NETWORK = make_network(6, signals=4)
TOPOLOGY = Topology.of(NETWORK)
RADIUS = 80.0


def make_policy(**shape: int) -> SignalPolicy:
    torch.manual_seed(2)
    policy = SignalPolicy(PolicyShape(hidden=16, **shape))
    with torch.no_grad():
        list(policy.score.parameters())[-2].mul_(50)
    return policy


def make_actor(**shape: int) -> Actor:
    policy = make_policy(**shape)
    actor = Actor(TOPOLOGY, policy.shape, RADIUS)
    actor.policy.load(parameters_to_vector(policy.parameters()).detach().numpy())
    return actor


def generators(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def test_stack() -> None:
    frames = make_frames(0, NETWORK, [3, 0, 2])
    stacked = stack(frames)
    assert stacked.offsets.tolist() == [0, 3, 3, 5]
    np.testing.assert_array_equal(stacked.vehicles[3:], frames[2].vehicles)
    np.testing.assert_array_equal(stacked.allowed[1], frames[1].allowed)
    assert stacked.time.tolist() == [0.0, 10.0, 20.0]


def test_the_same_generators_choose_the_same() -> None:
    frames = make_frames(0, NETWORK, [5, 7])
    one = make_actor().act([0, 1], frames, generators(1, 2))
    same = make_actor().act([0, 1], frames, generators(1, 2))
    other = make_actor().act([0, 1], frames, generators(3, 4))
    np.testing.assert_array_equal(one[0], same[0])
    np.testing.assert_array_equal(one[1], same[1])
    assert one[0].dtype == np.int16
    assert one[1].dtype == np.float32
    assert one[0].shape == one[1].shape == (2, 4)
    assert (one[0] != other[0]).any()


def test_what_an_env_chooses_does_not_depend_on_its_company() -> None:
    frames = make_frames(0, NETWORK, [5, 7, 3])
    together = make_actor().act([0, 1, 2], frames, generators(1, 2, 3))
    alone = make_actor().act([1], frames[1:2], generators(2))
    np.testing.assert_array_equal(together[0][1], alone[0][0])
    np.testing.assert_allclose(together[1][1], alone[1][0], rtol=1e-4, atol=1e-6)


def test_it_samples_what_the_policy_says_and_nothing_that_is_not_allowed() -> None:
    frame = make_frames(3, NETWORK, [6])[0]
    actor = make_actor()
    generator = np.random.default_rng(0)
    draws = 3000
    actions, log_probs = actor.act([0] * draws, [frame] * draws, [generator] * draws)
    start = NETWORK.phase_start
    for signal in range(4):
        allowed = frame.allowed[start[signal] : start[signal + 1]]
        share = np.bincount(actions[:, signal], minlength=len(allowed)) / draws
        assert not share[~allowed].any()
        for phase in np.unique(actions[:, signal]):
            claimed = np.exp(log_probs[actions[:, signal] == phase, signal])
            np.testing.assert_allclose(claimed, claimed[0], rtol=1e-4)
            assert share[phase] == pytest.approx(claimed[0], abs=5 * np.sqrt(0.25 / draws))


def test_there_must_be_a_generator_for_every_env() -> None:
    with pytest.raises(ValueError, match="1 generators were given for 2 envs"):
        make_actor().act([0, 1], make_frames(0, NETWORK, [2, 2]), generators(1))


def test_without_generators_the_likeliest_phase_is_chosen() -> None:
    frames = make_frames(1, NETWORK, [6, 2])
    actor = make_actor()
    greedy, log_probs = actor.act([0, 1], frames, None)
    for seed in range(30):
        _, sampled = actor.act([0, 1], frames, generators(seed, 100 + seed))
        assert (sampled <= log_probs + 1e-6).all()
    assert greedy.shape == (2, 4)


def collect(actor: Actor, frames: Sequence[Sequence[Frame]], cuts: Sequence[int]) -> list[Fragment]:
    """One episode of each env, decided by the actor, cut into fragments at the same places."""
    envs = range(len(frames))
    draws = generators(*envs)
    zeros = np.zeros(4, np.float32)
    decisions: list[list[Decision]] = [[] for _ in envs]
    for env in envs:
        actor.forget(env)
    for now in range(len(frames[0]) - 1):
        chosen = actor.act(list(envs), [frames[env][now] for env in envs], draws)
        for env in envs:
            decisions[env].append(Decision(chosen[0][env], chosen[1][env], zeros, zeros))
    return [
        write_fragment(
            NETWORK,
            frames[env][begin : end + 1],
            decisions[env][begin:end],
            env=env,
            first=begin,
            truncated=end == cuts[-1],
        )
        for begin, end in zip([0, *cuts[:-1]], cuts, strict=True)
        for env in envs
    ]


@pytest.mark.parametrize("history", [1, 3])
def test_the_learner_sees_what_the_actor_saw(history: int) -> None:
    """Log-probabilities of the acting policy, recomputed from the fragments, also where history spans two of them."""
    actor, policy = make_actor(history=history), make_policy(history=history)
    frames = [make_frames(env, NETWORK, [6, 3, 0, 5, 8, 2, 4, 1, 7]) for env in range(2)]
    fragments = collect(actor, frames, cuts=[3, 4, 8])
    slots = Slots(fragment_layout(4, NETWORK.num_phases, 1, 1), num_envs=2, slots_per_env=1)
    dataset = ExperienceDataset(slots, [TOPOLOGY], batch_fragments=2, radius=RADIUS, history=history)
    for begin in range(0, len(fragments), 2):
        batch = dataset.batch(fragments[begin : begin + 2])
        with torch.no_grad():
            log_probs, _ = policy(batch.graph)
        torch.testing.assert_close(log_probs[batch.phase_rows], batch.log_probs, rtol=1e-4, atol=1e-5)
    slots.close()


def test_forgetting_begins_an_episode() -> None:
    frames = make_frames(0, NETWORK, [6, 5])
    actor = make_actor(history=2)
    actor.act([0], frames[:1], None)
    _, remembering = actor.act([0], frames[1:], None)
    actor.forget(0)
    _, fresh = actor.act([0], frames[1:], None)
    _, anew = make_actor(history=2).act([0], frames[1:], None)
    np.testing.assert_array_equal(fresh, anew)
    assert (remembering != fresh).any()


def test_envs_of_several_networks_choose_what_each_would_with_an_actor_of_its_own() -> None:
    other = make_network(8, signals=2)
    policy = make_policy(history=2)
    weights = parameters_to_vector(policy.parameters()).detach().numpy()
    together = Actors([TOPOLOGY, Topology.of(other)], policy.shape, RADIUS)
    together.load(weights)
    apart = [Actor(topology, policy.shape, RADIUS) for topology in (TOPOLOGY, Topology.of(other))]
    for actor in apart:
        actor.policy.load(weights)
    networks, envs = [1, 0, 1], [5, 6, 7]
    for decision in range(4):
        if decision == 3:  # an episode of the second env begins
            together.forget(0, 6)
            apart[0].forget(6)
        frames = [
            make_frames(10 * decision + env, (NETWORK, other)[n], [4])[0] for n, env in zip(networks, envs, strict=True)
        ]
        choices = together.act(networks, envs, frames, generators(*envs))
        for n, env, frame, (phases, log_probs) in zip(networks, envs, frames, choices, strict=True):
            expected = apart[n].act([env], [frame], generators(env))
            np.testing.assert_array_equal(phases, expected[0][0])
            np.testing.assert_array_equal(log_probs, expected[1][0])
