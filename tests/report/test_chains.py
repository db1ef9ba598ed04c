"""The busiest way through signals, and how far along it everybody is."""

from __future__ import annotations

import numpy as np
import pytest

from envs.recording import GREEN, RED, YELLOW
from report.chains import busiest_chain
from tests.report.recordings import A_LEFT, S_AHEAD, S_SIDE, T_AHEAD, A, B, C, D, drive_by, make_recording


def test_the_busiest_route_through_signals_is_chosen() -> None:
    routes = (("d", "b", "c"), ("a", "b", "c"), ("a", "b"), ("x", "y", "z", "w"), ("b",))
    assert busiest_chain(make_recording([[]], routes=routes)).roads == ("a", "b", "c")
    assert busiest_chain(make_recording([[]], routes=(("d", "b", "c"), *routes, ("d", "b")))).roads == ("d", "b", "c")


def test_a_route_that_comes_by_twice_is_no_chain() -> None:
    routes = (("a", "b", "c", "a", "b", "c"), ("d", "b"))
    assert busiest_chain(make_recording([[]], routes=routes)).roads == ("d", "b")


@pytest.mark.parametrize("routes", [(), (("x", "y"),), (("a",),), (("a", "b", "a", "b"),)])
def test_where_no_route_leads_through_a_signal_it_is_said(routes: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match="no vehicle's route leads through a signal"):
        busiest_chain(make_recording([[]], routes=routes))


def test_lanes_lie_one_behind_the_other_with_those_inside_junctions_between_them() -> None:
    chain = busiest_chain(drive_by())
    lanes = [A, A_LEFT, S_AHEAD, B, T_AHEAD, C]
    assert chain.offset[lanes].tolist() == [0.0, 0.0, 100.0, 110.0, 210.0, 220.0]
    assert np.isnan(chain.offset[[D, S_SIDE]]).all()
    assert [(at, links.tolist()) for at, links in chain.stops] == [(100.0, [0]), (210.0, [2])]


def test_sightings_are_found_along_the_chain_and_nowhere_beside_it() -> None:
    chain = busiest_chain(drive_by())
    assert chain.along(drive_by()) == pytest.approx(10.0 * np.arange(32))
    elsewhere = make_recording([[(0, D, 30.0, 9.0), (1, B, 30.0, 9.0), (2, -1, 30.0, 9.0)]])
    assert np.isnan(chain.along(elsewhere)).tolist() == [True, False, True]


def test_a_stop_line_shows_its_own_lights() -> None:
    recording = make_recording([[]] * 3, lights=[[RED, GREEN, RED], [YELLOW, GREEN, RED], [GREEN, RED, RED]])
    chain = busiest_chain(recording)
    assert chain.colours(recording, 0).tolist() == [RED, YELLOW, GREEN]
    assert chain.colours(recording, 1).tolist() == [RED] * 3
