"""The task ``signals``: every controllable traffic light chooses its next green phase at every decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.compiled import compiled
from envs.network import Network
from envs.programs import SwitchingProgram, switching_program
from envs.session import LANE_POSITION, SPEED, WAITING, PhaseCommand, Snapshot

_CREEPING = 2.0  # m/s: who turns, and is slower, waits for others or is about to
_BRAKING, _REACTION = 4.5, 1.0  # m/s² and s, of SUMO's passenger cars
HALTING = 0.1  # m/s: slower counts as standing in a queue, as in SUMO
REWARDS = ("queue", "waiting", "waiting-difference", "delay", "pressure")
_TINY = 1e-6  # s

# Compiled in: numba keeps what it has compiled until this very file changes.
assert (SPEED, LANE_POSITION, WAITING) == (2, 5, 6)


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything observed at one decision, as arrays.

    V vehicles, S signals, P green phases of all signals together.

    - ``time``: simulated s
    - ``vehicles`` float32 [V, 8], ``lanes`` int32 [V]: see ``envs.session.Snapshot``
    - ``shown`` int16 [S]: the green phase of each signal that is shown, or comes after the present yellow
    - ``elapsed`` float32 [S]: s for which it has been green; negative while its yellow lasts
    - ``allowed`` bool [P]: may be chosen now
    """

    time: float
    vehicles: NDArray[np.float32]
    lanes: NDArray[np.int32]
    shown: NDArray[np.int16]
    elapsed: NDArray[np.float32]
    allowed: NDArray[np.bool_]


