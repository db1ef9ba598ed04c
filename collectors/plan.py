"""What a collector is told when it starts: everything that never changes during a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from buffers.fragments import fragment_layout
from buffers.layout import Layout
from collectors.places import Place
from envs.network import Network
from graph.shape import PolicyShape

RESERVED_SEEDS = 2**16  # SUMO seeds below are for evaluation and never trained on
_TYPICAL_DENSITY = 1 / 40.0  # vehicles per m of lane: beyond it a fragment ends early


@dataclass(frozen=True, eq=False)
class CollectionPlan:
    """How experience is collected; the same for all collectors of a run.

    Envs are dealt to the ``places`` in turn, by their numbers within the whole run; ``first_env`` and ``env_stride``
    number those of a rank. ``simulation`` are the settings of ``envs.Simulation``; ``first_episode`` is where episodes
    are counted from, so that a resumed run meets new ones. ``restart_limit`` is how often a SUMO or a collector may
    fail without an episode that ends in between.
    """

    places: tuple[Place, ...]
    backend: str
    simulation: dict[str, Any]
    fragment_length: int
    shape: PolicyShape
    radius: float
    seed: int
    slot_vehicles: int | None = None
    first_env: int = 0
    env_stride: int = 1
    first_episode: int = 0
    restart_limit: int = 5
    extra_options: tuple[str, ...] = field(default=())

    def layouts(self) -> tuple[Layout, ...]:
        """The layouts of slots: that of env e is number ``e % len(places)``."""
        return tuple(self._layout(self.place(env).network) for env in range(len(self.places)))

    def _layout(self, network: Network) -> Layout:
        """A slot that is large enough for two frames of a network full to the brim, whatever the rest."""
        typical = self.slot_vehicles or int(network.lane_length.sum() * _TYPICAL_DENSITY) + 64
        rows = max((self.fragment_length + 1) * typical, 2 * network.jam_capacity)
        if self.slot_vehicles is not None:
            rows = (self.fragment_length + 1) * self.slot_vehicles
        return fragment_layout(len(network.signals), network.num_phases, self.fragment_length, vehicle_rows=rows)

    def env_number(self, env: int) -> int:
        """The number of this rank's env ``env`` in the whole run."""
        return self.first_env + env * self.env_stride

    def map_of(self, env: int) -> int:
        """The number of the place of this rank's env ``env``."""
        return self.env_number(env) % len(self.places)

    def place(self, env: int) -> Place:
        """Where this rank's env ``env`` is simulated."""
        return self.places[self.map_of(env)]

    def seeds(self, env: int, episode: int) -> tuple[int, np.random.Generator]:
        """SUMO's seed and the generator that samples actions, for one episode of one env."""
        sequence = np.random.SeedSequence([self.seed, self.env_number(env), episode])
        (word,) = sequence.generate_state(1, np.uint64)
        return RESERVED_SEEDS + int(word) % (2**31 - 1 - RESERVED_SEEDS), np.random.default_rng(sequence)
