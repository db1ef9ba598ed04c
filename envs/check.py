"""Whether a scenario can be used: its signals, its demand, how fast it runs, and what will not work and why."""

from __future__ import annotations

import time
from dataclasses import dataclass

from envs import sumocfg
from envs.backends import open_session
from envs.network import Network, Signal
from envs.scenarios import Scenario
from envs.session import Session
from envs.simulation import no_signals

TRIAL_LIMIT = 60.0  # s of wall time; what the time window takes beyond that is not simulated
_STRIDE = 60.0  # s simulated between two looks at the clock


@dataclass(frozen=True)
class Demand:
    """The time window, or as much of it as `check` simulated, under the network's own signal programs.

    `simulated` and `wall` are s, simulated and real. Vehicles are `departed`, `arrived`, or still `waiting_to_depart`
    at the end; `delay` is the mean time loss and departure delay of those that arrived (s).
    """

    simulated: float
    wall: float
    departed: int
    waiting_to_depart: int
    arrived: int
    delay: float

    @property
    def vehicles_per_hour(self) -> float:
        """Vehicles that wanted to depart, per simulated hour."""
        return (self.departed + self.waiting_to_depart) * 3600 / self.simulated

    @property
    def wall_per_hour(self) -> float:
        """Real seconds for one simulated hour with nobody observing."""
        return self.wall * 3600 / self.simulated


@dataclass(frozen=True)
class Report:
    """What `check` found; `notes` say what will not work, or not as the user may expect, and why."""

    scenario: Scenario
    network: Network
    demand: Demand
    notes: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether there is anything to control."""
        return bool(self.network.signals)

    @property
    def road_lanes(self) -> int:
        """Lanes of roads; those inside junctions do not count."""
        return self.network.road_lanes

    @property
    def road_km(self) -> float:
        """Their length together."""
        return float(self.network.lane_length[self.network.on_road].sum()) / 1000

    def neighbours(self, signal: Signal) -> list[str]:
        """Ids of the signals that vehicles reach next, coming from this one."""
        ids = [other.id for other in self.network.signals]
        pairs = self.network.neighbours
        return [ids[after] for before, after in pairs if ids[before] == signal.id]

    def as_dict(self) -> dict[str, object]:
        """The report in plain types, for JSON."""
        network, demand = self.network, self.demand
        return {
            "scenario": self.scenario.name,
            "config": str(self.scenario.config),
            "begin": self.scenario.begin,
            "end": self.scenario.end,
            "usable": self.usable,
            "lanes": self.road_lanes,
            "lane_km": round(self.road_km, 3),
            "green_phases": network.num_phases,
            "signals": [
                {
                    "id": signal.id,
                    "controllable": not signal.why_fixed,
                    "why_not": signal.why_fixed,
                    "green_phases": list(signal.greens),
                    "lanes": [network.lane_ids[lane] for lane in signal.incoming],
                    "neighbours": self.neighbours(signal),
                }
                for signal in (*network.signals, *network.fixed_signals)
            ],
            "vehicles_per_hour": round(demand.vehicles_per_hour, 1),
            "simulated_seconds": demand.simulated,
            "wall_seconds_per_simulated_hour": round(demand.wall_per_hour, 3),
            "departed": demand.departed,
            "waiting_to_depart": demand.waiting_to_depart,
            "arrived": demand.arrived,
            "delay": round(demand.delay, 2),
            "notes": list(self.notes),
        }


def check(scenario: Scenario, limit: float = TRIAL_LIMIT) -> Report:
    """Open a scenario in SUMO and simulate its time window, for at most `limit` seconds of real time.

    Raises ScenarioError and SumoMissingError, and SumoError with SUMO's last words where it cannot load or run it.
    """
    session = open_session(scenario, "traci")
    try:
        demand = _simulate(session, scenario, limit)
        return Report(scenario, session.network, demand, tuple(_notes(scenario, session.network, demand)))
    finally:
        session.close()


def _simulate(session: Session, scenario: Scenario, limit: float) -> Demand:
    began, now = time.monotonic(), scenario.begin
    while now < scenario.end and (now == scenario.begin or time.monotonic() - began < limit):
        session.send([], min(now + _STRIDE, scenario.end))
        now = session.receive().time
    totals = session.totals()
    return Demand(
        simulated=now - scenario.begin,
        wall=time.monotonic() - began,
        departed=int(totals["departed"]),
        waiting_to_depart=int(totals["waiting_to_depart"]),
        arrived=int(totals["arrived"]),
        delay=totals["time_loss"] + totals["depart_delay"],
    )


def _notes(scenario: Scenario, network: Network, demand: Demand) -> list[str]:
    """What the user should know, the worst first."""
    config = sumocfg.read(scenario.config)
    window = scenario.end - scenario.begin
    notes = []
    if not network.signals:
        notes.append(no_signals(scenario, network))
    elif network.fixed_signals:
        notes.append(f"{len(network.fixed_signals)} of its signals cannot be controlled and run their own programs")
    if not demand.departed:
        notes.append(f"no vehicle departs from {scenario.begin:g} s to {scenario.begin + demand.simulated:g} s")
    if demand.waiting_to_depart > 0.1 * (demand.departed + demand.waiting_to_depart):
        notes.append(f"{demand.waiting_to_depart} vehicles find no room to depart: the network is over its capacity")
    if demand.simulated < window - 1e-6:
        notes.append(
            f"only the first {demand.simulated:g} s of {window:g} s were simulated, the rest would take too long"
        )
    if not config.names_end:
        notes.append(f"its configuration names no end: episodes end at {scenario.end:g} s")
    if config.scale != 1:
        notes.append(f"its configuration scales its demand by {config.scale:g}, which --demand-scale multiplies")
    if config.departure_jitter:
        notes.append(
            f"its configuration delays departures by up to {config.departure_jitter:g} s, "
            "which counts unless --departure-jitter is more"
        )
    if config.outputs:
        notes.append(
            f"every simulation overwrites the results that its configuration asks for: {', '.join(config.outputs)}"
        )
    return notes
