"""Many envs at once: decisions per second of this project's collectors and of sumo-rl in ``AsyncVectorEnv``.

Both act with the same policy network, untrained, so that both meet the same kind of badly led traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import pooled, vectorised
from benchmarks.contest import Contender, Sample, contest
from benchmarks.networks import NETWORKS, extent
from benchmarks.spread import Spread, ratio
from pages import script

RIVAL = "sumo-rl-libsumo"
OWN = ("platoon-traci", "platoon-libsumo")


@dataclass(frozen=True)
class Settings:
    """How many envs, where, and for how long."""

    networks: tuple[str, ...] = tuple(NETWORKS)
    """Scenarios by name."""
    compared: int = 4
    """How many envs of everybody are compared, at all intervals."""
    intervals: tuple[float, ...] = (5.0, 10.0)
    """Simulated seconds between two decisions."""
    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    """How many envs the collectors are tried with, at the first interval."""
    rival_networks: tuple[str, ...] = ("resco:cologne8",)
    """Where sumo-rl is tried with all these numbers of envs, too."""
    rounds: int = 3
    """How often everybody is measured where they are compared; once elsewhere."""
    wall: float = 2.0
    """Seconds that one measurement takes at least."""
    limit: float = 15.0
    """Seconds after which a measurement is cut."""
    seconds: float | None = None
    """Simulated seconds of each episode; none: benchmarks.networks says."""


QUICK = Settings(
    networks=("single",),
    compared=2,
    intervals=(10.0,),
    counts=(2,),
    rival_networks=(),
    rounds=1,
    wall=0.1,
    limit=3.0,
    seconds=60.0,
)


def measure(settings: Settings) -> dict[str, Any]:
    """Everybody on all networks; see ``row`` for what is known of each."""
    rows: list[dict[str, Any]] = []
    for network in settings.networks:
        for interval, envs in _pairs(settings):
            compared = envs == settings.compared
            names = [*OWN, *([RIVAL] if compared or network in settings.rival_networks else [])]
            contenders = [_contender(name, network, interval, envs, settings) for name in names]
            title = f"scaling {network} every {interval:g} s, {envs} envs"
            samples = contest(contenders, settings.rounds if compared else 1, title)
            place = {"network": network, "interval": interval, "envs": envs}
            rows += [{**place, "contender": name, **row(samples[name], samples.get(RIVAL))} for name in names]
    return {"rows": rows}


def _pairs(settings: Settings) -> list[tuple[float, int]]:
    """Which intervals are tried with how many envs."""
    return [
        (interval, envs)
        for interval in settings.intervals
        for envs in (settings.counts if interval == settings.intervals[0] else (settings.compared,))
    ]


def _contender(name: str, network: str, interval: float, envs: int, settings: Settings) -> Contender:
    seconds = settings.seconds or extent(network).scaling
    if name == RIVAL:
        command = vectorised.command(network, interval, envs, seconds, settings.wall, settings.limit)
        return Contender(name, command)
    backend = name.removeprefix("platoon-")
    return Contender(name, pooled.command(network, backend, interval, envs, seconds, settings.wall, settings.limit))


def row(own: Sequence[Sample], rival: Sequence[Sample] | None) -> dict[str, Any]:
    """One contender in numbers.

    ``per_wall`` and ``per_cpu``: decisions of all its envs per s of wall time, and of processor time of all processes.
    ``wall_vs_sumo_rl`` and ``cpu_vs_sumo_rl``: relative to sumo-rl, round by round; absent where that was not measured.
    ``vehicles`` under way in an env on average; ``cut``: whether a measurement was.
    """
    figures: dict[str, Any] = {
        "vehicles": Spread.of(sample["vehicles"] for sample in own).median,
        "cut": any(sample["cut"] for sample in own),
    }
    for of in ("wall", "cpu"):
        rates = [sample["decisions"] / sample[of] for sample in own]
        figures[f"per_{of}"] = Spread.of(rates).as_dict()
        if rival is not None:
            theirs = [sample["decisions"] / sample[of] for sample in rival]
            figures[f"{of}_vs_sumo_rl"] = ratio(rates, theirs).as_dict()
    return figures


if __name__ == "__main__":
    script.run(Settings, measure, "scaling", __doc__)
