"""The static side of a scenario: lanes, signals and their green phases, as arrays.

It is read from a running SUMO, not from the network file, so that additional files, programs and options that the
user's configuration brings in count as well.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.programs import green_states

_NEIGHBOUR_REACH = 1000.0  # m: signals farther apart along the road than this are no neighbours
APPROACH = 300.0  # m before a stop line within which a lane leads to it


@dataclass(frozen=True, slots=True)
class Signal:
    """One traffic light: its green phases, as link states, and which lanes each of them serves."""

    id: str
    greens: tuple[str, ...]
    served: tuple[tuple[int, ...], ...]  # per green phase: indices of the lanes it lets go
    shares: tuple[tuple[tuple[float, float], ...], ...]  # of such a lane's ways: with priority, without
    movements: tuple[tuple[tuple[int, int], ...], ...]  # per green phase: the (lane, lane beyond) pairs it lets go
    leaving: tuple[int, ...]  # indices of the lanes on the far side
    programs: tuple[str, ...] = ()  # names of all its programs; SUMO may switch between several by the time of day
    why_fixed: str = ""  # why it cannot be controlled; empty where it can

    @property
    def incoming(self) -> tuple[int, ...]:
        """Indices of all lanes that any of its green phases serves."""
        return tuple(sorted({lane for lanes in self.served for lane in lanes}))


@dataclass(frozen=True, eq=False)
class Network:
    """Lanes and signals of one scenario.

    ``lane_length`` m, ``lane_speed`` m/s and ``lane_index`` (0: rightmost) are [L]; ``bounds`` is
    (x min, y min, x max, y max) in m. ``signals`` are those that can be controlled, ``fixed_signals`` the rest.
    Phases of all signals are numbered through: signal s owns phases ``phase_start[s]`` to ``phase_start[s + 1]``.

    Roads of real cities are cut into pieces, and the last one before a stop line may be shorter than a car. So lanes
    approach a phase when they lead to a stop line that it serves, over other lanes and junctions without signals, and
    end less than 300 m before it.

    A phase may let go only some of the ways on from a lane. One that it gives priority is protected; on a permissive
    one vehicles yield to others, as when they turn left across the traffic that comes towards them.
    """

    lane_ids: tuple[str, ...]
    lane_length: NDArray[np.float32]
    lane_speed: NDArray[np.float32]
    lane_index: NDArray[np.int16]
    bounds: tuple[float, float, float, float]
    junction: str
    signals: tuple[Signal, ...]
    fixed_signals: tuple[Signal, ...]
    phase_start: NDArray[np.int32]  # [S + 1]
    phase_signal: NDArray[np.int32]  # [P] the signal that owns each phase
    phase_lanes: NDArray[np.int32]  # [K, 2] (phase, lane) pairs: the phase serves the lane
    phase_lane_shares: NDArray[np.float32]  # [K, 2] share of the lane's ways that are protected, and permissive
    approaches: NDArray[np.int32]  # [J, 2] (phase, lane) pairs: the lane leads to the phase, or is served by it
    approach_distance: NDArray[np.float32]  # [J] m from the end of that lane to the stop line
    approach_stop: NDArray[np.int32]  # [J] into phase_lanes: the stop line that it is the distance to
    lane_signal: NDArray[np.int32]  # [L] the signal that a lane leads to, the nearest of several; -1 where none
    neighbours: NDArray[np.int32]  # [M, 2] (from, to): signals that vehicles reach one after the other
    inside: NDArray[np.int32]  # [I, 2] (lane, way on): lanes inside junctions, and the row of ``ways`` they belong to
    inside_start: NDArray[np.float32]  # [I] m from the stop line to the beginning of that lane

    @property
    def num_phases(self) -> int:
        """Green phases of all controllable signals together."""
        return int(self.phase_start[-1])

    @cached_property
    def movements(self) -> NDArray[np.int64]:
        """All (phase, lane before, lane behind) that green phases let go, [K, 3]."""
        pairs = enumerate(pairs for signal in self.signals for pairs in signal.movements)
        rows = [(phase, before, behind) for phase, own in pairs for before, behind in own]
        return np.array(rows, np.int64).reshape(-1, 3)

    @cached_property
    def ways(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ways on over stop lines, (lane before, lane behind) [W, 2] in order; and that of each movement, [K]."""
        ways, of_movement = np.unique(self.movements[:, 1:], axis=0, return_inverse=True)
        return ways, of_movement.reshape(-1)  # NumPy 2.0.0 gives it another shape

    @property
    def on_road(self) -> NDArray[np.bool_]:
        """Which lanes belong to roads, [L]; those inside junctions do not."""
        return np.array([is_road(lane) for lane in self.lane_ids], bool)

    @property
    def road_lanes(self) -> int:
        """Number of lanes of roads."""
        return int(self.on_road.sum())

    @property
    def jam_capacity(self) -> int:
        """Cars that fit into the network bumper to bumper, at 5 m each."""
        return int(self.lane_length.sum() / 5.0) + len(self.lane_ids)


