"""Webster's fixed-time programs, timed for the traffic of the very episode that they are tried on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray

from envs.controllers.timed import OwnPrograms
from envs.network import Network
from envs.programs import yellow_state
from envs.session import Session
from envs.signals import Frame, SignalControl

_SATURATION = 1800.0 / 3600.0  # vehicles per s of green and lane: one every two seconds
_START = 2.0  # s of each green until vehicles pass at that rate
_LEAST_CYCLE, _LONGEST_CYCLE = 20.0, 180.0  # s
_FULL = 0.95  # of a signal's capacity: the formula has no answer for more
_LOOK = 5.0  # s between two looks at who drives

Flows = Mapping[tuple[str, str], float]  # (road before, road behind) → vehicles per s


class Webster:
    """The network's green phases one after the other, for as long as Webster's formula says.

    The cycle is (1.5 L + 5) / (1 - Y) s, with L the s in it that are lost to yellow and until vehicles move, and Y the
    sum of the phases' flow ratios y, arriving vehicles over those that could pass; what is left of a cycle is shared in
    proportion to y.
    (Webster 1958, "Traffic Signal Settings", Road Research Technical Paper 39)

    The flows are those of the episode itself: it is driven once before, with the network's own programs, and the routes
    of all vehicles are noted, of those that do not get in or through, too. No engineer knows them as well. A movement
    that several phases let go counts in each of them with an equal share, and one that must give way as one that need
    not.
    """

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        """Drive the episode once to count, and begin it anew with the programs that come of it."""
        flows = _count(session, session.scenario.end)
        session.reset(seed)
        client = session.client
        ratios = flow_ratios(session.network, flows)
        logics = {}
        for signal, (start, end) in zip(session.network.signals, pairwise(session.network.phase_start), strict=True):
            seconds = green_times(ratios[start:end], task.yellow_time, task.min_green)
            logics[signal.id] = _program(client, signal.greens, seconds, task.yellow_time)
        self._programs = OwnPrograms(session, logics)

    def act(self, frame: Frame) -> None:
        """SUMO decides."""
        self._programs.restore()


def _count(session: Session, end: float) -> Flows:
    """Vehicles per s of each turn from one road into another, over the time that is left until ``end`` (s)."""
    client = session.client
    begin = client.simulation.getTime()
    routes: dict[str, tuple[str, ...]] = {}
    now = begin
    while now < end - 1e-6:
        now = min(now + _LOOK, end)
        with session.explained():
            client.simulationStep(now)
            routes |= {name: client.vehicle.getRoute(name) for name in client.vehicle.getIDList() if name not in routes}
    with session.explained():
        routes |= {name: client.vehicle.getRoute(name) for name in client.simulation.getPendingVehicles()}
    turns = Counter(turn for route in routes.values() for turn in pairwise(route))
    return {turn: number / (end - begin) for turn, number in turns.items()}


def flow_ratios(network: Network, flows: Flows) -> NDArray[np.float64]:
    """Of each phase, the share of the time that the busiest road which it lets go needs, [P].

    A road needs as much as its vehicles per s over those that may pass, ``_SATURATION`` on each of its served lanes.
    """
    road = [lane.rpartition("_")[0] for lane in network.lane_ids]
    turns = [
        {(road[before], road[behind]) for before, behind in pairs} for s in network.signals for pairs in s.movements
    ]
    signal = network.phase_signal
    sharing = Counter((signal[phase], turn) for phase, own in enumerate(turns) for turn in own)
    ratios = np.zeros(network.num_phases)
    lanes = Counter((phase, road[lane]) for phase, lane in network.phase_lanes)
    for phase, own in enumerate(turns):
        need: defaultdict[str, float] = defaultdict(float)  # road → vehicles per s
        for turn in own:
            need[turn[0]] += flows.get(turn, 0.0) / sharing[signal[phase], turn]
        ratios[phase] = max((flow / lanes[phase, name] / _SATURATION for name, flow in need.items()), default=0.0)
    return ratios


def green_times(ratios: NDArray[np.float64], yellow_time: float, min_green: float) -> NDArray[np.float64]:
    """How long each phase of one signal is green, s, for its flow ratios; whole seconds."""
    lost = (yellow_time + _START) * len(ratios)
    total = min(float(ratios.sum()), _FULL)
    cycle = np.clip((1.5 * lost + 5.0) / (1.0 - total), _LEAST_CYCLE, _LONGEST_CYCLE)
    share = ratios / ratios.sum() if ratios.sum() > 0 else np.full(len(ratios), 1 / len(ratios))
    return np.maximum(np.round((cycle - lost) * share + _START), np.ceil(max(min_green, 1.0)))


def _program(client: Any, greens: tuple[str, ...], seconds: NDArray[np.float64], yellow_time: float) -> Any:
    """Green phases and the yellow between them, as SUMO runs them round and round."""
    phases = []
    for at, (green, duration) in enumerate(zip(greens, seconds, strict=True)):
        after = yellow_state(green, greens[(at + 1) % len(greens)])
        shown = [(green, float(duration))] + [(after, yellow_time)] * (yellow_time > 0 and after != green)
        phases += [client.trafficlight.Phase(length, state, length, length, (), "") for state, length in shown]
    return client.trafficlight.Logic("webster", tc.TRAFFICLIGHT_TYPE_STATIC, 0, phases, {})
