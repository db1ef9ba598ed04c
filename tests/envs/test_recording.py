"""What a camera keeps, against what TraCI says of the same instants."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.backends import open_session
from envs.errors import SumoError
from envs.recording import GREEN, RED, YELLOW, Camera, Lens
from envs.scenarios import find
from envs.session import Session, Snapshot

LETTERS = {"r": RED, "s": RED, "y": YELLOW, "u": YELLOW, "o": YELLOW, "g": GREEN, "G": GREEN}


@given(
    period=st.sampled_from([0.3, 0.5, 1.0, 3.0, 7.0]),
    interval=st.sampled_from([0.5, 1.0, 5.0, 10.0]),
    begin=st.floats(100.0, 130.0).map(round),
    length=st.integers(0, 30),
)
def test_looking_between_decisions_misses_no_moment_and_repeats_none(
    period: float, interval: float, begin: float, length: int
) -> None:
    lens = Lens(begin, begin + length, period)
    looked: list[float] = []
    now = 100.0
    while now < 170.0:
        looked += [*lens.between(now, now + interval), now + interval]
        now += interval
    wanted = begin + period * np.arange(int(length / period) + 1)
    wanted = wanted[wanted > 100.0]
    assert all(min(abs(moment - one) for one in looked) < 1e-6 for moment in wanted)
    assert np.diff(looked).min() > 1e-6


def drive(session: Session, camera: Camera, seconds: float) -> list[Snapshot]:
    session.reset(1)
    snapshots = [session.observe()]
    camera.look(snapshots[0])
    while snapshots[-1].time < session.scenario.begin + seconds:
        session.send([], snapshots[-1].time + 1.0)
        snapshots.append(session.receive())
        camera.look(snapshots[-1])
    return snapshots


@pytest.mark.parametrize(
    ("period", "seconds"), [(1.5, [0, 2, 3, 5, 6, 8, 9]), (2.5, [0, 3, 5, 8, 10]), (0.5, range(11))]
)
def test_a_period_that_is_no_multiple_of_the_step_loses_no_frame(period: float, seconds: Sequence[float]) -> None:
    """SUMO stops at the end of the step that a moment is in, here a whole second."""
    session = open_session(find("single"), "traci")
    lens = Lens(0.0, 10.0, period)
    session.reset(1)
    camera = Camera(session, lens)
    camera.look(session.observe())
    for now in range(0, 10, 5):
        for moment in (*lens.between(now, now + 5.0), now + 5.0):
            session.send([], moment)
            camera.look(session.receive())
    session.close()
    assert camera.recording("fixed", 1).times.tolist() == list(seconds)


@pytest.mark.parametrize("backend", ["traci", "libsumo"])
def test_every_vehicle_is_followed_and_every_light_kept(backend: str) -> None:
    scenario = find("resco:cologne3")
    session = open_session(scenario, backend)
    client, begin = session.client, scenario.begin
    camera = Camera(session, Lens(begin + 60.0, begin + 120.0, 2.0))
    # The same instants once more, asked for vehicle by vehicle.
    asked: list[dict[str, tuple[float, ...]]] = []
    states: list[str] = []
    session.reset(1)
    signals = sorted(client.trafficlight.getIDList())
    for _ in range(31):
        client.simulationStep(begin + 60.0 + 2.0 * len(asked))
        vehicles = client.vehicle
        asked.append(
            {
                name: (*vehicles.getPosition(name), vehicles.getSpeed(name), vehicles.getLanePosition(name))
                for name in vehicles.getIDList()
            }
        )
        states.append("".join(client.trafficlight.getRedYellowGreenState(name) for name in signals))
    drive(session, camera, 150.0)
    recording = camera.recording("fixed", 1)
    links = [link for name in signals for group in client.trafficlight.getControlledLinks(name) for link in group]
    session.close()
    assert recording.times.tolist() == [begin + 60.0 + 2.0 * n for n in range(31)]
    names: dict[int, str] = {}
    for instant, vehicles in enumerate(asked):
        now = slice(*recording.start[instant : instant + 2])
        seen = np.column_stack([recording.place[now], recording.speed[now], recording.position[now]])
        np.testing.assert_allclose(seen, np.array(list(map(vehicles.get, sorted(vehicles)))), rtol=1e-5, atol=1e-4)
        for number, name in zip(recording.vehicle[now].tolist(), sorted(vehicles), strict=True):
            assert names.setdefault(number, name) == name
    assert len(names) == len(recording.routes) == len({name for vehicles in asked for name in vehicles})
    ground = recording.ground
    assert [(ground.lane_ids[a], ground.lane_ids[b]) for a, b in ground.links] == [link[:2] for link in links]
    assert recording.lights.tolist() == [[LETTERS[letter] for letter in state] for state in states]
    assert len(set(states)) > 3


def test_a_way_leads_from_the_end_of_one_lane_to_the_beginning_of_another() -> None:
    session = open_session(find("resco:cologne3"), "traci")
    ground = Camera(session, Lens(0.0, 1.0, 1.0))._ground
    session.close()
    assert len(ground.ways) > 50
    for before, beyond, between in ground.ways:
        assert between
        corners = [ground.shapes[lane] for lane in (before, *between, beyond)]
        for one, next_one in pairwise(corners):
            assert np.linalg.norm(one[-1] - next_one[0]) < 1.0


def test_nothing_seen_and_vehicles_that_cannot_be_told_apart_are_said() -> None:
    session = open_session(find("single"), "traci")
    session.reset(1)
    camera = Camera(session, Lens(0.0, 10.0, 1.0))
    with pytest.raises(ValueError, match="was not there yet, or over"):
        camera.recording("fixed", 1)
    with pytest.raises(SumoError, match="at 0 s SUMO names 0 vehicles and shows 1"):
        camera.look(Snapshot(0.0, np.zeros((1, 8), np.float32), np.zeros(1, np.int32)))
    session.close()
