"""A part of an episode, kept instant by instant: where every vehicle was, and what every light showed.

For pictures and films. A ``Camera`` looks at a session, and a ``Recording`` is what it has seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.errors import SumoError
from envs.network import is_road
from envs.session import LANE_POSITION, SPEED, Session, Snapshot, X, Y

RED, YELLOW, GREEN = range(3)
_TINY = 1e-6
_COLOURS = np.full(256, RED, np.uint8)  # of the letters of a signal's state
_COLOURS[[ord(letter) for letter in "yYuoO"]] = YELLOW  # a light that is off leaves it to the drivers
_COLOURS[[ord(letter) for letter in "gG"]] = GREEN


@dataclass(frozen=True, slots=True)
class Lens:
    """From when to when to record, and how often; s of the simulation's clock."""

    begin: float
    end: float
    period: float

    def between(self, after: float, until: float) -> list[float]:
        """The moments to look at that lie between two others, s."""
        first = max(0, self._number(after) + 1)
        last = math.ceil((min(until, self.end + self.period) - self.begin) / self.period - _TINY) - 1
        return [self.begin + number * self.period for number in range(first, last + 1)]

    def after(self, time: float) -> float:
        """The first moment to look at after this one, s."""
        return self.begin + max(0, self._number(time) + 1) * self.period

    def _number(self, time: float) -> int:
        """Of the last moment to look at by then."""
        return math.floor((time - self.begin) / self.period + _TINY)


@dataclass(frozen=True, eq=False, slots=True)
class Ground:
    """What stands still: L lanes, those inside junctions included, and K links that lights command.

    ``shapes`` are polylines float32 [n, 2] in m, ``lengths`` float32 [L] in m. ``ways`` lead from a road's lane to the
    next over the lanes inside the junction: (lane, lane beyond, lanes between). ``links`` int32 [K, 2] are the lanes
    before and behind each light; a lane may have several.
    """

    lane_ids: tuple[str, ...]
    shapes: tuple[NDArray[np.float32], ...]
    lengths: NDArray[np.float32]
    ways: tuple[tuple[int, int, tuple[int, ...]], ...]
    links: NDArray[np.int32]

    @property
    def roads(self) -> tuple[str, ...]:
        """The road of each lane, [L]."""
        return tuple(lane.rpartition("_")[0] for lane in self.lane_ids)


@dataclass(frozen=True, eq=False, slots=True)
class Recording:
    """What a camera has seen of one controller and seed: T instants, N sightings of vehicles in all.

    Sightings ``start[t]`` to ``start[t + 1]`` are those of ``times[t]`` (s). ``vehicle`` int32 [N] numbers vehicles by
    their first appearance, and ``routes`` has the roads that each of them meant to take; ``place`` float32 [N, 2] and
    ``position`` float32 [N] (on the lane) are in m, ``speed`` float32 [N] in m/s, ``lane`` int32 [N], -1 off the
    network. ``lights`` uint8 [T, K] are ``RED``, ``YELLOW`` or ``GREEN``.
    """

    controller: str
    seed: int
    ground: Ground
    times: NDArray[np.float64]
    start: NDArray[np.int64]
    vehicle: NDArray[np.int32]
    place: NDArray[np.float32]
    speed: NDArray[np.float32]
    lane: NDArray[np.int32]
    position: NDArray[np.float32]
    lights: NDArray[np.uint8]
    routes: tuple[tuple[str, ...], ...]


class Camera:
    """Keeps what a live session shows, whenever its lens says so."""

    def __init__(self, session: Session, lens: Lens) -> None:
        self._lens = lens
        self._due = lens.begin  # s
        self._client = session.client
        self._signals = sorted(self._client.trafficlight.getIDList())
        lookup = {name: number for number, name in enumerate(session.network.lane_ids)}
        links, self._chosen = _links(self._client, self._signals, lookup)
        self._ground = Ground(
            lane_ids=session.network.lane_ids,
            shapes=tuple(np.array(self._client.lane.getShape(name), np.float32)[:, :2] for name in lookup),
            lengths=session.network.lane_length,
            ways=tuple(_ways(self._client, lookup)),
            links=links,
        )
        self._numbers: dict[str, int] = {}  # of vehicles
        self._routes: list[tuple[str, ...]] = []
        self._seen: list[tuple[Snapshot, NDArray[np.int32], NDArray[np.uint8]]] = []

    def look(self, snapshot: Snapshot) -> None:
        """Keep the present instant if it is due. Raises ``SumoError`` where its vehicles cannot be told apart."""
        if not self._due - _TINY <= snapshot.time <= self._lens.end + _TINY:
            return
        self._due = self._lens.after(snapshot.time)
        names = sorted(self._client.vehicle.getIDList())
        if len(names) != len(snapshot.lanes):
            raise SumoError(f"at {snapshot.time:g} s SUMO names {len(names)} vehicles and shows {len(snapshot.lanes)}")
        for name in names:
            if name not in self._numbers:
                self._numbers[name] = len(self._numbers)
                self._routes.append(tuple(self._client.vehicle.getRoute(name)))
        states = "".join(self._client.trafficlight.getRedYellowGreenState(name) for name in self._signals)
        colours = _COLOURS[np.frombuffer(states.encode(), np.uint8)[self._chosen]]
        self._seen.append((snapshot, np.array([self._numbers[name] for name in names], np.int32), colours))

    def recording(self, controller: str, seed: int) -> Recording:
        """All that it has kept; raises ``ValueError`` where that is nothing."""
        if not self._seen:
            raise ValueError(f"{self._lens}: the episode was not there yet, or over")
        snapshots, numbers, lights = zip(*self._seen, strict=True)
        vehicles = np.concatenate([snapshot.vehicles for snapshot in snapshots])
        return Recording(
            controller=controller,
            seed=seed,
            ground=self._ground,
            times=np.array([snapshot.time for snapshot in snapshots]),
            start=np.concatenate([[0], np.cumsum([len(own) for own in numbers])]).astype(np.int64),
            vehicle=np.concatenate(numbers),
            place=vehicles[:, [X, Y]],
            speed=vehicles[:, SPEED],
            lane=np.concatenate([snapshot.lanes for snapshot in snapshots]),
            position=vehicles[:, LANE_POSITION],
            lights=np.stack(lights),
            routes=tuple(self._routes),
        )


def _links(client: Any, signals: Sequence[str], lookup: dict[str, int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The links of roads [K, 2] that lights command, and the letter of each in all signals' states together, [K]."""
    links, letters, offset = [], [], 0
    for signal in signals:
        for light, group in enumerate(client.trafficlight.getControlledLinks(signal)):
            roads = [(a, b) for a, b, _ in group if is_road(a) and is_road(b)]
            links += [(lookup[a], lookup[b]) for a, b in roads]
            letters += [offset + light] * len(roads)
        offset += len(client.trafficlight.getRedYellowGreenState(signal))
    return np.array(links, np.int32).reshape(-1, 2), np.array(letters, np.int64)


def _ways(client: Any, lookup: dict[str, int]) -> list[tuple[int, int, tuple[int, ...]]]:
    """Every way from a road's lane to the next: (lane, lane beyond, lanes inside the junction)."""
    found = []
    for lane, number in lookup.items():
        if not is_road(lane):
            continue
        for beyond, _, _, _, inside, *_ in client.lane.getLinks(lane):
            between: list[int] = []
            while inside in lookup and lookup[inside] not in between:
                between.append(lookup[inside])
                inside = next((link[4] for link in client.lane.getLinks(inside)), "")
            if beyond in lookup:
                found.append((number, lookup[beyond], tuple(between)))
    return found
