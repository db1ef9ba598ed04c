"""Controllers that leave the signals to SUMO: the network's own programs, as they are or run by its actuated logic."""

from __future__ import annotations

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
        for signal in session.network.signals:
            logic = _running_logic(session.client, signal.id)
            if logic.type == tc.TRAFFICLIGHT_TYPE_STATIC:
                session.client.trafficlight.setProgramLogic(signal.id, _actuated(session.client, logic))
                session.client.trafficlight.setProgram(signal.id, "actuated")

    def act(self, frame: Frame) -> None:
        """SUMO decides."""


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
