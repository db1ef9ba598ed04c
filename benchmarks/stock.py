"""SUMO alone, and read by its stock Python client; all follow the plan as a static program."""

from __future__ import annotations

import traci.constants as tc

from benchmarks.traffic import Plan
from envs.backends import open_session
from envs.codec import EVERYWHERE, VEHICLE_VARIABLES
from envs.scenarios import Scenario

_SAMPLE = 60.0  # s of simulated time between two looks at how many vehicles there are, where nobody reads them


class _Stock:
    """One SUMO process and the connection that the ``traci`` package makes to it."""

    envs = 1

    def __init__(self, scenario: Scenario, interval: float, seconds: float) -> None:
        self.begin = scenario.begin
        self.end = scenario.begin + seconds
        self._interval = interval
        self._session = open_session(scenario, "traci")
        self._client = self._session.client
        self._junction = self._session.network.junction
        self._plan = Plan.of(self._client, self._session.network, scenario.begin)
        self._time = self.begin

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._session.reset(seed)
        self._session.install(self._plan.programs())
        self._plan.start(self._client)
        self._time = self.begin

    def arrived(self) -> int:
        """Vehicles that have arrived in this episode."""
        inserted, running = (
            self._client.simulation.getParameter("", f"stats.vehicles.{name}") for name in ("inserted", "running")
        )
        return int(inserted) - int(running)

    def close(self) -> None:
        """End SUMO."""
        self._session.close()


class Bare(_Stock):
    """SUMO alone: one command that simulates the whole window."""

    def __init__(self, scenario: Scenario, interval: float, seconds: float) -> None:
        super().__init__(scenario, interval, seconds)
        self._vehicles = self._mean_vehicles()

    def _mean_vehicles(self) -> float:
        """Vehicles under way on average, counted in an episode that is not measured."""
        self.reset(seed=1)
        counts = []
        while self._time < self.end:
            self._time = min(self._time + _SAMPLE, self.end)
            self._client.simulationStep(self._time)
            counts.append(self._client.vehicle.getIDCount())
        return sum(counts) / len(counts)

    def advance(self) -> tuple[float, float | None]:
        """Simulate the whole window; the time then (s), and how many vehicles there were."""
        self._client.simulationStep(self.end)
        return self.end, self._vehicles


class Subscriptions(_Stock):
    """Every vehicle by a context subscription that stands for the whole episode."""

    def reset(self, seed: int) -> None:
        """Begin an episode; SUMO forgets subscriptions with the one before."""
        super().reset(seed)
        domain = self._client.junction
        domain.subscribeContext(self._junction, tc.CMD_GET_VEHICLE_VARIABLE, EVERYWHERE, VEHICLE_VARIABLES)

    def advance(self) -> tuple[float, float | None]:
        """One interval; the time then (s), and how many vehicles were read."""
        self._time = min(self._time + self._interval, self.end)
        self._client.simulationStep(self._time)
        return self._time, len(self._client.junction.getContextSubscriptionResults(self._junction))


class Getters(_Stock):
    """Every vehicle by one question per variable."""

    def advance(self) -> tuple[float, float | None]:
        """One interval; the time then (s), and how many vehicles were read."""
        self._time = min(self._time + self._interval, self.end)
        self._client.simulationStep(self._time)
        vehicle = self._client.vehicle
        getters = (
            vehicle.getPosition,
            vehicle.getSpeed,
            vehicle.getAcceleration,
            vehicle.getAngle,
            vehicle.getLanePosition,
            vehicle.getWaitingTime,
            vehicle.getLaneID,
        )
        table = [[get(name) for get in getters] for name in vehicle.getIDList()]
        return self._time, len(table)
