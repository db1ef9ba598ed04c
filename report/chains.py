"""A chain of roads through signals, unrolled: how far along it a vehicle is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from envs.recording import RED, Ground, Recording

Turn = tuple[str, str]  # from one road into another


@dataclass(frozen=True, eq=False, slots=True)
class Chain:
    """Roads that follow each other.

    ``offset`` float64 [L] is how far from the chain's beginning each lane begins, m, NaN for those beside it. ``stops``
    are its stop lines: how far along, m, and which links' lights are meant, int64 [k].
    """

    roads: tuple[str, ...]
    offset: NDArray[np.float64]
    stops: tuple[tuple[float, NDArray[np.int64]], ...]

    def along(self, recording: Recording) -> NDArray[np.float64]:
        """How far along the chain each sighting is, m, float64 [N]; NaN beside it."""
        offset = np.append(self.offset, np.nan)  # lane -1 finds the last entry
        return offset[recording.lane] + recording.position

    def colours(self, recording: Recording, stop: int) -> NDArray[np.uint8]:
        """What a stop line shows at each instant, uint8 [T]: the best of its lights."""
        return recording.lights[:, self.stops[stop][1]].max(axis=1, initial=RED)


def busiest_chain(recording: Recording) -> Chain:
    """Of all routes that vehicles take, the one whose turns at signals carry the most vehicles.

    Raises ``ValueError`` where no route leads through a signal.
    """
    roads = recording.ground.roads
    lights: dict[Turn, list[int]] = defaultdict(list)
    for link, (before, behind) in enumerate(recording.ground.links):
        lights[roads[before], roads[behind]].append(link)
    load = Counter(turn for route in recording.routes for turn in pairwise(route) if turn in lights)
    # A route that comes by twice has no place on a line.
    routes = {route for route in recording.routes if len(set(route)) == len(route) and load.keys() & {*pairwise(route)}}
    if not routes:
        raise ValueError("no vehicle's route leads through a signal")
    busiest = max(sorted(routes), key=lambda route: sum(load[turn] for turn in pairwise(route)))
    return unroll(recording.ground, busiest, lights)


def unroll(ground: Ground, route: Sequence[str], lights: Mapping[Turn, Sequence[int]]) -> Chain:
    """Lay a route out on a line; ``lights`` are the links of each turn at a signal."""
    lanes: dict[str, list[int]] = defaultdict(list)
    for lane, road in enumerate(ground.roads):
        lanes[road].append(lane)
    inside: dict[Turn, list[tuple[int, ...]]] = defaultdict(list)
    for before, behind, between in ground.ways:
        inside[ground.roads[before], ground.roads[behind]].append(between)
    offset = np.full(len(ground.lane_ids), np.nan)
    stops, at = [], 0.0
    for road, following in pairwise((*route, "")):
        offset[lanes[road]] = at
        at += float(ground.lengths[lanes[road]].max())
        if (road, following) in lights:
            stops.append((at, np.array(lights[road, following], np.int64)))
        ends = [at]
        for between in inside[road, following]:
            begins = at + np.cumsum([0.0, *ground.lengths[list(between)]])
            offset[list(between)] = begins[:-1]
            ends.append(float(begins[-1]))
        at = max(ends)
    return Chain(tuple(route), offset, tuple(stops))
