"""What an episode was like in numbers, by SUMO's own record of every trip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.trips import Trips

COURSE_BIN = 300.0  # s


@dataclass(frozen=True, slots=True)
class Episode:
    """What one controller made of one seed's traffic.

    Means over all vehicles that entered the network, those still under way included, s: ``delay`` is time lost
    against driving freely plus the wait to enter; ``travel_time``; ``waiting_time`` is spent standing; ``stops`` is how
    often a vehicle came to stand, and ``co2`` is in g. ``never_departed`` vehicles found no place on their first road
    until the end; ``full_delay`` counts their wait too.

    ``queue`` is the mean number of standing vehicles, ``throughput`` vehicles that arrived per hour,
    ``worst_waiting`` the longest time (s) that a vehicle stood in all. ``gridlocked`` is what
    ``envs.jams.GRIDLOCK`` says. ``course`` is the mean delay (s) of all vehicles that meant to depart in each
    five minutes from the beginning on, None where there is none. ``wall`` is how long the episode took, s.
    """

    controller: str
    seed: int
    delay: float
    full_delay: float
    travel_time: float
    waiting_time: float
    worst_waiting: float
    queue: float
    stops: float
    co2: float
    throughput: float
    departed: int
    arrived: int
    never_departed: int
    teleports: int
    collisions: int
    gridlocked: bool
    course: tuple[float | None, ...]
    wall: float


def measure(
    controller: str,
    seed: int,
    trips: Trips,
    window: tuple[float, float],
    *,
    teleports: int,
    collisions: int,
    gridlocked: bool,
    wall: float,
) -> Episode:
    """Sum up the trips of an episode that lasted from the beginning to the end of ``window`` (s).

    Raises ``ValueError`` where no vehicle entered the network.
    """
    begin, end = window
    departed = trips.departed
    if not departed.any():
        raise ValueError(f"no vehicle of {len(departed)} has entered the network")
    delay = trips.delay  # s
    waiting = trips.waiting_time[departed]  # s
    return Episode(
        controller=controller,
        seed=seed,
        delay=float(delay[departed].mean()),
        full_delay=float(delay.mean()),
        travel_time=float(trips.duration[departed].mean()),
        waiting_time=float(waiting.mean()),
        worst_waiting=float(waiting.max()),
        queue=float(waiting.sum() / (end - begin)),
        stops=float(trips.stops[departed].mean()),
        co2=float(trips.co2[departed].mean()),
        throughput=float(trips.arrived.sum() / (end - begin) * 3600.0),
        departed=int(departed.sum()),
        arrived=int(trips.arrived.sum()),
        never_departed=int((~departed).sum()),
        teleports=teleports,
        collisions=collisions,
        gridlocked=gridlocked,
        course=course(trips, begin, end),
        wall=wall,
    )


def course(trips: Trips, begin: float, end: float) -> tuple[float | None, ...]:
    """The mean delay (s) of the vehicles that meant to depart in each ``COURSE_BIN`` s; None where there is none.

    Delays of vehicles that have not arrived are cut off by the end, so that the last values are low ones.
    """
    count = int(np.ceil((end - begin) / COURSE_BIN - 1e-9))
    place = np.clip(((trips.planned(end) - begin) / COURSE_BIN).astype(int), 0, count - 1)
    vehicles = np.bincount(place, minlength=count)
    total = np.bincount(place, trips.delay, minlength=count)
    return tuple(float(t) / int(n) if n else None for t, n in zip(total, vehicles, strict=True))
