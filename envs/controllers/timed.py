"""Controllers that leave the signals to SUMO: the network's own programs, as they are or run by its actuated logic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import traci.constants as tc

from envs.programs import green_states
from envs.session import Session
from envs.signals import Frame, SignalControl

_SHORTEST, _LONGEST = 5.0, 50.0  # s that an actuated green lasts, as netconvert has it


class FixedTime:
    """The network's own programs, as its author wrote them (which may be actuated ones)."""

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Leave everything as it is."""

    def act(self, frame: Frame) -> None:
        """SUMO decides."""


class Actuated:
    """The network's own phases, run by SUMO's actuated logic: a green ends early when no vehicle follows closely.

    A green lasts as long as the program gives it as minimum and maximum, 5 to 50 s where it gives none; other phases
    keep their durations. A program that already has a logic of its own is left as it is.
    (https://sumo.dlr.de/docs/Simulation/Traffic_Lights.html, "Actuated Traffic Lights")
    """

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Give every signal that can be controlled the actuated variant of its program."""
        with session.explained():
            running = {signal.id: _running_logic(session.client, signal.id) for signal in session.network.signals}
        static = {name: logic for name, logic in running.items() if logic.type == tc.TRAFFICLIGHT_TYPE_STATIC}
        self._programs = OwnPrograms(
            session, {name: _actuated(session.client, logic) for name, logic in static.items()}
        )

    def act(self, frame: Frame) -> None:
        """SUMO decides."""
        self._programs.restore()


class OwnPrograms:
    """Programs that signals run instead of the network's, by the signal's name."""

    def __init__(self, session: Session, logics: Mapping[str, Any]) -> None:
        self._session = session
        with session.explained():
            for signal, logic in logics.items():
                session.client.trafficlight.setProgramLogic(signal, logic)
                session.client.trafficlight.setProgram(signal, logic.programID)
        several = {signal.id for signal in session.network.signals if len(signal.programs) > 1}
        self._planned = {signal: logic.programID for signal, logic in logics.items() if signal in several}

    def restore(self) -> None:
        """Take signals back from plans that switch programs by the time of day (WAUT)."""
        lights = self._session.client.trafficlight
        for signal, name in self._planned.items():
            with self._session.explained():
                if lights.getProgram(signal) != name:
                    lights.setProgram(signal, name)


def _running_logic(client: Any, signal: str) -> Any:
    """The program that a signal runs."""
    program = client.trafficlight.getProgram(signal)
    return next(logic for logic in client.trafficlight.getAllProgramLogics(signal) if logic.programID == program)


def _actuated(client: Any, logic: Any) -> Any:
    """The actuated variant of a static program."""
    greens = green_states([phase.state for phase in logic.phases])
    phases = []
    for phase in logic.phases:
        shortest = longest = phase.duration
        if phase.state in greens:
            shortest, longest = phase.minDur, phase.maxDur
            if shortest == longest:  # the program is not meant to be actuated
                shortest, longest = min(_SHORTEST, phase.duration), max(_LONGEST, phase.duration)
        phases.append(client.trafficlight.Phase(phase.duration, phase.state, shortest, longest, phase.next, ""))
    return client.trafficlight.Logic("actuated", tc.TRAFFICLIGHT_TYPE_ACTUATED, 0, phases, {})