class SignalControl:
    """What the agents' choices mean to SUMO, and what a snapshot means to the agents.

    ``yellow_time`` and ``min_green`` (s) are kept whatever the agents ask for. ``max_red`` (s) is for agents that keep
    to the phases that are ``allowed``: where somebody has stood for so long on a lane that ends at the stop line, and
    one of its ways on has been red for so long, these are the phases that let such a way go, until one is shown. Green
    counts from the command on, its yellow included, and also where it has to yield.

    ``max_hold`` (s) is for these agents, too: where somebody has passed the stop line, or is too close to stop before
    it, and is held up by somebody from the same lane who goes another way, as to the left, and creeps (slower than 2
    m/s) or stands inside the junction, for less than that, the phases that let go all ways on from that lane that are
    green now are the ones that are ``allowed``, unless ``max_red`` says otherwise. In another phase the former would
    come to move across the way of its first vehicles, and all of these may block one another for ever. 0: nobody is
    waited for.

    Rewards are per signal, measured at the end of the decision on the lanes that approach it
    (``Network.lane_signal``), and at most 0 but for the third:

    - ``queue``: minus the number of vehicles that stand (slower than 0.1 m/s)
    - ``waiting``: minus the sum of their waiting times, in units of 100 s
    - ``waiting-difference``: how much less that sum is than a decision ago. (sumo-rl's default has this form, but sums
      up what vehicles have waited on their present road in all; here a vehicle that moves has not waited)
    - ``delay``: minus the sum over vehicles of 1 - speed / speed limit
    - ``pressure``: minus the absolute difference of vehicles on the lanes that approach it and on the first ones behind
      it (after Wei et al. 2019, "PressLight: Learning Max Pressure Control to Coordinate Traffic Signals in Arterial
      Network")

    The cost of a signal is the number of vehicles that have been waiting longer than ``patience`` (s) before it. It is
    recorded, and no reward.
    """

    def __init__(
        self,
        network: Network,
        yellow_time: float,
        min_green: float,
        max_red: float,
        max_hold: float,
        reward: str = "delay",
        patience: float = 120.0,
    ) -> None:
        if reward not in REWARDS:
            raise ValueError(f"reward {reward!r}: must be one of {', '.join(REWARDS)}")
        self._network = network
        self.yellow_time = yellow_time
        self.min_green = min_green
        self._free_after = min_green - _TINY  # s of green
        self._overdue_after = max_red - _TINY  # s of red
        self._max_hold = max_hold
        self._reward = reward
        self._patience = patience
        self._programs = [switching_program(signal.greens, yellow_time) for signal in network.signals]
        # Which signal each lane leads to and leaves from; lane -1 (off the network) finds the last entry, no signal.
        none = self.num_signals
        self._entering = np.append(np.where(network.lane_signal < 0, none, network.lane_signal), none).astype(np.int32)
        self._leaving = np.full(len(network.lane_ids) + 1, none, np.int32)
        for index, signal in enumerate(network.signals):
            self._leaving[list(signal.leaving)] = index
        ways, of_movement = network.ways
        self._way_lane = ways[:, 0].copy()  # [W] the lane that each way on leads away from
        phases = network.movements[:, 0]
        self._phase_ways = np.stack([phases, of_movement], axis=1)  # [K, 2] (phase, way on) pairs: it lets it go
        self._way_signal = np.zeros(len(ways), np.int64)  # [W] whose phases let it go
        self._way_signal[of_movement] = network.phase_signal[phases]
        self._ways = [of_movement[phases == phase] for phase in range(network.num_phases)]  # the same, for each phase
        # Of each lane inside a junction: its way on, -1 elsewhere, and m from the stop line to its beginning. Lane -1
        # (off the network) finds the last entry.
        self._inside_way = np.full(len(network.lane_ids) + 1, -1)
        self._inside_way[network.inside[:, 0]] = network.inside[:, 1]
        self._inside_start = np.zeros(len(network.lane_ids) + 1, np.float32)
        self._inside_start[network.inside[:, 0]] = network.inside_start
        self._counts = np.diff(network.phase_start)
        self._planned = np.array([len(signal.programs) > 1 for signal in network.signals], bool)
        self._speed_limit = np.maximum(network.lane_speed, np.float32(0.1))  # a closed lane may have none
        self.begin(0.0)

    @property
    def num_signals(self) -> int:
        """Signals that are controlled."""
        return len(self._network.signals)

    @property
    def programs(self) -> dict[str, SwitchingProgram]:
        """What to install in SUMO at the beginning of an episode: the program of each controlled signal."""
        return {signal.id: program for signal, program in zip(self._network.signals, self._programs, strict=True)}

    def begin(self, time: float) -> None:
        """Forget the last episode: every signal shows its first green phase, free to change, since ``time`` (s)."""
        self._shown = np.zeros(self.num_signals, np.int16)
        self._green_since = np.full(self.num_signals, time - self.min_green)
        self._red_since = np.full(len(self._way_lane), float(time))  # [W] s, of each way on; inf where it is green
        for first in self._network.phase_start[:-1]:
            self._red_since[self._ways[first]] = np.inf
        self._waiting = np.zeros(self.num_signals, np.float32)  # at the last reward, in units of 100 s

    def commands(self, actions: Sequence[int] | NDArray[np.integer], time: float) -> list[PhaseCommand]:
        """What SUMO must be told so that each signal s shows its green phase ``actions[s]``.

        A signal whose minimum green or yellow is not over stays as it is. Raises ``ValueError`` for another number of
        actions than signals, and for a phase that a signal does not have.
        """
        changes = []
        asked = np.asarray(actions, np.int64)
        if asked.shape != (self.num_signals,):
            raise ValueError(f"actions of shape {asked.shape}: must be one for each of the {self.num_signals} signals")
        for s in _to_command(
            asked, self._shown, self._green_since, self._counts, self._planned, time, self._free_after
        ):
            signal, program = self._network.signals[s], self._programs[s]
            shown, wanted = int(self._shown[s]), int(asked[s])
            if not 0 <= wanted < len(signal.greens):
                raise ValueError(f"signal {signal.id}: phase {wanted}, must be 0 to {len(signal.greens) - 1}")
            if wanted == shown or time - self._green_since[s] < self._free_after:
                # A switch of programs by the time of day may have left it in another phase.
                changes.append(PhaseCommand(signal.id, shown))
                continue
            entry = program.entry[shown][wanted]
            changes.append(PhaseCommand(signal.id, entry))
            self._shown[s] = wanted
            first = self._network.phase_start[s]
            self._red_since[self._ways[first + shown]] = time
            self._red_since[self._ways[first + wanted]] = np.inf  # the ways that both let go stay green
            self._green_since[s] = time + (self.yellow_time if entry >= len(signal.greens) else 0.0)
        return changes

    def frame(self, snapshot: Snapshot) -> Frame:
        """The agents' view of a snapshot."""
        network = self._network
        elapsed, allowed = _since(snapshot.time, self._green_since, self._shown, network.phase_start, self._free_after)
        _give_turns(
            allowed,
            snapshot.time,
            snapshot.vehicles,
            snapshot.lanes,
            self._red_since,
            network.phase_start,
            self._phase_ways,
            self._way_lane,
            len(network.lane_ids),
            self._overdue_after,
        )
        _hold(
            allowed,
            snapshot.vehicles,
            snapshot.lanes,
            self._red_since,
            network.phase_start,
            self._phase_ways,
            self._way_lane,
            self._way_signal,
            self._inside_way,
            self._inside_start,
            network.lane_length,
            self._max_hold,
        )
        return Frame(snapshot.time, snapshot.vehicles, snapshot.lanes, self._shown.copy(), elapsed, allowed)

    def rewards(self, snapshot: Snapshot) -> NDArray[np.float32]:
        """Reward per signal for the decision that has led to this, float32 [S]; to be asked once for each."""
        if self._reward == "pressure":
            return -np.abs(self._sum(_PRESENT, self._entering, snapshot) - self._sum(_PRESENT, self._leaving, snapshot))
        if self._reward == "waiting-difference":
            before, self._waiting = self._waiting, self._sum(_WAITING, self._entering, snapshot)
            return before - self._waiting
        return -self._sum(_BURDENS[self._reward], self._entering, snapshot)

    def costs(self, snapshot: Snapshot) -> NDArray[np.float32]:
        """Cost per signal, float32 [S]."""
        return self._sum(_IMPATIENT, self._entering, snapshot)

    def _sum(self, burden: int, signal_of_lane: NDArray[np.int32], snapshot: Snapshot) -> NDArray[np.float32]:
        """Sum of a burden over the vehicles at each signal, float32 [S]."""
        return _sum_by_signal(
            burden,
            snapshot.vehicles,
            snapshot.lanes,
            signal_of_lane,
            self._speed_limit,
            self._patience,
            self.num_signals,
        )


