"""From the end of an episode to the first frame of the next one, on a live simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.clients import command
from benchmarks.contest import Contender, contest
from benchmarks.networks import NETWORKS
from benchmarks.spread import Spread
from pages import script

_INTERVAL = 10.0  # s between decisions
_SECONDS = 120.0  # simulated s before each reset, so that it has vehicles to remove


@dataclass(frozen=True)
class Settings:
    """What is reset, and how often."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """Scenarios by name."""
    clients: tuple[str, ...] = ("platoon-traci", "platoon-libsumo", "sumo-rl-traci", "sumo-rl-libsumo")
    """Whose resets."""
    rounds: int = 5
    """Resets of each."""


QUICK = Settings(networks=("single",), clients=("platoon-traci", "platoon-libsumo"), rounds=2)


def measure(settings: Settings) -> dict[str, Any]:
    """``wall``: s of a reset, by network and client."""
    rows = []
    for network in settings.networks:
        contenders = [
            Contender(name, [*command(name, network, _INTERVAL, _SECONDS), "--resets"]) for name in settings.clients
        ]
        samples = contest(contenders, settings.rounds, f"resets of {network}")
        for name in settings.clients:
            wall = Spread.of(sample["wall"] for sample in samples[name])
            rows.append({"network": network, "client": name, "wall": wall.as_dict()})
    return {"rows": rows}


if __name__ == "__main__":
    script.run(Settings, measure, "resets", __doc__)
