"""The same traffic for everybody: a plan of greens that every client shows, each in its own way.

A policy that has not learned anything jams a network, and a jam is another simulation than flowing traffic. So all
clients follow one plan: whoever acts is told by it what to choose; SUMO alone, and the stock clients, get it as static
programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.network import Network
from envs.programs import ProgramPhase, SwitchingProgram, yellow_state

TICK = 10  # s: greens change at multiples of it only, so that every decision interval that divides it can follow
YELLOW = 3.0  # s


@dataclass(frozen=True, eq=False)
class Plan:
    """Every signal shows its greens in turn, for ever, from ``begin`` (s) on.

    ``greens[s]`` are link states in the order of ``envs.network.Signal.greens``; ``durations[s]`` are theirs in s, the
    yellow before each of them included.
    """

    begin: float
    signals: tuple[str, ...]
    greens: tuple[tuple[str, ...], ...]
    durations: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, client: Any, network: Network, begin: float) -> Plan:
        """Read each controllable signal's own program, before anything replaces it, and round it.

        ``client`` is a ``traci.Connection`` or the ``libsumo`` module.
        """
        durations = []
        for signal in network.signals:
            running = client.trafficlight.getProgram(signal.id)
            (logic,) = (x for x in client.trafficlight.getAllProgramLogics(signal.id) if x.programID == running)
            phases = [(phase.state, phase.duration) for phase in logic.phases]
            durations.append(rounded_durations(phases, signal.greens))
        return cls(
            begin, tuple(s.id for s in network.signals), tuple(s.greens for s in network.signals), tuple(durations)
        )

    def actions(self, time: float) -> NDArray[np.int16]:
        """The green that each signal should show from ``time`` (s) on, int16 [S]."""
        ticks = int((time - self.begin) // TICK)
        return np.array([row[ticks % len(row)] for row in self._rows()], np.int16)

    def table(self, end: float) -> NDArray[np.int16]:
        """``actions`` for every ``TICK`` seconds from ``begin`` until ``end`` (s), int16 [N, S]."""
        ticks = np.arange(int(-(-(end - self.begin) // TICK)) + 1)
        return np.stack([row[ticks % len(row)] for row in self._rows()], axis=1)

    def _rows(self) -> list[NDArray[np.int16]]:
        """One cycle of each signal, a number per ``TICK`` seconds."""
        return [
            np.repeat(np.arange(len(lengths), dtype=np.int16), np.array(lengths) // TICK) for lengths in self.durations
        ]

    def programs(self) -> dict[str, SwitchingProgram]:
        """The plan as static programs: first greens first, the yellow towards them last."""
        return {
            signal: static_program(greens, durations)
            for signal, greens, durations in zip(self.signals, self.greens, self.durations, strict=True)
        }

    def start(self, client: Any) -> None:
        """Make installed programs begin as an env does: with a first green that had no yellow before it."""
        for signal, durations in zip(self.signals, self.durations, strict=True):
            client.trafficlight.setPhaseDuration(signal, float(durations[0]))


def rounded_durations(phases: Sequence[tuple[str, float]], greens: Sequence[str]) -> tuple[int, ...]:
    """How long each green is shown in a program of (state, s), what follows it until the next green included.

    Rounded to multiples of ``TICK``, and at least that. Greens that a program shows twice get both times.
    """
    shown = dict.fromkeys(greens, 0.0)
    current = next((state for state, _ in reversed(phases) if state in shown), greens[0])
    for state, duration in phases:
        current = state if state in shown else current
        shown[current] += duration
    return tuple(max(TICK, TICK * round(duration / TICK)) for duration in shown.values())


def static_program(greens: Sequence[str], durations: Sequence[int]) -> SwitchingProgram:
    """A program that shows greens in turn by itself, each with the yellow that leads to it."""
    phases: list[ProgramPhase] = []
    for index, (green, duration) in enumerate(zip(greens, durations, strict=True)):
        before = greens[index - 1]
        yellow = yellow_state(before, green)
        has_yellow = yellow != before
        if has_yellow:
            phases.append(ProgramPhase(yellow, YELLOW, len(phases) + 1))
        phases.append(ProgramPhase(green, duration - YELLOW * has_yellow, len(phases) + 1))
    first = 1 if phases[0].state != greens[0] else 0
    phases = [*phases[first:], *phases[:first]]
    count = len(phases)
    return SwitchingProgram(tuple(ProgramPhase(p.state, p.duration, (i + 1) % count) for i, p in enumerate(phases)), ())
