"""A policy that has learned nothing: it costs what any other one costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from envs.network import Network
from graph.acting import Actor
from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from graph.topology import Topology
from learner import checkpoints

RADIUS = 50.0  # m within which vehicles are joined by an edge: the default of a run
_SEED = 1


def initial_weights(shape: PolicyShape, checkpoint: Path | None = None) -> NDArray[np.float32]:
    """Weights as one vector: fresh ones, or those of a run's checkpoint."""
    torch.manual_seed(_SEED)
    policy = SignalPolicy(shape)
    if checkpoint is not None:
        policy.load_state_dict(checkpoints.load(checkpoint)["model"])
    return policy.flat_weights()


def untrained_actor(network: Network) -> Actor:
    """Somebody who acts with the default policy of a run and fresh weights."""
    shape = PolicyShape()
    actor = Actor(Topology.of(network), shape, RADIUS)
    actor.policy.load(initial_weights(shape))
    return actor
