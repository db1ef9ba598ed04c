"""Frames of real traffic, recorded once and used again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.signals import Frame
from envs.simulation import Simulation


def record(
    simulation: Simulation, choose: Callable[[Frame], Sequence[int] | NDArray[np.integer]], seed: int = 1
) -> list[Frame]:
    """The frames of one episode at which somebody decided; ``choose`` gives the green of each signal, int [S]."""
    frames = [simulation.reset(seed)]
    while True:
        simulation.send(choose(frames[-1]))
        outcome = simulation.receive()
        if outcome.terminated or outcome.truncated:
            return frames
        frames.append(outcome.frame)
