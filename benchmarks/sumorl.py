"""sumo-rl as its users have it: its own environments with their own observations and rewards."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.traffic import TICK, Plan
from envs import sumo, sumocfg
from envs.backends import open_session
from envs.scenarios import Scenario

if TYPE_CHECKING:
    from sumo_rl import SumoEnvironment

YELLOW = 3  # s
MIN_GREEN = 5  # s
_SAMPLE = 60.0  # s of simulated time between two looks at how many vehicles there are


def can_decide_every(interval: float) -> bool:
    """Whether sumo-rl can: its decisions must be whole seconds apart, and longer than its yellow."""
    return interval > YELLOW and interval == int(interval)


def speak_over(backend: str) -> None:
    """Begin this process anew with what sumo-rl reads from the environment, unless that is set already.

    sumo-rl decides on its backend while it and ``traci`` are imported.
    """
    wanted = environment(backend)
    if wanted != dict(os.environ):
        os.execve(sys.executable, sys.orig_argv, wanted)


def environment(backend: str) -> dict[str, str]:
    """The environment of a process in which sumo-rl is to speak over this backend."""
    found = {**os.environ, "SUMO_HOME": str(sumo.home()), "PROJ_LIB": sumo.environment()["PROJ_LIB"]}
    found.pop("LIBSUMO_AS_TRACI", None)
    return {**found, "LIBSUMO_AS_TRACI": "quiet"} if backend == "libsumo" else found


def make(scenario: Scenario, interval: float, seconds: float, seed: int, single_agent: bool = False) -> SumoEnvironment:
    """One of its environments, over the backend that this process speaks over."""
    from sumo_rl import SumoEnvironment  # not without the environment that ``speak_over`` sees to

    return SumoEnvironment(**arguments(scenario, interval, seconds), single_agent=single_agent, sumo_seed=seed)


def arguments(scenario: Scenario, interval: float, seconds: float) -> dict[str, Any]:
    """What sumo-rl is to be told so that it simulates a scenario as it is."""
    files = sumocfg.read(scenario.config)
    options = ["--no-step-log", "--duration-log.disable"]
    if files.additional:
        options += ["--additional-files", ",".join(map(str, files.additional))]
    return {
        "net_file": str(files.network),
        "route_file": ",".join(map(str, files.routes)),
        "begin_time": int(scenario.begin),
        "num_seconds": int(seconds),
        "delta_time": int(interval),
        "yellow_time": YELLOW,
        "min_green": MIN_GREEN,
        "time_to_teleport": -1,
        "sumo_warnings": False,
        "additional_sumo_cmd": " ".join(options),
    }


class SumoRl:
    """One of its environments, all signals as agents, that chooses what the plan says."""

    envs = 1

    def __init__(self, scenario: Scenario, interval: float, seconds: float, backend: str) -> None:
        self.begin = scenario.begin
        self.end = scenario.begin + seconds
        session = open_session(scenario, backend)
        plan = Plan.of(session.client, session.network, scenario.begin)
        session.close()  # libsumo has room for one
        self._env = make(scenario, interval, seconds, seed=1)
        self._signals = plan.signals
        self._table = translated(plan, self._env, self.end)

    def reset(self, seed: int) -> None:
        """Begin an episode: sumo-rl starts SUMO again."""
        self._env.reset(seed=seed)
        self._time = self.begin
        self._look_at = self.begin + _SAMPLE

    def advance(self) -> tuple[float, float | None]:
        """One decision; the time then (s), and now and then how many vehicles are under way."""
        chosen = self._table[int((self._time - self.begin) // TICK)]
        *_, info = self._env.step(dict(zip(self._signals, chosen, strict=True)))
        self._time = info["step"]
        if self._time < self._look_at:
            return self._time, None
        self._look_at += _SAMPLE
        return self._time, self._env.sumo.vehicle.getIDCount()

    def arrived(self) -> int:
        """Vehicles that have arrived in this episode."""
        inserted, running = (
            self._env.sumo.simulation.getParameter("", f"stats.vehicles.{name}") for name in ("inserted", "running")
        )
        return int(inserted) - int(running)

    def close(self) -> None:
        """End SUMO."""
        self._env.close()


def translated(plan: Plan, env: SumoEnvironment, end: float) -> NDArray[Any]:
    """The plan's table with greens as sumo-rl numbers them, int64 [N, S]: the same state, wherever it has it."""
    columns = []
    for column, signal, greens in zip(plan.table(end).T, plan.signals, plan.greens, strict=True):
        states = [phase.state for phase in env.traffic_signals[signal].green_phases]
        columns.append(np.array([states.index(green) for green in greens])[column])
    return np.stack(columns, axis=1)
