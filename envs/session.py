"""Live SUMO simulations: what a task needs of one, and the two ways to have it.

A session is reused from episode to episode. ``send`` gives it a decision, ``receive`` waits for what came of it, so
that one process can keep several simulations busy at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import traci.constants as tc
from numpy.typing import NDArray

from envs.codec import EVERYWHERE
from envs.network import Network
from envs.programs import SwitchingProgram
from envs.scenarios import Scenario

# Columns of a vehicle table.
X, Y, SPEED, ACCELERATION, ANGLE, LANE_POSITION, WAITING, CONTROLLED = range(8)
NUM_COLUMNS = 8

# Running statistics that SUMO keeps anyway, as simulation parameters.
TOTALS = {
    "departed": "stats.vehicles.inserted",
    "running": "stats.vehicles.running",
    "waiting_to_depart": "stats.vehicles.waiting",
    "teleports": "stats.teleports.total",
    "collisions": "stats.safety.collisions",
    "arrived": "device.tripinfo.vehicleTripStatistics.count",
    "time_loss": "device.tripinfo.vehicleTripStatistics.timeLoss",
    "depart_delay": "device.tripinfo.vehicleTripStatistics.departDelay",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The network at one instant.

    ``vehicles`` is float32 [V, 8]: x m, y m, speed m/s, acceleration m/s², angle ° (0: north, clockwise), position on
    the lane m, waiting time s, 1 where the vehicle is controlled. ``lanes`` is int32 [V], -1 off the network. Rows are
    sorted by vehicle id.
    """

    time: float
    vehicles: NDArray[np.float32]
    lanes: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PhaseCommand:
    """Show phase ``phase`` of the installed program of signal ``signal``."""

    signal: str
    phase: int


class Session(Protocol):
    """One live simulation of one scenario."""

    scenario: Scenario
    network: Network
    # A traci.Connection or the libsumo module, for all that is rare; subscriptions that stand are the session's own.
    client: Any

    @property
    def pids(self) -> list[int]:
        """Process id of its SUMO; empty where SUMO lives in this process."""

    def reset(self, seed: int) -> None:
        """Begin a new episode with this seed on the live simulation; the previous one is dropped.

        All that is random in it is drawn from the seed, what its demand varies in included (``envs.variation``).
        """

    def send(self, commands: Sequence[PhaseCommand], until: float) -> None:
        """Give the commands and let SUMO simulate until ``until`` (s)."""

    def receive(self) -> Snapshot:
        """Wait for what ``send`` began. Raises ``SumoError`` when SUMO dies, refuses, or hangs."""

    def explained(self) -> AbstractContextManager[None]:
        """A block that speaks to ``client`` itself: what breaks in it becomes a ``SumoError``."""

    def check(self) -> None:
        """Raise ``SumoError`` when SUMO has died since it was last spoken to."""

    def observe(self) -> Snapshot:
        """The present instant, without simulating."""

    def totals(self) -> dict[str, float]:
        """The episode's statistics so far, see ``TOTALS``; mean time loss and departure delay (s) are those of the
        vehicles that have arrived.
        """

    def install(self, programs: dict[str, SwitchingProgram]) -> None:
        """Replace the program of each named signal; to be repeated after every reset."""

    def delays_under_way(self) -> NDArray[np.float64]:
        """Time loss plus departure delay (s) of the vehicles that are in the network, [V]."""

    def finish(self) -> None:
        """End the simulation when SUMO has written all its output files; raises ``SumoError`` where it cannot."""

    def close(self) -> None:
        """End the simulation at once; closing twice is fine."""


def simulation_options(scenario: Scenario, seed: int, time_to_teleport: float, extra: Sequence[str] = ()) -> list[str]:
    """SUMO's command line for one episode, without the executable."""
    return [
        "--configuration-file",
        str(scenario.config),
        "--seed",
        str(seed),
        "--random",
        "false",  # the user's configuration may say otherwise, and our seed would mean nothing
        "--time-to-teleport",
        f"{time_to_teleport:g}",
        "--no-step-log",
        "--no-warnings",
        "--duration-log.disable",
        "--device.tripinfo.probability",
        "1",  # SUMO sums up time loss by itself then; costs nothing measurable
        *extra,
    ]


def time_after(now: float, until: float, step: float) -> float:
    """What SUMO's clock shows (s) once it was told at ``now`` to simulate until ``until``, in steps of ``step``.

    SUMO counts in whole milliseconds.
    """
    present, target, each = round(now * 1000), round(until * 1000), round(step * 1000)
    return (present + max(0, -((present - target) // each)) * each) / 1000


def delays_under_way(client: Any, junction: str) -> NDArray[np.float64]:
    """Time loss plus departure delay (s) of every vehicle that is in the network, [V].

    SUMO's own statistics leave them out until they arrive. A subscription that is dropped again at once.
    """
    variables = (tc.VAR_TIMELOSS, tc.VAR_DEPART_DELAY)
    client.junction.subscribeContext(junction, tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE, variables)
    found = client.junction.getContextSubscriptionResults(junction)
    client.junction.unsubscribeContext(junction, tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE)
    # Both clients keep what earlier reads have brought: vehicles that are gone, and other variables.
    present = [name for name in client.vehicle.getIDList() if name in found]
    return np.array([sum(found[name][variable] for variable in variables) for name in present])


def install_programs(client: Any, network: Network, programs: dict[str, SwitchingProgram]) -> None:
    """Give each named signal its switching program and start it with its first green phase.

    A signal with several programs gets it under each of their names: plans that switch between them by the time of
    day (WAUT) then find ours.
    """
    names = {signal.id: signal.programs for signal in network.signals}
    for signal, program in programs.items():
        phases = [
            client.trafficlight.Phase(p.duration, p.state, p.duration, p.duration, (p.following,), "")
            for p in program.phases
        ]
        for name in (*(names[signal] if len(names[signal]) > 1 else ()), "platoon"):
            client.trafficlight.setProgramLogic(signal, client.trafficlight.Logic(name, 0, 0, phases, {}))
        client.trafficlight.setProgram(signal, "platoon")
        client.trafficlight.setPhase(signal, 0)
