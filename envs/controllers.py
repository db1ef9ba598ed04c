"""Classical signal controllers: what a policy has to beat.

Two kinds share one small protocol. Some choose phases from frames, like a policy: max-pressure, random. Others leave
the signals to SUMO: the network's own program, as it is or run by SUMO's actuated logic.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray

from envs.network import Network, best_phases
from envs.programs import green_states
from envs.session import Session
from envs.signals import Frame, SignalControl

_HYSTERESIS = 1e-6  # vehicles: decides between phases that draw
_SHORTEST, _LONGEST = 5.0, 50.0  # s that an actuated green lasts, as netconvert has it


class Controller(Protocol):
    """Whoever decides what the signals of one simulation show, for one episode after another."""

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """An episode has been reset with this seed; prepare the signals for it."""

    def act(self, frame: Frame) -> NDArray[np.integer] | None:
        """The wanted green phase of each signal, int [S]; None where SUMO decides."""


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


class MaxPressure:
    """Show the green phase with the most vehicles before it and the fewest behind it.

    The pressure of a movement, from one lane to one lane beyond the junction, is the vehicles on the first minus those
    on the second, weighted with the share of vehicles that go there: one in n where the lane has n ways on, as the real
    shares are not known. That of a phase is the sum over its movements; where phases draw, the present one stays.
    (Varaiya 2013, "Max pressure control of a network of signalized intersections", with one saturation flow for all)
    """

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Install the programs that show what is asked for."""
        session.install(task.programs)
        self._network = session.network
        self._phase, self._before, self._behind = movements(session.network).T
        ways = np.unique(np.stack([self._before, self._behind]), axis=1)[0]
        self._share = 1.0 / np.bincount(ways)[self._before]

    def act(self, frame: Frame) -> NDArray[np.int64]:
        """The phase of highest pressure of each signal."""
        start = self._network.phase_start
        present = np.bincount(frame.lanes[frame.lanes >= 0], minlength=len(self._network.lane_ids))  # [L] vehicles
        each = self._share * (present[self._before] - present[self._behind])  # [K]
        pressure = np.bincount(self._phase, each, minlength=self._network.num_phases).astype(np.float64)  # [P]
        pressure[start[:-1] + frame.shown] += _HYSTERESIS
        return best_phases(pressure, start)


def movements(network: Network) -> NDArray[np.int64]:
    """All (phase, lane before, lane behind) that the network's green phases let go, [K, 3]."""
    pairs = enumerate(pairs for signal in network.signals for pairs in signal.movements)
    rows = [(phase, before, behind) for phase, movements in pairs for before, behind in movements]
    return np.array(rows, np.int64).reshape(-1, 3)


class Random:
    """Any phase, each as likely as the others; the same ones for the same seed."""

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Install the programs that show what is asked for."""
        session.install(task.programs)
        self._counts = np.diff(session.network.phase_start)
        self._generator = np.random.default_rng(seed)

    def act(self, frame: Frame) -> NDArray[np.int64]:
        """A phase of each signal."""
        return self._generator.integers(self._counts)


CLASSICAL: dict[str, type[Controller]] = {
    "fixed": FixedTime,
    "actuated": Actuated,
    "max-pressure": MaxPressure,
    "random": Random,
}
