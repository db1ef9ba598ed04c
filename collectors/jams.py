"""Whether an episode ended in gridlock."""

from __future__ import annotations

import numpy as np

from envs.session import WAITING, Session, Snapshot

_PATIENCE = 300.0  # s: nobody stands that long in a queue that moves
_START_UP = 60.0  # s of it in which a green does not count: it takes its time to reach the end of a queue
_MANY = 10  # vehicles; fewer may be stuck for other reasons
_LOOK = 5.0  # s between two looks at the lights, at least

GRIDLOCK = (
    f"at the end, {_MANY} vehicles or more have not moved for {_PATIENCE / 60:g} minutes although their light was "
    "green meanwhile"
)


class JamWatch:
    """Watches the lights of a session, and tells at the end who is stuck in spite of them.

    Who stands before a light that stays red is starved, which is bad, but the next green would end it. Who stands
    before green has no place to go to; where many do, they wait for one another, and no light can help.
    """

    def __init__(self, session: Session) -> None:
        network = session.network
        self._network = network
        self._client = session.client
        self._phases = [
            {state: int(network.phase_start[s]) + phase for phase, state in enumerate(signal.greens)}
            for s, signal in enumerate(network.signals)
        ]
        self._green = np.full(network.num_phases, -np.inf)  # s, when each phase was last seen
        self._next = -np.inf  # s

    def look(self, snapshot: Snapshot) -> None:
        """Take notice of what the lights show now."""
        if snapshot.time < self._next:
            return
        self._next = snapshot.time + _LOOK
        for signal, phases in zip(self._network.signals, self._phases, strict=True):
            phase = phases.get(self._client.trafficlight.getRedYellowGreenState(signal.id))
            if phase is not None:
                self._green[phase] = snapshot.time

    def stuck(self, snapshot: Snapshot) -> int:
        """How many vehicles do not move although their light was green while they stood."""
        phases, lanes = self._network.approaches.T
        green = np.full(len(self._network.lane_ids) + 1, -np.inf)  # s, by lane; the last entry is off the network
        np.maximum.at(green, lanes, self._green[phases])
        had_green = green[snapshot.lanes] > snapshot.time - _PATIENCE + _START_UP
        return int((had_green & (snapshot.vehicles[:, WAITING] >= _PATIENCE)).sum())

    def gridlocked(self, snapshot: Snapshot) -> bool:
        """Whether an episode that ends like this is gridlocked; see ``GRIDLOCK``."""
        return self.stuck(snapshot) >= _MANY
