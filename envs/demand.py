"""The demand of a generated scenario: each road into the grid has its routes, and a flow whose rate changes over time.

Each vehicle draws its route, and the gaps between vehicles are exponential; both are drawn at run time, so that SUMO's
--seed decides the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from envs import grid
from envs.grid import OPPOSITE, Place
from envs.recipes import Inflow, Recipe

SLICE = 300  # s for which a flow's rate is constant


def lines(recipe: Recipe) -> Iterator[str]:
    """Yield the lines of the route file: for each road into the grid its routes, then the flows by time."""
    roads = [(side, index) for side in recipe.inflow for index in range(grid.roads(recipe, side))]
    yield "<routes>"
    yield '    <vType id="car" speedDev="0.1"/>'
    for side, index in roads:
        yield f'    <routeDistribution id="{side}{index}">'
        for edges, share in routes(recipe, side, index):
            yield f'        <route edges="{" ".join(edges)}" probability="{share:.5f}"/>'
        yield "    </routeDistribution>"
    for begin in range(0, recipe.duration, SLICE):
        for side, index in roads:
            rate = _rate(recipe.inflow[side], begin + SLICE / 2, recipe.rush_width) / 3600  # vehicles per second
            yield (
                f'    <flow id="{side}{index}.{begin}" type="car" route="{side}{index}" begin="{begin}"'
                f' end="{begin + SLICE}" period="exp({rate:.5f})" departLane="best" departSpeed="max"/>'
            )
    yield "</routes>"


def routes(recipe: Recipe, side: str, index: int) -> Iterator[tuple[list[str], float]]:
    """Yield the routes from one road into the grid: the edges, and the share of the vehicles that drive there.

    Of those that go across the grid, the more leave at an exit the nearer it is to straight ahead, and they change
    street at any crossing alike. The others drive straight on and turn once, to their exit on one of the other sides.
    """
    start = grid.gate(recipe, side, index)
    for exit_side in OPPOSITE:
        if exit_side == side:
            continue
        across = exit_side == OPPOSITE[side]
        exits = range(grid.roads(recipe, exit_side))
        weights = [1 / (1 + 2 * abs(index - exit_index)) if across else 1.0 for exit_index in exits]
        side_share = recipe.through if across else (1 - recipe.through) / 2
        for exit_index, weight in zip(exits, weights, strict=True):
            goal = grid.gate(recipe, exit_side, exit_index)
            turns = _street_changes(start, goal, side) if across else [[_ahead(start, goal, side)]]
            for corners in turns:
                crossings = [grid.name(recipe, place) for place in _straight([start, *corners, goal])]
                nodes = [f"{side}{index}", *crossings, f"{exit_side}{exit_index}"]
                yield [a + b for a, b in pairwise(nodes)], side_share * weight / sum(weights) / len(turns)


def _rate(inflow: Inflow, moment: float, width: float) -> float:
    """Vehicles per hour at a moment (s): a bell over the base."""
    return inflow.base + inflow.rush * math.exp(-0.5 * ((moment - inflow.at) / width) ** 2)


def _ahead(start: Place, goal: Place, side: str) -> Place:
    """The crossing as far ahead as the goal is, seen from the side where the vehicle entered."""
    return (goal[0], start[1]) if side in ("left", "right") else (start[0], goal[1])


def _street_changes(start: Place, goal: Place, side: str) -> list[list[Place]]:
    """The pairs of corners over which a vehicle gets to the street of its goal; none where it is there already."""
    (x0, y0), (x1, y1) = start, goal
    if side in ("left", "right"):
        return [[(x, y0), (x, y1)] for x in _range(x0, x1)] if y0 != y1 else [[]]
    return [[(x0, y), (x1, y)] for y in _range(y0, y1)] if x0 != x1 else [[]]


def _straight(corners: list[Place]) -> list[Place]:
    """All crossings on the way from corner to corner, each once."""
    way = [corners[0]]
    for (x0, y0), (x1, y1) in pairwise(corners):
        way += ([(x, y0) for x in _range(x0, x1)] if y0 == y1 else [(x0, y) for y in _range(y0, y1)])[1:]
    return way


def _range(first: int, last: int) -> list[int]:
    """The numbers from first to last, up or down, both included."""
    step = 1 if last >= first else -1
    return list(range(first, last + step, step))
