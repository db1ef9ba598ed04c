"""The guard's logic, with memory and time that the test decides; and once with those of this machine."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.guard import Level, MemoryGuard, Verdict
from machine.memory import ProcessMemory

TOTAL = 1000  # bytes of the machine
BUDGET = 500
FREE = 400  # bytes: more than enough


class Machine:
    """A machine whose memory and clock are set by hand, with one process unless told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.processes = [ProcessMemory(1, "python", 0)]
        self.free = FREE
        self.measured: list[float] = []
        self.guard = MemoryGuard(BUDGET, self.measure, lambda: self.free, TOTAL, lambda: self.now)

    def measure(self) -> list[ProcessMemory]:
        self.measured.append(self.now)
        return self.processes

    def look(self, used: int, free: int = FREE) -> Verdict:
        """The guard's next measurement of what is set here."""
        self.now += 10.0
        self.processes = [ProcessMemory(1, "python", used)]
        self.free = free
        return self.guard.look()


# Around all marks: 80, 85 and 100 % of 500 bytes; 8, 6 and 3 % of 1000.
USED = st.integers(0, 600)
FREE_BYTES = st.integers(0, 120)
STATES = st.lists(st.tuples(USED, FREE_BYTES), max_size=30)


@pytest.mark.parametrize(
    ("used", "free", "level"),
    [
        (424, FREE, Level.FINE),
        (425, FREE, Level.TIGHT),
        (499, FREE, Level.TIGHT),
        (500, FREE, Level.OVER),
        (0, 60, Level.FINE),
        (0, 59, Level.TIGHT),
        (0, 30, Level.TIGHT),
        (0, 29, Level.OVER),
    ],
)
def test_levels_begin_at_their_marks(used: int, free: int, level: Level) -> None:
    verdict = Machine().look(used, free)
    assert verdict.level is level
    assert (verdict.used, verdict.budget, verdict.free) == (used, BUDGET, free)


@given(STATES, USED, FREE_BYTES)
def test_over_begins_beyond_the_second_mark_and_ends_before_the_first(
    states: list[tuple[int, int]], used: int, free: int
) -> None:
    machine = Machine()
    for before in states:
        machine.look(*before)
    was_over = machine.guard.look().level is Level.OVER
    over = machine.look(used, free).level is Level.OVER
    if was_over:
        assert over == (used >= 425 or free < 60)
    else:
        assert over == (used >= 500 or free < 30)


@given(
    STATES,
    st.lists(st.one_of(st.tuples(st.integers(425, 499), st.just(60)), st.tuples(st.just(0), st.integers(30, 59)))),
)
def test_between_the_marks_nothing_changes(states: list[tuple[int, int]], band: list[tuple[int, int]]) -> None:
    machine = Machine()
    for state in states:
        machine.look(*state)
    machine.look(460, 60)  # may be where a level begins
    assert not any(machine.look(*state).changed for state in band)


@given(st.lists(st.tuples(st.integers(400, 499), st.integers(30, FREE))))
def test_a_warning_is_not_repeated_while_memory_trembles_around_the_first_mark(states: list[tuple[int, int]]) -> None:
    machine = Machine()
    assert machine.look(450).changed
    assert not any(machine.look(*state).changed for state in states)


@given(STATES)
def test_everything_ends_when_memory_is_given_back(states: list[tuple[int, int]]) -> None:
    machine = Machine()
    for state in states:
        machine.look(*state)
    verdict = machine.look(399, 80)
    assert verdict.level is Level.FINE
    assert verdict.over_since is None


@given(STATES)
def test_changes_are_said_once_and_over_keeps_the_time_that_it_began(states: list[tuple[int, int]]) -> None:
    machine = Machine()
    level, since = Level.FINE, None
    for state in states:
        verdict = machine.look(*state)
        assert verdict.changed == (verdict.level is not level)
        if verdict.level is Level.OVER:
            since = machine.now if level is not Level.OVER else since
            assert verdict.over_since == since
        else:
            assert verdict.over_since is None
        level = verdict.level
        again = machine.guard.look()
        assert not again.changed
        assert (again.level, again.over_since, again.text) == (verdict.level, verdict.over_since, verdict.text)


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=50))
def test_looking_often_measures_seldom(waits: list[float]) -> None:
    machine = Machine()
    for wait in waits:
        machine.now += wait
        machine.guard.look()
    assert machine.measured[0] == 1000.0 + waits[0], "the first look measures"
    assert all(later - earlier >= 3.0 for earlier, later in zip(machine.measured, machine.measured[1:], strict=False))
    assert machine.now - machine.measured[-1] < 3.0, "what is said is never older"


@pytest.mark.parametrize(
    ("used", "free", "reason"),
    [
        (0, FREE, "memory is fine"),
        (430, FREE, "the run is close to its memory budget"),
        (0, 50, "the machine is short of memory"),
        (600, FREE, "the run must come below 85% of its memory budget"),
        (600, 50, "the run must come below 85% of its memory budget"),
        (600, 10, "the machine needs its memory back"),
        (0, 10, "the machine needs its memory back"),
    ],
)
def test_the_text_says_why(used: int, free: int, reason: str) -> None:
    assert Machine().look(used, free).text.startswith(reason + ": ")


def test_the_text_has_sizes_and_the_three_biggest_processes() -> None:
    gib = 2**30
    sizes = [("sumo", gib // 2), ("python", 3 * gib), ("python", gib), ("sumo", 7 * gib)]
    processes = [ProcessMemory(pid, name, size) for pid, (name, size) in enumerate(sizes, start=11)]
    guard = MemoryGuard(12 * gib, lambda: processes, lambda: 4 * gib, 15 * gib)
    assert guard.look().text == (
        "the run is close to its memory budget: 11.5 GiB in use of a budget of 12.0 GiB, "
        "4.0 GiB available of 15.0 GiB; biggest: sumo 14 (7.0 GiB), python 12 (3.0 GiB), python 13 (1.0 GiB)"
    )


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="memory budget is 0 bytes"):
        MemoryGuard(0)


def test_this_process_is_over_a_budget_of_a_byte() -> None:
    verdict = MemoryGuard(1).look()
    assert verdict.level is Level.OVER
    assert verdict.used > 10 * 2**20
    assert f" {os.getpid()} (" in verdict.text