# What a vehicle may count as.
_PRESENT, _STANDING, _WAITING, _DELAYED, _IMPATIENT = range(5)
_BURDENS = {"queue": _STANDING, "waiting": _WAITING, "delay": _DELAYED}


@compiled
def _sum_by_signal(  # type: ignore[no-untyped-def]
    burden, vehicles, lanes, signal_of_lane, speed_limit, patience, signals
):
    """Sum of a burden over the vehicles at each signal, [S]; ``signal_of_lane`` is ``signals`` where there is none."""
    total = np.zeros(signals, np.float64)
    for v in range(len(lanes)):
        signal = signal_of_lane[lanes[v]]
        if signal == signals:
            continue
        if burden == _PRESENT:
            total[signal] += 1.0
        elif burden == _STANDING:
            total[signal] += vehicles[v, SPEED] < HALTING
        elif burden == _WAITING:
            total[signal] += vehicles[v, WAITING] / 100.0
        elif burden == _DELAYED:
            total[signal] += max(0.0, 1.0 - vehicles[v, SPEED] / speed_limit[lanes[v]])
        else:
            total[signal] += vehicles[v, WAITING] > patience
    return total.astype(np.float32)


@compiled
def _to_command(wanted, shown, green_since, counts, planned, time, free_after):  # type: ignore[no-untyped-def]
    """Signals that must be told something: to switch, to stay where they are, or that there is no such phase."""
    found = np.empty(len(counts), np.int64)
    total = 0
    for s in range(len(counts)):
        switches = wanted[s] != shown[s] and time - green_since[s] >= free_after
        stays = planned[s] and time >= green_since[s]
        if switches or stays or not 0 <= wanted[s] < counts[s]:
            found[total] = s
            total += 1
    return found[:total]


@compiled
def _since(time, green_since, shown, phase_start, free_after):  # type: ignore[no-untyped-def]
    """How long each signal has been green, [S], and which phases may be chosen, [P]."""
    elapsed = np.empty(len(shown), np.float32)
    allowed = np.empty(phase_start[-1], np.bool_)
    for s in range(len(shown)):
        elapsed[s] = time - green_since[s]
        for phase in range(phase_start[s], phase_start[s + 1]):
            allowed[phase] = time - green_since[s] >= free_after or phase == phase_start[s] + shown[s]
    return elapsed, allowed