def read_network(client: Any) -> Network:
    """Read the network of a running simulation.

    ``client`` is a ``traci.Connection`` or the ``libsumo`` module: both offer the same getters. A few thousand of
    them are called, once per session, before the first step.
    """
    lane_ids = tuple(client.lane.getIDList())
    lookup = {name: index for index, name in enumerate(lane_ids)}
    length = np.array([client.lane.getLength(name) for name in lane_ids], np.float32)
    speed = np.array([client.lane.getMaxSpeed(name) for name in lane_ids], np.float32)
    index = np.array([int(name.rpartition("_")[2]) for name in lane_ids], np.int16)
    (x_min, y_min), (x_max, y_max) = client.simulation.getNetBoundary()
    signals = [_read_signal(client, name, lookup) for name in sorted(client.trafficlight.getIDList())]
    controllable = tuple(signal for signal in signals if not signal.why_fixed)
    counts = [len(signal.greens) for signal in controllable]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    pairs = [
        (start[s] + phase, lane)
        for s, signal in enumerate(controllable)
        for phase, lanes in enumerate(signal.served)
        for lane in lanes
    ]
    shares = [share for signal in controllable for phase in signal.shares for share in phase]
    following = {lane: _following(client, name, lookup) for name, lane in lookup.items()}
    stops = {lane for signal in signals for lane in signal.incoming}
    ways = _ways_to(stops, following, length)
    approaches, distance, stop = _approaches(pairs, ways)
    lane_signal = _nearest_signals(controllable, ways, len(lane_ids))
    inside, inside_start = _inside(controllable, following, lane_ids, length)
    return Network(
        lane_ids=lane_ids,
        lane_length=length,
        lane_speed=speed,
        lane_index=index,
        bounds=(x_min, y_min, x_max, y_max),
        junction=min(client.junction.getIDList()),
        signals=controllable,
        fixed_signals=tuple(signal for signal in signals if signal.why_fixed),
        phase_start=start,
        phase_signal=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        phase_lanes=np.array(pairs, np.int32).reshape(-1, 2),
        phase_lane_shares=np.array(shares, np.float32).reshape(-1, 2),
        approaches=approaches,
        approach_distance=distance,
        approach_stop=stop,
        lane_signal=lane_signal,
        neighbours=_neighbours(controllable, following, length),
        inside=inside,
        inside_start=inside_start,
    )


def _read_signal(client: Any, name: str, lookup: dict[str, int]) -> Signal:
    """Green phases of the program that the signal runs, with the lanes behind each link."""
    program = client.trafficlight.getProgram(name)
    logics = client.trafficlight.getAllProgramLogics(name)
    states: Sequence[str] = next(
        ([p.state for p in logic.phases] for logic in logics if logic.programID == program), []
    )
    greens = green_states(states)
    links = client.trafficlight.getControlledLinks(name)
    lets_go = tuple(_movements(green, links, lookup) for green in greens)
    served = tuple(_served(green, links, lookup) for green in greens)
    shares = tuple(_shares(green, links, lookup) for green in greens)
    leaving = {lookup[link[1]] for group in links for link in group if is_road(link[1])}
    why = ""
    if not states:
        why = f"its program {program!r} has no phases"
    elif not greens:
        why = f"no phase of its program {program!r} is green"
    elif len(greens) == 1:
        why = f"its program {program!r} has one green phase only"
    elif not any(served):
        why = "no phase serves a road lane"
    programs = tuple(logic.programID for logic in logics)
    return Signal(name, greens, served, shares, lets_go, tuple(sorted(leaving)), programs, why)


def _served(green: str, links: Sequence[Any], lookup: dict[str, int]) -> tuple[int, ...]:
    """The road lanes before the links that a state lets go."""
    return tuple(sorted({lookup[link[0]] for link in _going(green, links) if is_road(link[0])}))


def _shares(green: str, links: Sequence[Any], lookup: dict[str, int]) -> tuple[tuple[float, float], ...]:
    """For each lane that a state serves, the share of its ways that are green with priority, and without."""
    ways: dict[int, list[str]] = defaultdict(list)
    for light, group in zip(green, links, strict=False):
        for link in group:
            if is_road(link[0]):
                ways[lookup[link[0]]].append(light)
    return tuple(
        (ways[lane].count("G") / len(ways[lane]), ways[lane].count("g") / len(ways[lane]))
        for lane in _served(green, links, lookup)
    )


