"""The classical controllers, on every network: what a policy has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envs.controllers import CLASSICAL
from pages import script
from pages.output import say
from results.protocol import Court, seeds

NETWORKS = ("resco:cologne1", "resco:cologne8", "resco:grid4x4", "resco:ingolstadt21", "resco:arterial4x4")


@dataclass(frozen=True)
class Settings:
    """Who acts where."""

    networks: tuple[str, ...] = NETWORKS
    """Scenarios by name."""
    controllers: tuple[str, ...] = tuple(CLASSICAL)
    """Classical controllers by name."""
    seeds: int = 20
    """Episodes of each."""


def measure(settings: Settings) -> dict[str, Any]:
    """A row for each network and controller; ``protocol.verdict`` explains it."""
    rows = []
    for network in settings.networks:
        court = Court(network, seeds(settings.seeds))
        for controller in settings.controllers:
            say(f"yardsticks: {controller} on {network}")
            rows.append({"network": network, "controller": controller, **court.judge(controller)})
    return {"rows": rows}


if __name__ == "__main__":
    script.run(Settings, measure, "yardsticks", __doc__, room="results")
