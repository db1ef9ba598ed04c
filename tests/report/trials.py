"""Episodes of two controllers, made up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.image import imread


@dataclass(frozen=True)
class Trial:
    """An episode with a few figures."""

    controller: str
    seed: int
    delay: float
    waiting_time: float = 10.0
    travel_time: float = 80.0
    arrived: int = 1500
    course: tuple[float | None, ...] = (None, 10.0, 30.0, 20.0)


@dataclass(frozen=True)
class WatchedTrial(Trial):
    """An episode of which somebody has looked whether it is gridlocked."""

    gridlocked: bool = False


FIXED = [Trial("fixed", seed, delay) for seed, delay in enumerate([90.0, 92.5, 88.0, 95.0, 91.0], start=1)]
POLICY = [
    replace(Trial("policy", seed, delay), course=(None, 5.0, 5.0 + seed, None))
    for seed, delay in enumerate([40.0, 44.0, 39.0, 47.5, 41.0], start=1)
]
TRIALS = FIXED + POLICY


def inked(path: Path, colour: str = "blue") -> np.ndarray:
    """Where a picture is as blue or as orange as a first or second line is, bool [H, W]."""
    red, green, blue = np.moveaxis(imread(path)[..., :3], -1, 0)
    if colour == "orange":
        return (red > 0.9) & (blue < 0.3) & (green < 0.65)
    return (blue > 0.6) & (red < 0.3)