def _movements(green: str, links: Sequence[Any], lookup: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """The road lanes before and behind the links that a state lets go."""
    roads = (link for link in _going(green, links) if is_road(link[0]) and is_road(link[1]))
    return tuple(sorted({(lookup[link[0]], lookup[link[1]]) for link in roads}))


def _inside(
    signals: Iterable[Signal],
    following: Mapping[int, Sequence[int]],
    lane_ids: Sequence[str],
    length: NDArray[np.floating],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows (lane, way on) of the lanes inside junctions, and how far past the stop line they begin.

    A way on that waits for others in the middle of a junction, as one to the left does, has two lanes there.
    """
    rows: list[tuple[int, int]] = []
    starts: list[float] = []
    ways = sorted({pair for signal in signals for pairs in signal.movements for pair in pairs})
    for way, (before, behind) in enumerate(ways):
        for first in following[before]:
            lanes = [first]
            # Those on foot may walk in circles.
            while not is_road(lane_ids[lanes[-1]]) and set(following[lanes[-1]][:1]) - set(lanes):
                lanes.append(following[lanes[-1]][0])
            if lanes.pop() == behind:
                rows += [(lane, way) for lane in lanes]
                starts += np.cumsum([0.0, *length[lanes[:-1]]]).tolist() if lanes else []
    return np.array(rows, np.int32).reshape(-1, 2), np.array(starts, np.float32)


def _going(green: str, links: Sequence[Any]) -> Iterator[Any]:
    """The links that a state lets go; a light may command several of them."""
    return (link for light, group in zip(green, links, strict=False) if light in "Gg" for link in group)


def is_road(lane: str) -> bool:
    """Whether a lane is part of a road; lanes inside a junction and pedestrian crossings begin with a colon."""
    return lane != "" and not lane.startswith(":")


def _following(client: Any, lane: str, lookup: Mapping[str, int]) -> list[int]:
    """The lanes that a vehicle may be on after this one, those inside junctions included."""
    links = client.lane.getLinks(lane)
    return sorted({lookup[link[4] or link[0]] for link in links if (link[4] or link[0]) in lookup})


_Ways = dict[int, dict[int, float]]  # stop line → lane → m from the end of the lane to the stop line


def _ways_to(stops: Iterable[int], following: Mapping[int, Sequence[int]], length: NDArray[np.floating]) -> _Ways:
    """The lanes that lead to each stop line, found by walking upstream as far as the one before.

    A stop line is named by the lane that ends there.
    """
    preceding = defaultdict(list)
    for lane, others in following.items():
        for other in others:
            preceding[other].append(lane)
    stops = set(stops)
    return {stop: _upstream(stop, stops, preceding, length) for stop in stops}


def _upstream(
    stop: int, stops: Set[int], preceding: Mapping[int, Sequence[int]], length: NDArray[np.floating]
) -> dict[int, float]:
    """Distances from the ends of lanes to one stop line, by Dijkstra's algorithm."""
    distances: dict[int, float] = {}
    frontier = [(0.0, stop)]
    while frontier:
        distance, lane = heapq.heappop(frontier)
        if lane in distances or distance >= APPROACH:
            continue
        distances[lane] = distance
        for before in preceding.get(lane, ()):
            if before not in stops:
                heapq.heappush(frontier, (distance + float(length[lane]), before))
    return distances


def _approaches(
    pairs: Sequence[tuple[int, int]], ways: _Ways
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """(phase, lane) pairs, their distances, and to which of the (phase, served lane) pairs: the nearest of several."""
    nearest: dict[tuple[int, int], tuple[float, int]] = {}
    for number, (phase, stop) in enumerate(pairs):
        for lane, distance in ways[stop].items():
            nearest[phase, lane] = min((distance, number), nearest.get((phase, lane), (distance, number)))
    found = sorted(nearest)
    distances, stops = zip(*(nearest[pair] for pair in found), strict=True) if found else ((), ())
    return np.array(found, np.int32).reshape(-1, 2), np.array(distances, np.float32), np.array(stops, np.int32)


def _nearest_signals(signals: Sequence[Signal], ways: _Ways, lanes: int) -> NDArray[np.int32]:
    """The signal whose stop line comes next after each lane, [L]; -1 where none does."""
    nearest = np.full(lanes, -1, np.int32)
    distances = np.full(lanes, np.inf)
    for s, signal in enumerate(signals):
        for stop in signal.incoming:
            for lane, distance in ways[stop].items():
                if distance < distances[lane]:
                    nearest[lane], distances[lane] = s, distance
    return nearest


def _neighbours(
    signals: Sequence[Signal], following: Mapping[int, Sequence[int]], length: NDArray[np.floating]
) -> NDArray[np.int32]:
    """Pairs of signals joined by a road that no other signal interrupts, found by walking downstream."""
    arrives_at: dict[int, int] = {lane: s for s, signal in enumerate(signals) for lane in signal.incoming}
    pairs: set[tuple[int, int]] = set()
    for s, signal in enumerate(signals):
        visited: set[int] = set()
        frontier = [(float(length[lane]), lane) for lane in signal.leaving]  # m to the lane's end, nearest first
        heapq.heapify(frontier)
        while frontier:
            travelled, lane = heapq.heappop(frontier)
            if lane in visited:
                continue
            visited.add(lane)
            if lane in arrives_at:
                pairs.add((s, arrives_at[lane]))
            elif travelled < _NEIGHBOUR_REACH:
                for other in following[lane]:
                    heapq.heappush(frontier, (travelled + float(length[other]), other))
    pairs = {(a, b) for a, b in pairs if a != b}
    return np.array(sorted(pairs), np.int32).reshape(-1, 2)
