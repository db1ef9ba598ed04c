"""What `make results` does: each part by its name, what it measures and how much of it, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import ablation, learning, pictures, rival, tables, yardsticks
from results.protocol import Found, Row


@dataclass(frozen=True)
class Part:
    """A measurement with its settings, in earnest and ``quick``, which shows only that it works; and its section."""

    title: str
    measure: Callable[[Any], Row]
    settings: Any
    quick: Any
    tables: Callable[[Row], list[str]]
    draw: Callable[[Path, Row, Found], None]
    text: str = ""


def training(title: str, settings: learning.Settings, quick: learning.Settings) -> Part:
    """Training on a scenario or several."""
    return Part(title, learning.measure, settings, quick, tables.snapshots, pictures.curves)


_QUICK = learning.Settings(scenario="single", minutes=0.1, moments=(5.0, 60.0), envs=2, seeds=2)

PARTS: dict[str, Part] = {
    "yardsticks": Part(
        "Classical controllers",
        yardsticks.measure,
        yardsticks.Settings(),
        yardsticks.Settings(networks=("single",), controllers=("fixed", "max-pressure"), seeds=2),
        tables.controllers,
        pictures.controllers,
    ),
    "cologne1": training(
        "One signal: cologne1",
        learning.Settings(scenario="resco:cologne1", minutes=5.0, moments=(60.0, 300.0), runs=5),
        _QUICK,
    ),
    "cologne8": training(
        "Eight signals: cologne8",
        learning.Settings(scenario="resco:cologne8", minutes=10.0, moments=(120.0, 300.0, 600.0)),
        _QUICK,
    ),
    "grid4x4": training(
        "Sixteen signals: RESCO's grid4x4",
        learning.Settings(scenario="resco:grid4x4", minutes=10.0, moments=(120.0, 300.0, 600.0)),
        _QUICK,
    ),
    "ingolstadt21": training(
        "Twenty-one signals: ingolstadt21",
        learning.Settings(scenario="resco:ingolstadt21", minutes=20.0, moments=(300.0, 600.0, 1200.0), runs=3),
        _QUICK,
    ),
    "transfer": training(
        "A map that it has never seen",
        learning.Settings(
            scenario="resco:cologne1,resco:grid4x4",
            minutes=10.0,
            moments=(),
            runs=3,
            judged_on=("resco:cologne8", "resco:ingolstadt21", "resco:arterial4x4", "resco:cologne1", "resco:grid4x4"),
        ),
        learning.Settings(
            scenario="single,arterial", minutes=0.1, moments=(), runs=2, judged_on=("single",), envs=2, seeds=2
        ),
    ),
    "rival": Part(
        "Side by side with sumo-rl and PPO",
        rival.measure,
        rival.Settings(),
        rival.Settings(network="single", moments=(25.0,), variants=("short",), own_runs=1, envs=2, seeds=1),
        tables.side_by_side,
        pictures.moments,
        "At each moment the median of our training runs counts, and of theirs the best of several settings, with one "
        "run each. All of these are PPO with its MLP over libsumo, without the figures that sumo-rl would gather for "
        "people; a new seed for every episode. The full delay has vehicles that never got in in it.",
    ),
    "ablation": Part(
        "What matters",
        ablation.measure,
        ablation.Settings(),
        ablation.Settings(
            scenario="single", decisions=300, runs=1, variants=("as it is", "one step per update"), seeds=2
        ),
        tables.variants,
        pictures.variants,
        f"Runs on cologne1 that differ in one setting, after {ablation.Settings.decisions:,} decisions, early on: "
        "serial, and so reproducible to the bit on one machine. The last checkpoints, over "
        f"{ablation.Settings.seeds} episodes with seeds from {ablation.FIRST_SEED} on; intervals are over "
        f"{ablation.Settings.runs} training runs, so that only "
        "large differences say something.",
    ),
}
