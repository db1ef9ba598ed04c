"""Which phases are green, and that the way from one to another is safe for every link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.programs import green_states, switching_program, yellow_state

GREENS = st.integers(1, 12).flatmap(
    lambda links: st.lists(st.text("Ggrs", min_size=links, max_size=links), min_size=1, max_size=6, unique=True)
)


@pytest.mark.parametrize(
    ("states", "greens"),
    [
        (["GGrr", "yyrr", "rrGG", "rryy"], ("GGrr", "rrGG")),
        (["GGrr", "rrrr", "GGrr", "rrgG"], ("GGrr", "rrgG")),  # all red is no green, and each counts once
        (["Gyrr", "GrGr", "uuuu"], ("GrGr",)),  # neither is what has yellow, or red and yellow, in it
        (["rrrr", "oooo", "OOOO"], ()),
        ([], ()),
    ],
)
def test_greens_are_the_distinct_states_that_let_somebody_go(states: list[str], greens: tuple[str, ...]) -> None:
    assert green_states(states) == greens


@pytest.mark.parametrize(
    ("before", "after", "yellow"),
    [
        ("GGrr", "rrGG", "yyrr"),
        ("GgGr", "GrrG", "Gyyr"),
        ("Gg", "gG", "Gg"),  # who goes on needs no yellow
        ("rG", "GG", "rG"),
        ("sG", "rr", "sy"),
    ],
)
def test_yellow_is_for_those_who_lose_their_green(before: str, after: str, yellow: str) -> None:
    assert yellow_state(before, after) == yellow


@given(GREENS)
def test_every_switch_shows_yellow_to_all_who_must_stop_and_green_to_nobody_new(greens: list[str]) -> None:
    program = switching_program(greens, 3.0)
    assert [phase.state for phase in program.phases[: len(greens)]] == greens
    assert all(phase.following == i for i, phase in enumerate(program.phases[: len(greens)]))
    for i, before in enumerate(greens):
        assert program.entry[i][i] == i
        for j, after in enumerate(greens):
            phase = program.phases[program.entry[i][j]]
            if program.entry[i][j] == j:  # at once: only where nobody has to stop
                assert all(b in "Gg" for a, b in zip(before, after, strict=True) if a in "Gg")
                continue
            assert (phase.following, phase.duration) == (j, 3.0)
            for a, between, b in zip(before, phase.state, after, strict=True):
                assert between == ("y" if a in "Gg" and b not in "Gg" else a)


@given(GREENS)
def test_without_yellow_time_there_is_no_yellow(greens: list[str]) -> None:
    program = switching_program(greens, 0.0)
    assert [phase.state for phase in program.phases] == greens
    assert program.entry == tuple(tuple(range(len(greens))) for _ in greens)
