"""SUMO's record of trips: read as a second parser reads it, and whole or refused."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from envs.backends import open_session
from envs.errors import SumoError
from envs.scenarios import Scenario, find
from envs.trips import read_trips, trip_options

TRIP = (
    '<tripinfo id="{id}" depart="1.00" departDelay="0.50" arrival="{arrival}"'
    ' duration="9.00" waitingTime="2.00" waitingCount="2" timeLoss="3.25">{inside}</tripinfo>'
)
EMISSIONS = '<emissions CO_abs="1.0" CO2_abs="2500.0" fuel_abs="3.0"/>'


def record(*trips: str, end: str = "</tripinfos>") -> io.BytesIO:
    return io.BytesIO(("<tripinfos>" + "".join(trips) + end).encode())


def simulate(scenario: Scenario, seed: int, until: float, file: IO[bytes]) -> dict[str, float]:
    session = open_session(scenario, "traci", extra_options=trip_options(file))
    session.reset(seed)
    session.send([], until)
    session.receive()
    totals = session.totals()
    session.finish()
    return totals


def test_it_reads_what_a_second_parser_reads() -> None:
    with tempfile.TemporaryFile() as file:
        totals = simulate(find("single"), seed=2, until=900.0, file=file)
        trips = read_trips(file)
        file.seek(0)
        text = file.read().decode()
    found = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in re.findall(r"<tripinfo (.*?)>", text, re.DOTALL)]
    co2 = [float(mg) / 1000 for mg in re.findall(r'CO2_abs="([^"]*)"', text)]
    assert len(found) == len(trips.depart) > 50
    assert trips.co2[trips.departed].tolist() == co2
    assert min(co2) >= 0
    assert np.median(co2) > 10
    assert trips.stops.tolist() == [float(trip["waitingCount"]) for trip in found]
    for column, name in (("timeLoss", "time_loss"), ("departDelay", "depart_delay"), ("waitingTime", "waiting_time")):
        assert getattr(trips, name).tolist() == [float(trip[column]) for trip in found]
    assert trips.arrived.sum() == totals["arrived"]
    assert trips.departed.sum() == totals["departed"]
    assert (~trips.departed).sum() == totals["waiting_to_depart"]
    arrived = (trips.time_loss + trips.depart_delay)[trips.arrived]
    assert arrived.mean() == pytest.approx(totals["time_loss"] + totals["depart_delay"], abs=0.02)
    np.testing.assert_allclose((trips.arrival - trips.depart)[trips.arrived], trips.duration[trips.arrived], atol=0.011)


def test_vehicles_under_way_and_those_that_found_no_place_are_in_it(lone_vehicle: Scenario) -> None:
    with tempfile.TemporaryFile() as file:
        simulate(lone_vehicle, seed=1, until=20.0, file=file)
        trips = read_trips(file)
    assert trips.departed.tolist() == [True]
    assert trips.arrived.tolist() == [False]
    assert trips.duration.tolist() == [pytest.approx(15.0, abs=1.01)]


def test_vehicles_meant_to_depart_when_their_demand_says_so_even_where_there_was_no_room(tmp_path: Path) -> None:
    network = find("single").config.with_name("single.net.xml")
    meant = [float(second) for second in range(60)]  # one a second, on one lane
    routes = "".join(
        f'<trip id="{n}" depart="{at}" from="left0A0" to="A0right0" departLane="0"/>' for n, at in enumerate(meant)
    )
    (tmp_path / "crowd.rou.xml").write_text(f"<routes>{routes}</routes>")
    config = tmp_path / "crowd.sumocfg"
    config.write_text(
        f'<configuration><net-file value="{network}"/><route-files value="crowd.rou.xml"/>'
        '<begin value="0"/><end value="61"/></configuration>'
    )
    with tempfile.TemporaryFile() as file:
        simulate(find(str(config)), seed=1, until=61.0, file=file)
        trips = read_trips(file)
    assert 10 < trips.departed.sum() < len(meant), "the crowd must be larger than the road"
    assert sorted(trips.planned(61.0).tolist()) == pytest.approx(meant, abs=1.01)


def test_a_new_episode_of_the_same_session_replaces_the_record(lone_vehicle: Scenario) -> None:
    with tempfile.TemporaryFile() as file:
        session = open_session(lone_vehicle, "traci", extra_options=trip_options(file))
        for seed in (1, 2):
            session.reset(seed)
            session.send([], 200.0)
            session.receive()
        session.finish()
        assert read_trips(file).arrived.tolist() == [True]


def test_made_up_records() -> None:
    first = TRIP.format(id="a", arrival="10.00", inside=EMISSIONS)
    trips = read_trips(record(first, TRIP.format(id="b", arrival="-1.00", inside=""), "<x/>"))
    assert trips.arrived.tolist() == [True, False]
    assert trips.time_loss.tolist() == [3.25, 3.25]
    assert trips.stops.tolist() == [2.0, 2.0]
    assert trips.co2.tolist() == [2.5, 0.0], "a record of emissions belongs to the trip around it"
    assert trips.planned(99.0).tolist() == [0.5, 0.5]
    assert len(read_trips(record()).depart) == 0


@pytest.mark.parametrize(
    "broken",
    [
        record(TRIP.format(id="a", arrival="10.00", inside=""), end=""),
        record(TRIP.format(id="a", arrival="soon", inside="")),
        record('<tripinfo id="a" depart="1.00"/>'),
        io.BytesIO(b""),
    ],
    ids=["cut off", "no number", "a column is missing", "empty"],
)
def test_a_record_that_is_not_whole_is_refused(broken: io.BytesIO) -> None:
    with pytest.raises(SumoError, match="not whole"):
        read_trips(broken)
