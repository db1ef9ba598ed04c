"""What the generated scenarios are: how large a grid, and who drives on it where and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Inflow:
    """Vehicles per hour that enter on each road of one side: `base` always, `rush` more at the moment `at` (s)."""

    base: float
    rush: float
    at: float


@dataclass(frozen=True)
class Recipe:
    """A grid of `columns` x `rows` signalised crossings, streets of `block` metres, and who enters it where and when.

    Every signal has four green phases: straight on and right, then left, for either direction.
    """

    description: str
    columns: int
    rows: int
    block: float  # m
    duration: int  # s
    rush_width: float  # s, standard deviation of the rush over time
    inflow: Mapping[str, Inflow]  # by side: left, right, bottom, top
    through: float  # share of the vehicles that leave on the side opposite to where they entered
    cycle: int  # s, of the fixed-time program
    left_green: int  # s


RECIPES: Mapping[str, Recipe] = {
    "grid4x4": Recipe(
        description="16 signals on a 4 x 4 grid, a rush hour from west to east, an hour",
        columns=4,
        rows=4,
        block=250,
        duration=3600,
        rush_width=600,
        inflow={
            "left": Inflow(base=80, rush=220, at=1500),
            "right": Inflow(base=70, rush=60, at=1500),
            "bottom": Inflow(base=50, rush=50, at=1500),
            "top": Inflow(base=50, rush=50, at=1500),
        },
        through=0.7,
        cycle=90,
        left_green=6,
    ),
    "single": Recipe(
        description="1 signal, the tide turns from west-east to south-north, half an hour",
        columns=1,
        rows=1,
        block=300,
        duration=1800,
        rush_width=240,
        inflow={
            "left": Inflow(base=200, rush=600, at=500),
            "right": Inflow(base=200, rush=250, at=500),
            "bottom": Inflow(base=200, rush=600, at=1200),
            "top": Inflow(base=200, rush=250, at=1200),
        },
        through=0.6,
        cycle=90,
        left_green=6,
    ),
    "arterial": Recipe(
        description="5 signals along a main road with five side streets, an hour",
        columns=5,
        rows=1,
        block=300,
        duration=3600,
        rush_width=600,
        inflow={
            "left": Inflow(base=180, rush=250, at=1500),
            "right": Inflow(base=160, rush=110, at=1500),
            "bottom": Inflow(base=50, rush=50, at=1500),
            "top": Inflow(base=50, rush=50, at=1500),
        },
        through=0.6,
        cycle=90,
        left_green=6,
    ),
}
