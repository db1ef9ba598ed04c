"""Signal programs as link states: which phases are green, and what is shown on the way from one to another.

A state is a text with one letter per link of the signal: ``G`` and ``g`` are green with and without priority, ``y`` is
yellow, ``r`` red (https://sumo.dlr.de/docs/Simulation/Traffic_Lights.html, "Signal state definitions").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_FOREVER = 1e6  # s: a green phase stays until the env ends it


@dataclass(frozen=True, slots=True)
class ProgramPhase:
    """One phase of a signal's program: its state, how long it lasts (s), and which phase follows."""

    state: str
    duration: float
    following: int


@dataclass(frozen=True, slots=True)
class SwitchingProgram:
    """A program in which every green phase stays until told otherwise and yellow leads to the next green by itself.

    ``phases`` holds the G green phases first, then one yellow phase per ordered pair that needs it.
    ``entry[i][j]`` is the phase to jump to when green i is shown and green j is wanted, so that one command per
    switch is enough and SUMO itself ends the yellow on time, between two decisions.
    """

    phases: tuple[ProgramPhase, ...]
    entry: tuple[tuple[int, ...], ...]


def green_states(states: Sequence[str]) -> tuple[str, ...]:
    """The distinct states that let somebody go and have no yellow, in the program's order."""
    greens = (state for state in states if set(state) & set("Gg") and not set(state) & set("yYu"))
    return tuple(dict.fromkeys(greens))


def yellow_state(before: str, after: str) -> str:
    """What is shown between two greens: yellow on every link that loses its green, all others as before."""
    return "".join("y" if a in "Gg" and b not in "Gg" else a for a, b in zip(before, after, strict=True))


def switching_program(greens: Sequence[str], yellow_time: float) -> SwitchingProgram:
    """Build the program with which the env controls a signal; ``yellow_time`` in seconds, 0 for none."""
    phases = [ProgramPhase(state, _FOREVER, index) for index, state in enumerate(greens)]
    entry = [list(range(len(greens))) for _ in greens]
    for i, before in enumerate(greens):
        for j, after in enumerate(greens):
            yellow = yellow_state(before, after)
            if yellow_time > 0 and yellow != before:
                entry[i][j] = len(phases)
                phases.append(ProgramPhase(yellow, yellow_time, j))
    return SwitchingProgram(tuple(phases), tuple(map(tuple, entry)))
