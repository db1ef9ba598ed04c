"""Where simulations take place: one scenario or several, each with its network."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from envs.errors import ScenarioError
from envs.network import Network
from envs.scenarios import Scenario, find
from envs.simulation import probe


class Place(NamedTuple):
    """A scenario and its network, as SUMO has it."""

    scenario: Scenario
    network: Network

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.scenario.name

    def __str__(self) -> str:
        """What there is to control, for people."""
        network = self.network
        text = (
            f"{self.name}: {len(network.signals)} signal{'s' * (len(network.signals) != 1)} "
            f"with {network.num_phases} green phases, {network.road_lanes} lanes"
        )
        fixed = [f"{signal.id} ({signal.why_fixed})" for signal in network.fixed_signals]
        return text + (f"; {len(fixed)} signals run their own program: {', '.join(fixed[:5])}" if fixed else "")


def names_in(text: str) -> list[str]:
    """The names of one scenario or several, separated by commas; raises ``ScenarioError`` for one that comes twice."""
    if Path(text).is_file():  # whose own name may hold a comma
        return [text]
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name:
            raise ScenarioError(f"scenario {text!r}: has nothing before or behind a comma; must be names, as in a,b")
        if names.count(name) > 1:
            raise ScenarioError(f"scenario {name!r} is named twice in {text!r}: each must be another one")
    return names


def find_places(text: str, start_limit: float) -> tuple[Place, ...]:
    """The scenarios that a text names, opened one after the other, ``start_limit`` s each; raises as ``probe``."""
    scenarios = [find(name) for name in names_in(text)]  # all of them, before SUMO is started for the first
    return tuple(Place(scenario, probe(scenario, start_limit)) for scenario in scenarios)
