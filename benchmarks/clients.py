"""Everybody who steps one network: ``python -m benchmarks.clients NAME --network N --interval S`` measures one of them.

It prints one line of JSON: what it used (wall and processor time in s, all processes together), what it simulated, and
how many vehicles there were. Imports, start-up and resets are outside what is measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks import sumorl
from benchmarks.contest import Sample, add_turn_flag, take_turns
from benchmarks.networks import INTERVALS, extent
from benchmarks.usage import Meter
from envs.scenarios import Scenario, find
from pages.output import results_only

_WARM_UP = 3  # decisions before anything is measured


class Client(Protocol):
    """Somebody who simulates episodes of one network, in one env or in several side by side."""

    envs: int
    begin: float  # simulated s
    end: float

    def reset(self, seed: int) -> None:
        """Begin an episode."""

    def advance(self) -> tuple[float, float | None]:
        """Go on by one decision; the time then (s), and the vehicles in all envs where they were counted."""

    def arrived(self) -> int:
        """Vehicles that have arrived in this episode, in all envs."""

    def close(self) -> None:
        """End everything."""


def _stock(kind: str) -> Callable[[Scenario, float, float], Client]:
    def make(scenario: Scenario, interval: float, seconds: float) -> Client:
        from benchmarks import stock

        client: Client = getattr(stock, kind)(scenario, interval, seconds)
        return client

    return make


def _sumo_rl(backend: str) -> Callable[[Scenario, float, float], Client]:
    def make(scenario: Scenario, interval: float, seconds: float) -> Client:
        return sumorl.SumoRl(scenario, interval, seconds, backend)

    return make


def _own(backend: str, policy: bool = False, envs: int = 1) -> Callable[[Scenario, float, float], Client]:
    def make(scenario: Scenario, interval: float, seconds: float) -> Client:
        from benchmarks.own import Own

        return Own(scenario, interval, seconds, backend, policy, envs)

    return make


# Imported when they are made: nobody carries what another one needs.
CLIENTS: dict[str, Callable[[Scenario, float, float], Client]] = {
    "bare": _stock("Bare"),
    "traci-subscriptions": _stock("Subscriptions"),
    "traci-getters": _stock("Getters"),
    "sumo-rl-traci": _sumo_rl("traci"),
    "sumo-rl-libsumo": _sumo_rl("libsumo"),
    "platoon-traci": _own("traci"),
    "platoon-libsumo": _own("libsumo"),
    "platoon-traci-policy": _own("traci", policy=True),
    "platoon-libsumo-policy": _own("libsumo", policy=True),
    "platoon-traci-policy-4": _own("traci", policy=True, envs=4),
}


def measure(client: Client, wall: float, limit: float) -> Sample:
    """Simulate whole windows, seed after seed, for ``wall`` s at least; a window is cut at ``limit`` s in all."""
    meter = Meter()
    simulated, decisions, arrived, seed = 0.0, 0, 0, 0
    counts: list[float] = []
    while meter.total.wall < wall:
        seed += 1
        client.reset(seed)
        now = client.begin
        with meter:
            while now < client.end and meter.elapsed() < limit:
                now, vehicles = client.advance()
                decisions += 1
                if vehicles is not None:
                    counts.append(vehicles)
        simulated += (now - client.begin) * client.envs
        arrived += client.arrived()
    return {
        "wall": meter.total.wall,
        "cpu": meter.total.cpu,
        "simulated": simulated,
        "decisions": decisions * client.envs,
        "vehicles": sum(counts) / len(counts) / client.envs if counts else None,
        "arrived_per_hour": 3600.0 * arrived / simulated,
        "cut": now < client.end,
    }


def warm_up(client: Client) -> None:
    """Take the first decisions of an episode: whatever is loaded, compiled or cached on first use now is."""
    client.reset(1)
    now = client.begin
    for _ in range(_WARM_UP):
        if now < client.end:
            now, _vehicles = client.advance()
    client.reset(1)


def measure_reset(client: Client) -> Sample:
    """Simulate a window, then begin another episode: s of wall time that this takes."""
    now = client.begin
    while now < client.end:
        now, _vehicles = client.advance()
    began = time.perf_counter()
    client.reset(2)
    return {"wall": time.perf_counter() - began}


def command(
    name: str, network: str, interval: float, seconds: float, wall: float = 2.0, limit: float = 60.0
) -> list[str]:
    """The arguments of ``python -m`` that measure one client."""
    numbers = {"--interval": interval, "--seconds": seconds, "--wall": wall, "--limit": limit}
    flags = [text for flag, number in numbers.items() for text in (flag, f"{number:g}")]
    return ["benchmarks.clients", name, "--network", network, *flags]


def main(argv: Sequence[str]) -> None:
    """Measure one client."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("--network", default="resco:cologne1", help="a scenario's name (default: %(default)s)")
    parser.add_argument("--interval", type=float, default=INTERVALS[1], help="s between decisions (%(default)g)")
    parser.add_argument("--seconds", type=float, help="simulated s of each episode (default: as the report has it)")
    parser.add_argument("--wall", type=float, default=2.0, help="s to measure at least (%(default)g)")
    parser.add_argument("--limit", type=float, default=20.0, help="s after which a window is cut (%(default)g)")
    parser.add_argument("--resets", action="store_true", help="measure a reset after each window instead")
    add_turn_flag(parser)
    given = parser.parse_args(argv)
    if given.name.startswith("sumo-rl"):
        sumorl.speak_over(given.name.removeprefix("sumo-rl-"))
    scenario = find(given.network)
    seconds = min(given.seconds or extent(given.network).stepping, scenario.end - scenario.begin)
    with results_only() as results:
        client = CLIENTS[given.name](scenario, given.interval, seconds)
        try:
            warm_up(client)
            take_turns(
                results,
                lambda: measure_reset(client) if given.resets else measure(client, given.wall, given.limit),
                given.in_turn,
            )
        finally:
            client.close()


if __name__ == "__main__":
    main(sys.argv[1:])
