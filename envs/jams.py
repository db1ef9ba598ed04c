"""Whether traffic is gridlocked."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from envs.network import Network
from envs.session import WAITING, Session, Snapshot

_PATIENCE = 300.0  # s: nobody stands that long in a queue that moves
_START_UP = 60.0  # s that a green may take to reach the end of a queue
_MANY = 10  # vehicles; fewer may be stuck for other reasons
_ALL = 1.0 - 1e-6  # of the ways on from a lane
_LOOK = 5.0  # s between two looks at the lights, at least

GRIDLOCK = (
    f"at the end, {_MANY} vehicles or more have not moved for {_PATIENCE / 60:g} minutes although their light was "
    "green meanwhile"
)


class JamWatch:
    """Is told which phases are green, and tells who is stuck in spite of them.

    Who stands before a light that stays red is starved, which is bad, but the next green would end it. Who stands
    before green has no place to go to; where many do, they wait for one another, and no light can help. A green counts
    once there was time for a queue to move, and as long as all who count have stood since before it.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.begin()

    def begin(self) -> None:
        """An episode begins: no phase has been green yet."""
        self._green = np.full(self._network.num_phases, -np.inf)  # s, when each phase was last seen, if that counts
        self._recent: deque[tuple[float, NDArray[np.integer]]] = deque()  # what counts later, oldest first

    def see(self, phases: NDArray[np.integer], time: float) -> None:
        """These phases, of all that there are, are green at ``time`` (s)."""
        self._recent.append((time, phases))
        while self._recent[0][0] <= time - _START_UP:
            seen, green = self._recent.popleft()
            self._green[green] = seen

    def stuck(self, snapshot: Snapshot) -> int:
        """How many vehicles do not move although their light was green while they stood."""
        standing = snapshot.vehicles[:, WAITING] >= _PATIENCE
        if not standing.any():
            return 0
        return int((standing & (self._all_green()[snapshot.lanes] > snapshot.time - _PATIENCE + _START_UP)).sum())

    def _all_green(self) -> NDArray[np.float64]:
        """When each lane last had green for all its ways on (s), [L + 1]; the last entry is off the network.

        Some phases let go only those of a lane who turn left. Where there is none for everybody, each of those that
        serve the lane must have been green.
        """
        network = self._network
        phases, lanes = network.approaches.T
        for_all = network.phase_lane_shares[network.approach_stop].sum(axis=1) > _ALL
        parts, whole = np.full((2, len(network.lane_ids) + 1), -np.inf)
        parts[lanes] = np.inf
        np.minimum.at(parts, lanes, self._green[phases])
        np.maximum.at(whole, lanes[for_all], self._green[phases[for_all]])
        return np.maximum(parts, whole)

    def gridlocked(self, snapshot: Snapshot) -> bool:
        """Whether traffic that looks like this is gridlocked; see ``GRIDLOCK``."""
        return self.stuck(snapshot) >= _MANY


class LightWatch:
    """Looks at the lights of a session now and then, whoever controls them, and tells a ``JamWatch``."""

    def __init__(self, session: Session, jams: JamWatch) -> None:
        network = session.network
        self._client = session.client
        self._jams = jams
        self._phases = [
            (signal.id, {state: int(start) + phase for phase, state in enumerate(signal.greens)})
            for start, signal in zip(network.phase_start, network.signals, strict=False)
        ]
        self._next = -np.inf  # s

    def look(self, snapshot: Snapshot) -> None:
        """Take notice of what the lights show now."""
        if snapshot.time < self._next:
            return
        self._next = snapshot.time + _LOOK
        shown = [phases.get(self._client.trafficlight.getRedYellowGreenState(name)) for name, phases in self._phases]
        self._jams.see(np.array([phase for phase in shown if phase is not None], np.int64), snapshot.time)
