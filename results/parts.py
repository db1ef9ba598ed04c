"""What `make results` does: each part by its name, with what it measures and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from results import ablation, learning, rival, yardsticks


@dataclass(frozen=True)
class Part:
    """A measurement and its settings, in earnest and ``quick``, which shows only that it works."""

    measure: Callable[[Any], dict[str, Any]]
    settings: Any
    quick: Any

    @classmethod
    def training(cls, scenario: str, minutes: float, **more: Any) -> Part:
        """Training on a scenario for so long."""
        settings = learning.Settings(scenario=scenario, minutes=minutes, **more)
        return cls(learning.measure, settings, _QUICK_LEARNING)


_QUICK_LEARNING = learning.Settings(scenario="single", minutes=0.1, moments=(10.0, 60.0), envs=2, seeds=2)

PARTS: dict[str, Part] = {
    "yardsticks": Part(
        yardsticks.measure,
        yardsticks.Settings(),
        yardsticks.Settings(networks=("single",), controllers=("fixed", "max-pressure"), seeds=2),
    ),
    "cologne1": Part.training("resco:cologne1", 5.0, runs=5),
    "cologne8": Part.training("resco:cologne8", 10.0, moments=(120.0, 300.0, 600.0)),
    "grid4x4": Part.training("resco:grid4x4", 10.0, moments=(120.0, 300.0, 600.0)),
    "ingolstadt21": Part.training("resco:ingolstadt21", 45.0, moments=(600.0, 1200.0, 2700.0)),
    "transfer": Part.training(
        "resco:cologne1,resco:grid4x4",
        10.0,
        moments=(),
        judged_on=("resco:cologne8", "resco:cologne1", "resco:grid4x4"),
    ),
    "rival": Part(
        rival.measure,
        rival.Settings(),
        rival.Settings(network="single", moments=(10.0, 14.0), variants=("short",), seeds=1),
    ),
    "ablation": Part(
        ablation.measure,
        ablation.Settings(),
        ablation.Settings(
            scenario="single", decisions=300, runs=1, variants=("as it is", "one step per update"), seeds=2
        ),
    ),
}
