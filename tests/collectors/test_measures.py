"""An episode in numbers, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from collectors.measures import Episode, course, measure
from envs.trips import Trips


def make_trips(*rows: tuple[float, ...]) -> Trips:
    """(depart, depart delay, arrival, duration, waiting, stops, time loss, CO2) of each vehicle."""
    return Trips(*np.array(rows, np.float64).reshape(-1, 8).T)


ARRIVED = (110.0, 10.0, 200.0, 90.0, 30.0, 2.0, 40.0, 120.0)
UNDER_WAY = (450.0, 50.0, -1.0, 250.0, 90.0, 1.0, 100.0, 60.0)
NEVER = (-1.0, 350.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # meant to depart at 350 s, until the end at 700 s


def summed_up(*rows: tuple[float, ...]) -> Episode:
    trips = make_trips(*rows)
    return measure("fixed", 1, trips, (100.0, 700.0), teleports=3, collisions=0, gridlocked=True, wall=1.0)


def test_means_are_over_who_entered_and_full_delay_over_all() -> None:
    episode = summed_up(ARRIVED, UNDER_WAY, NEVER)
    assert episode.delay == pytest.approx((50 + 150) / 2)
    assert episode.full_delay == pytest.approx((50 + 150 + 350) / 3)
    assert episode.travel_time == pytest.approx((90 + 250) / 2)
    assert episode.waiting_time == 60.0
    assert episode.worst_waiting == 90.0
    assert episode.queue == pytest.approx(120 / 600)
    assert episode.stops == 1.5
    assert episode.co2 == 90.0
    assert episode.throughput == 6.0
    assert (episode.departed, episode.arrived, episode.never_departed) == (2, 1, 1)
    assert (episode.teleports, episode.gridlocked) == (3, True)


def test_the_course_sorts_vehicles_by_when_they_meant_to_depart() -> None:
    trips = make_trips(ARRIVED, UNDER_WAY, NEVER)  # 0, 300 and 250 s after the beginning
    assert course(trips, 100.0, 700.0) == ((50.0 + 350.0) / 2, 150.0)


def test_where_nobody_meant_to_depart_the_course_has_nothing() -> None:
    assert course(make_trips(ARRIVED), 100.0, 1000.0) == (50.0, None, None)
    assert course(make_trips(ARRIVED), 100.0, 1001.0) == (50.0, None, None, None)
    assert course(make_trips(ARRIVED), 105.0, 405.0) == (50.0,), "early ones belong to the first five minutes"


def test_an_episode_without_a_vehicle_has_no_figures() -> None:
    with pytest.raises(ValueError, match="no vehicle of 1 has entered"):
        summed_up(NEVER)
