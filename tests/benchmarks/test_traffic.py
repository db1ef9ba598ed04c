"""The plan that everybody follows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.traffic import Plan, rounded_durations, static_program
from envs.programs import yellow_state

NORTH, TURN, EAST = "GGrr", "GrrG", "rrGG"
PLAN = Plan(100.0, ("a", "b"), ((NORTH, EAST), (NORTH, TURN, EAST)), ((30, 10), (10, 10, 20)))


def test_greens_are_shown_for_their_own_time_and_what_follows_it() -> None:
    phases = [(NORTH, 33.0), ("yyrr", 3.0), (EAST, 6.0), ("rryy", 3.0)]
    assert rounded_durations(phases, (NORTH, EAST)) == (40, 10)


def test_every_green_is_shown_for_ten_seconds_at_least() -> None:
    assert rounded_durations([(NORTH, 2.0), (EAST, 54.0)], (NORTH, EAST)) == (10, 50)


def test_what_precedes_the_first_green_belongs_to_the_last_and_repeated_greens_add_up() -> None:
    phases = [("rryy", 4.0), (NORTH, 20.0), (EAST, 16.0), ("rryy", 4.0), (NORTH, 11.0), (EAST, 8.0)]
    assert rounded_durations(phases, (NORTH, EAST)) == (30, 30)


def test_actions_take_turns_from_the_beginning_on() -> None:
    assert [PLAN.actions(100.0 + t).tolist() for t in (0, 9.9, 10, 20, 30, 39, 40)] == [
        [0, 0],
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 2],
        [1, 2],
        [0, 0],
    ]


def test_the_table_says_what_actions_say() -> None:
    table = PLAN.table(1000.0)
    for row, time in enumerate(np.arange(100.0, 1000.0, 10.0)):
        assert (table[row] == PLAN.actions(time)).all()
    assert table.dtype == np.int16


@pytest.mark.parametrize(("signal", "greens"), [(0, PLAN.greens[0]), (1, PLAN.greens[1])])
def test_static_programs_show_the_plan(signal: int, greens: tuple[str, ...]) -> None:
    program = PLAN.programs()[PLAN.signals[signal]]
    shown = []  # state in each second, as SUMO would run it, the first green in full
    phase, left = 0, float(PLAN.durations[signal][0])
    for _ in range(200):
        while left <= 0:
            phase = program.phases[phase].following
            left = program.phases[phase].duration
        shown.append(program.phases[phase].state)
        left -= 1
    for second, state in enumerate(shown):
        wanted = greens[PLAN.actions(100.0 + second)[signal]]
        last_change = max(t for t in range(second + 1) if t == 0 or changes(signal, t))
        before = greens[PLAN.actions(100.0 + last_change - 1)[signal]] if last_change else wanted
        in_yellow = last_change > 0 and second - last_change < 3
        assert state == (yellow_state(before, wanted) if in_yellow else wanted), second


def changes(signal: int, second: int) -> bool:
    """Whether the plan changes a signal's green at a second after the beginning."""
    return bool(PLAN.actions(100.0 + second)[signal] != PLAN.actions(99.0 + second)[signal])


def test_a_change_that_needs_no_yellow_has_none() -> None:
    program = static_program(("Grr", "GGr"), (20, 10))
    assert [(phase.state, phase.duration) for phase in program.phases] == [
        ("Grr", 17.0),
        ("GGr", 10.0),
        ("Gyr", 3.0),
    ]