@compiled
def _give_turns(  # type: ignore[no-untyped-def]
    allowed, time, vehicles, lanes, red_since, phase_start, phase_ways, way_lane, num_lanes, overdue_after
):
    """Of the phases that are ``allowed`` [P], leave those that end a red that lasts too long, where a signal has such.

    ``phase_ways`` [K, 2] are (phase, way on), ``way_lane`` [W] the lane before each way, and ``red_since`` [W] (s)
    infinite where a way is green or will be after the present yellow.
    """
    waiting = np.zeros(num_lanes)  # s, the longest on each lane
    for v in range(len(lanes)):
        if lanes[v] >= 0:
            waiting[lanes[v]] = max(waiting[lanes[v]], vehicles[v, WAITING])
    due = np.zeros(phase_start[-1], np.bool_)
    for k in range(len(phase_ways)):
        phase, way = phase_ways[k]
        if allowed[phase] and min(waiting[way_lane[way]], time - red_since[way]) >= overdue_after:
            due[phase] = True
    for s in range(len(phase_start) - 1):
        own = slice(phase_start[s], phase_start[s + 1])
        if due[own].any():
            allowed[own] = due[own]


@compiled
def _hold(  # type: ignore[no-untyped-def]
    allowed,
    vehicles,
    lanes,
    red_since,
    phase_start,
    phase_ways,
    way_lane,
    way_signal,
    inside_way,
    inside_start,
    lane_length,
    max_hold,
):
    """Of the phases that are ``allowed`` [P], leave those that let go who is held up inside, where a signal has such.

    ``red_since`` and ``phase_ways`` as in ``_give_turns``; ``way_lane`` and ``way_signal`` [W] the lane before each way
    and its signal; ``inside_way`` and ``inside_start`` [L + 1] the way that each lane inside a junction belongs to, and
    how far past the stop line it begins (m); ``lane_length`` [L] m; ``max_hold`` s.
    """
    num_lanes = len(lane_length)
    green = np.isinf(red_since)
    ways_on = np.zeros(num_lanes, np.int64)  # that are green
    for way in range(len(green)):
        ways_on[way_lane[way]] += green[way]
    front = np.zeros(num_lanes)  # m past each stop line, of the first one who creeps inside while it is green
    blocking = np.full(num_lanes, -1)  # the way of that one
    for v in range(len(lanes)):
        way = inside_way[lanes[v]]
        creeps = vehicles[v, SPEED] < _CREEPING and vehicles[v, WAITING] < max_hold
        if way >= 0 and green[way] and creeps:
            before, place = way_lane[way], inside_start[lanes[v]] + vehicles[v, LANE_POSITION]
            if place > front[before]:
                front[before], blocking[before] = place, way
    held = np.zeros(num_lanes, np.bool_)  # whether one who has come from there is
    for v in range(len(lanes)):
        way, speed, position = inside_way[lanes[v]], vehicles[v, SPEED], vehicles[v, LANE_POSITION]
        if way >= 0 and blocking[way_lane[way]] not in (-1, way):
            held[way_lane[way]] |= inside_start[lanes[v]] + position < front[way_lane[way]]
        elif lanes[v] >= 0 and blocking[lanes[v]] >= 0 and ways_on[lanes[v]] > 1:
            # Does not stop at yellow any more; which way on it goes is not known.
            held[lanes[v]] |= lane_length[lanes[v]] - position < speed * (_REACTION + speed / (2.0 * _BRAKING))
    if not held.any():
        return
    signals = len(phase_start) - 1
    needed, given = np.zeros(signals, np.int64), np.zeros(phase_start[-1], np.int64)  # ways
    for way in range(len(green)):
        needed[way_signal[way]] += green[way] and held[way_lane[way]]
    for k in range(len(phase_ways)):
        phase, way = phase_ways[k]
        given[phase] += green[way] and held[way_lane[way]]
    for s in range(signals):
        own = slice(phase_start[s], phase_start[s + 1])
        fitting = allowed[own] & (given[own] == needed[s])
        if needed[s] and fitting.any():
            allowed[own] = fitting
