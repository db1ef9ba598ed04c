"""One env, stepped by everybody in turn: simulated seconds per second of processor time and of wall time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.clients import CLIENTS, command
from benchmarks.contest import Contender, Sample, contest
from benchmarks.networks import INTERVALS, NETWORKS, extent
from benchmarks.spread import Spread, ratio
from benchmarks.sumorl import can_decide_every
from pages import script

BASELINE = "bare"
STOCK_LIBRARY = "sumo-rl-traci"
_HOPELESS = {"traci-getters": 2.5}  # s after which the window of a client is cut that needs minutes for it


@dataclass(frozen=True)
class Settings:
    """What to step, and for how long."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """Scenarios by name."""
    intervals: tuple[float, ...] = INTERVALS
    """Simulated seconds between two decisions."""
    clients: tuple[str, ...] = tuple(CLIENTS)
    """Who steps."""
    rounds: int = 3
    """How often each of them is measured."""
    wall: float = 1.2
    """Seconds that one measurement takes at least."""
    limit: float = 15.0
    """Seconds after which a window is cut."""
    seconds: float | None = None
    """Simulated seconds of each window, from the beginning of the episode; none: benchmarks.networks says."""


QUICK = Settings(
    networks=("single",),
    intervals=(5.0,),
    clients=("bare", "sumo-rl-libsumo", "platoon-traci-policy"),
    rounds=1,
    wall=0.05,
    limit=2.0,
    seconds=120.0,
)


def measure(settings: Settings) -> dict[str, Any]:
    """All clients on all networks at all intervals; see ``row`` for what is known of each."""
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for network in settings.networks:
        for interval in settings.intervals:
            place = {"network": network, "interval": interval}
            able = [name for name in settings.clients if not name.startswith("sumo-rl") or can_decide_every(interval)]
            why = "sumo-rl's decisions must be longer than its yellow"
            skipped += [{**place, "client": name, "why": why} for name in settings.clients if name not in able]
            contenders = [_contender(name, network, interval, settings) for name in able]
            samples = contest(contenders, settings.rounds, f"stepping {network} every {interval:g} s")
            rows += [{**place, "client": name, **row(samples[name], samples)} for name in able]
    return {"rows": rows, "skipped": skipped}


def _contender(name: str, network: str, interval: float, settings: Settings) -> Contender:
    seconds = settings.seconds or extent(network).stepping
    limit = min(settings.limit, _HOPELESS.get(name, settings.limit))
    return Contender(name, command(name, network, interval, seconds, settings.wall, limit))


def row(own: Sequence[Sample], samples: dict[str, list[Sample]]) -> dict[str, Any]:
    """One client in numbers.

    ``per_cpu``, ``per_wall``: simulated s of all its envs per s of processor time of all processes, and of wall time.
    ``cpu_vs_bare``, ``wall_vs_bare``, ``wall_vs_sumo_rl``: the same relative to others, round by round; absent where
    these were not measured. ``vehicles`` under way on average, ``arrived_per_hour`` of simulated time, ``cut``: whether
    its window was.
    """
    per_cpu, per_wall = rates(own, "cpu"), rates(own, "wall")
    counts = [sample["vehicles"] for sample in own if sample["vehicles"] is not None]
    figures: dict[str, Any] = {
        "per_cpu": Spread.of(per_cpu).as_dict(),
        "per_wall": Spread.of(per_wall).as_dict(),
        "vehicles": Spread.of(counts).median if counts else None,
        "arrived_per_hour": Spread.of(sample["arrived_per_hour"] for sample in own).median,
        "cut": any(sample["cut"] for sample in own),
    }
    if BASELINE in samples:
        figures["cpu_vs_bare"] = ratio(per_cpu, rates(samples[BASELINE], "cpu")).as_dict()
        figures["wall_vs_bare"] = ratio(per_wall, rates(samples[BASELINE], "wall")).as_dict()
    if STOCK_LIBRARY in samples:
        figures["wall_vs_sumo_rl"] = ratio(per_wall, rates(samples[STOCK_LIBRARY], "wall")).as_dict()
    return figures


def rates(samples: Sequence[Sample], of: str, what: str = "simulated") -> list[float]:
    """How much per second of each sample; ``of`` is ``"cpu"`` or ``"wall"``."""
    return [sample[what] / sample[of] for sample in samples]


if __name__ == "__main__":
    script.run(Settings, measure, "stepping", __doc__)
