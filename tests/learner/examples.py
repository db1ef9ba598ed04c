"""Batches to learn from, the same for the same seed, and learners to learn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from buffers.fragments import fragment_layout
from buffers.slots import Slots
from graph.batch import Batch
from graph.dataset import ExperienceDataset
from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from graph.topology import Topology
from learner.losses import LossSettings
from learner.update import Learner
from learner.world import World
from tests.graph.examples import make_fragment, make_network

NETWORK = make_network(5)
SIGNALS = len(NETWORK.phase_start) - 1
LOSS = LossSettings(discount=0.9, value=0.5, exploration=0.01, rho_clip=1.0, c_clip=1.0, trace=1.0, ratio_clip=0.2)
ALONE = World(0, 1, torch.device("cpu"))


def make_batch(seed: int, lengths: Sequence[int] = (4, 6, 1), version: int = 1) -> Batch:
    """Fragments of these lengths; the second ends its episode."""
    slots = Slots(fragment_layout(SIGNALS, NETWORK.num_phases, 1, 1), num_envs=1, slots_per_env=1)
    dataset = ExperienceDataset(slots, [Topology.of(NETWORK)], batch_fragments=len(lengths), radius=60.0, history=2)
    slots.close()
    return dataset.batch(
        [
            make_fragment(100 * seed + i, NETWORK, length, env=i, episode=seed, version=version, terminated=i == 1)
            for i, length in enumerate(lengths)
        ]
    )


NETWORKS = (NETWORK, make_network(6, signals=2))


def make_mixed_batch(seed: int, maps: Sequence[int] = (0, 1, 0, 1), unit: float = 1000.0) -> Batch:
    """Fragments of these maps, each of its length, the second one's ending their episodes.

    Rewards on the second map are ``unit`` times as large as they were.
    """
    slots = Slots(fragment_layout(SIGNALS, NETWORK.num_phases, 1, 1), num_envs=1, slots_per_env=1)
    topologies = [Topology.of(network) for network in NETWORKS]
    dataset = ExperienceDataset(slots, topologies, batch_fragments=len(maps), radius=60.0, history=2)
    slots.close()
    fragments = [
        make_fragment(100 * seed + i, NETWORKS[m], 2 + i, env=2 * i + m, episode=seed, terminated=m == 1)
        for i, m in enumerate(maps)
    ]
    batch = dataset.batch(fragments)
    return replace(batch, rewards=torch.where(batch.maps == 1, unit, 1.0) * batch.rewards)


def make_policy(seed: int = 0) -> SignalPolicy:
    """A small policy."""
    torch.manual_seed(seed)
    return SignalPolicy(PolicyShape(hidden=16, history=2))


def make_learner(
    world: World = ALONE, amp: str = "off", loss: LossSettings = LOSS, gradient_clip: float = 1.0, **options: Any
) -> Learner:
    """A learner of a small policy."""
    return Learner(make_policy(), world, loss, learning_rate=1e-3, gradient_clip=gradient_clip, amp=amp, **options)
