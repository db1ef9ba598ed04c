"""What drives the signals of an episode: a classical controller by its name, or a trained policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from envs.controllers import CLASSICAL, Controller
from envs.session import Session
from envs.signals import Frame, SignalControl
from graph.acting import Actor
from graph.shape import PolicyShape
from graph.topology import Topology

if TYPE_CHECKING:  # processes that only act do without torch
    from graph.policy import SignalPolicy


@dataclass(frozen=True, eq=False)
class Policy:
    """A trained policy as a controller's recipe; it can travel to another process.

    ``weights`` float32 [parameters]; ``radius`` m; ``sampled`` draws phases by their probabilities, as in training,
    instead of choosing the likeliest.
    """

    name: str
    weights: NDArray[np.float32]
    shape: PolicyShape
    radius: float
    sampled: bool = False

    @classmethod
    def of(cls, name: str, model: SignalPolicy, radius: float, *, sampled: bool = False) -> Self:
        """With the present weights of a model."""
        return cls(name, model.flat_weights(), model.shape, radius, sampled)


class PolicyController:
    """A policy that chooses the phases of one simulation."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Lay out the network, and install the programs that show what is asked for."""
        session.install(task.programs)
        policy = self._policy
        self._actor = Actor(Topology.of(session.network), policy.shape, policy.radius)
        self._actor.policy.load(policy.weights)
        self._generators = [np.random.default_rng(seed)] if policy.sampled else None

    def act(self, frame: Frame) -> NDArray[np.int16]:
        """The wanted phase of each signal."""
        phases, _ = self._actor.act([0], [frame], self._generators)
        return phases[0]


def make_controller(recipe: str | Policy) -> Controller:
    """The controller of a recipe; raises ``ValueError`` for a name that is not in ``envs.controllers.CLASSICAL``."""
    if isinstance(recipe, Policy):
        return PolicyController(recipe)
    if recipe not in CLASSICAL:
        raise ValueError(f"controller {recipe!r}: must be one of {', '.join(CLASSICAL)}, or a policy")
    return CLASSICAL[recipe]()


def name_of(recipe: str | Policy) -> str:
    """What a recipe is called."""
    return recipe if isinstance(recipe, str) else recipe.name
