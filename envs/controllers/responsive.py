"""Controllers that choose phases from frames, like a policy, but see no further than their sources let them.

That is the lanes that end at the signal's stop lines, and for one of them those beyond: where roads are made of several
pieces, the nearest ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.network import Network
from envs.session import LANE_POSITION, Session
from envs.signals import Frame, SignalControl

_HYSTERESIS = 1e-6  # vehicles: decides between phases that draw


class MaxPressure:
    """Show the green phase with the most vehicles before it and the fewest behind it.

    The pressure of a movement, from one lane to one beyond the junction, is the vehicles on the first that go there
    minus those on the second, each of these times the share of that lane's vehicles that choose its way on, summed up
    over its ways. As real shares are not known, each of n ways has one n-th, so that one n-th of all of a lane's
    vehicles count; where no way leads on, nobody queues. The pressure of a phase is the sum over its movements; where
    phases draw, the present one stays.
    (Varaiya 2013, "Max pressure control of a network of signalized intersections", with lanes for links, all vehicles
    on them for their queues, and one saturation flow for all)
    """

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Install the programs that show what is asked for."""
        session.install(task.programs)
        self._network = session.network
        self._phase, self._before, self._behind = session.network.movements.T
        self._share = np.zeros(len(session.network.lane_ids))  # [L]
        with session.explained():
            for lane in {*self._before.tolist(), *self._behind.tolist()}:
                ways = {link[0] for link in session.client.lane.getLinks(session.network.lane_ids[lane])}
                self._share[lane] = 1.0 / len(ways) if ways else 0.0

    def act(self, frame: Frame) -> NDArray[np.int64]:
        """The phase of highest pressure of each signal."""
        present = np.bincount(frame.lanes[frame.lanes >= 0], minlength=len(self._network.lane_ids))  # [L] vehicles
        of_one_way = self._share * present  # [L]
        each = of_one_way[self._before] - of_one_way[self._behind]  # [K]
        pressure = np.bincount(self._phase, each, minlength=self._network.num_phases)  # [P]
        return _highest(pressure, frame, self._network)


class MaxWave:
    """Longest queue first: show the green phase with the most vehicles on its lanes within 50 m of the stop lines.

    Where phases draw, that with the most ways on wins, and of several the present one: two phases may serve the same
    lanes, and one of them only those who turn left. (Theirs takes the first of several.)
    (Ault and Sharon 2021, "Reinforcement Learning Benchmarks for Traffic Signal Control", where it is called MaxWave,
    after the state "wave" of Chu et al. 2019, "Multi-Agent Deep Reinforcement Learning for Large-Scale Traffic Signal
    Control")
    """

    _reach = 50.0  # m before the stop line

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Install the programs that show what is asked for."""
        session.install(task.programs)
        self._network = session.network
        ways = np.bincount(session.network.movements[:, 0], minlength=session.network.num_phases)
        self._breadth = ways / (2 * ways.max())  # [P] less than one vehicle

    def act(self, frame: Frame) -> NDArray[np.int64]:
        """The phase of each signal that most vehicles are close to."""
        close = _close(frame, self._network, self._reach)
        return _highest(_by_phase(close, self._network) + self._breadth, frame, self._network)


class SelfOrganizing:
    """Self-organizing traffic lights (SOTL): a red phase asks for green once enough vehicles have waited long enough.

    A counter per phase grows with the vehicles that approach red: those within 80 m of the stop lines, on lanes of its
    own which the present phase lets nobody go from, times the seconds. From 50 vehicle seconds on it asks; the phase
    that asks most gets its green, unless one or two vehicles are about to cross, within 25 m of the stop line of the
    present phase: a platoon is not cut off at its tail. These figures are ours; the papers' are in cells of grids of
    their own.
    (Gershenson 2005, "Self-organizing Traffic Lights", Complex Systems 16; the rule about tails: Cools, Gershenson and
    D'Hooghe 2013, "Self-organizing Traffic Lights: A Realistic Simulation")
    """

    _sight, _near = 80.0, 25.0  # m before the stop line: to be counted, and to be let through
    _threshold = 50.0  # vehicles times s
    _platoon = 3  # vehicles that are no tail any more

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Install the programs that show what is asked for; nobody has waited yet."""
        session.install(task.programs)
        self._network = session.network
        self._waited = np.zeros(self._network.num_phases)  # vehicles times s
        self._time = session.scenario.begin

    def act(self, frame: Frame) -> NDArray[np.int64]:
        """The phase that asks most of each signal, the present one where none may have it."""
        network = self._network
        present = network.phase_start[:-1] + frame.shown  # [S] into phases
        close = _close(frame, network, self._sight)
        phases, lanes = network.phase_lanes.T
        close[lanes[np.isin(phases, present)]] = 0  # who approaches green
        self._waited += _by_phase(close, network) * (frame.time - self._time)
        self._waited[present] = 0.0
        self._time = frame.time
        tail = _by_phase(_close(frame, network, self._near), network)[present]  # [S] vehicles
        stays = (tail > 0) & (tail < self._platoon)
        asking = np.where(self._waited >= self._threshold, self._waited, 0.0)
        return np.where(stays, frame.shown, _highest(asking, frame, network))


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


def _close(frame: Frame, network: Network, reach: float) -> NDArray[np.int64]:
    """Vehicles on each lane that are within ``reach`` m of its end, [L]."""
    on_lane = frame.lanes >= 0
    lanes = frame.lanes[on_lane]
    left = network.lane_length[lanes] - frame.vehicles[on_lane, LANE_POSITION]  # m
    return np.bincount(lanes[left <= reach], minlength=len(network.lane_ids))


def _by_phase(counts: NDArray[np.int64], network: Network) -> NDArray[np.int64]:
    """What is counted on lanes, [L], summed up over the lanes of each phase, [P]."""
    phases, lanes = network.phase_lanes.T
    return np.bincount(phases, counts[lanes], minlength=network.num_phases)


def _highest(scores: NDArray[np.number], frame: Frame, network: Network) -> NDArray[np.int64]:
    """The phase of each signal with the highest score [P], the present one where it is among several."""
    preferred = scores.astype(np.float64)  # a copy
    preferred[network.phase_start[:-1] + frame.shown] += _HYSTERESIS
    return best_phases(preferred, network.phase_start)


def best_phases(scores: NDArray[np.floating], phase_start: NDArray[np.integer]) -> NDArray[np.int64]:
    """Per signal, its phase of the highest score, counted within the signal; the first one where several are.

    ``scores`` [P] with the phases of each signal s from ``phase_start[s]`` to ``phase_start[s + 1]``; returns [S].
    """
    best = np.maximum.reduceat(scores, phase_start[:-1])
    counts = np.diff(phase_start)
    within = np.arange(len(scores)) - np.repeat(phase_start[:-1], counts)
    candidates = np.where(scores == np.repeat(best, counts), within, len(scores))
    return np.minimum.reduceat(candidates, phase_start[:-1])
