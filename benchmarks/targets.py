"""What was aimed at, and whether the measurements reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pages.judgement import Judgement

Row = dict[str, Any]

# Simulated seconds per second of processor time relative to bare SUMO.
_POLICY = {"resco:cologne1": 0.70, "resco:cologne8": 0.75, "resco:ingolstadt21": 0.85}
_POLICY_TRACI = {"resco:cologne1": 0.55, "resco:cologne8": 0.60, "resco:ingolstadt21": 0.75}
_EVERY_SECOND = {"resco:cologne1": 0.40, "resco:cologne8": 0.40, "resco:ingolstadt21": 0.50}
_STEPPED = 5.0  # s between decisions
_VERSUS_SUMO_RL = {"resco:cologne8": 15.0}  # wall time, over TraCI
_VECTORISED = ("resco:cologne1", "resco:cologne8", "resco:ingolstadt21")
_SHARE_OF_COLLECTORS = {"resco:cologne8": 0.5, "grid4x4": 0.5}
_RESET = {"resco:cologne8": 0.030, "resco:ingolstadt21": 0.110}  # s
_FRAGMENTS = 8000.0  # per s
_READER = 0.1e-3  # s of processor time per fragment
_GRAPHS = {"resco:cologne8": 20.0}  # times as fast
_REMEMBERED = "resco:cologne8"
_FOUR_ENVS = 1.2e9  # bytes
_FURTHER_ENV = 90e6  # bytes
_FLAT = 1.02  # of the first third of a long run


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.2f} ×" if value < 10 else f"{value:.1f} ×"


def milliseconds(value: float) -> str:
    """Seconds as ms."""
    return f"{value * 1e3:.3g} ms"


def megabytes(value: float) -> str:
    """Bytes as MB."""
    return f"{value / 1e6:,.0f} MB"


def number(value: float) -> str:
    """A count."""
    return f"{value:,.0f}"


def find(rows: Sequence[Row], **wanted: Any) -> Row | None:
    """The row that has all these values; None where there is none."""
    return next((row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None)


def median(row: Row | None, figure: str) -> float | None:
    """The median of a figure of a row; None where either is missing."""
    return None if row is None or figure not in row else float(row[figure]["median"])


def best(rows: Sequence[Row], clients: Sequence[str], figure: str, key: str = "client", **place: Any) -> float | None:
    """The greatest median of a figure among several clients."""
    found = [median(find(rows, **{key: client}, **place), figure) for client in clients]
    return max((value for value in found if value is not None), default=None)


def stepping(result: Row) -> Iterator[Judgement]:
    """One env, relative to bare SUMO and to sumo-rl."""
    rows = result["rows"]
    both = ("platoon-traci-policy", "platoon-libsumo-policy")
    for network, goal in _POLICY.items():
        value = best(rows, both, "cpu_vs_bare", network=network, interval=_STEPPED)
        yield Judgement(f"{network}, every 5 s with the policy, better backend", goal, value, times)
    for network, goal in _POLICY_TRACI.items():
        value = best(rows, both[:1], "cpu_vs_bare", network=network, interval=_STEPPED)
        yield Judgement(f"{network}, every 5 s with the policy, TraCI", goal, value, times)
    for network, goal in _EVERY_SECOND.items():
        value = best(rows, ("platoon-traci",), "cpu_vs_bare", network=network, interval=1.0)
        yield Judgement(f"{network}, every second without policy, TraCI", goal, value, times)
    for network, goal in _VERSUS_SUMO_RL.items():
        value = best(rows, both, "wall_vs_sumo_rl", network=network, interval=_STEPPED)
        yield Judgement(f"{network}, wall time against sumo-rl over TraCI, every 5 s", goal, value, times)


def scaling(result: Row) -> Iterator[Judgement]:
    """Four envs against sumo-rl's vectorised ones."""
    rows, own = result["rows"], ("platoon-traci", "platoon-libsumo")
    for network in _VECTORISED:
        for interval in (5.0, 10.0):
            place = {"network": network, "interval": interval, "envs": 4}
            value = best(rows, own, "wall_vs_sumo_rl", key="contender", **place)
            about = f"{network}, four envs every {interval:g} s against sumo-rl over libsumo in AsyncVectorEnv"
            yield Judgement(about, 1.0, value, times, strictly=True)


def training(result: Row) -> Iterator[Judgement]:
    """Training against PPO, and against the collectors alone."""

    def share(network: str, other: str) -> float | None:
        own, theirs = (median(find(rows, network=network, system=name), "per_wall") for name in ("platoon", other))
        return None if own is None or theirs is None else own / theirs

    rows = result["rows"]
    about = "resco:cologne1, training against sumo-rl with Stable-Baselines3 PPO"
    yield Judgement(about, 1.0, share("resco:cologne1", "sumo-rl-ppo"), times, strictly=True)
    for network, goal in _SHARE_OF_COLLECTORS.items():
        yield Judgement(f"{network}, training against its collectors alone", goal, share(network, "collectors"), times)


def resets(result: Row) -> Iterator[Judgement]:
    """Resets of a live SUMO process."""
    for network, goal in _RESET.items():
        value = median(find(result["rows"], network=network, client="platoon-traci"), "wall")
        yield Judgement(f"{network}, reset of a live process", goal, value, milliseconds, at_least=False)


def transport(result: Row) -> Iterator[Judgement]:
    """Fragments from two writers."""
    row = find(result["rows"], way="slots")
    yield Judgement("fragments of 0.8 MB per second", _FRAGMENTS, median(row, "per_second"), number)
    reader = median(row, "cpu_per_fragment")
    yield Judgement("processor time of the reader per fragment", _READER, reader, milliseconds, at_least=False)


def loading(result: Row) -> Iterator[Judgement]:
    """Batches from a loader worker."""
    value = median(find(result["rows"], way="pipe"), "cheaper")
    yield Judgement("processor time per batch, of torch's DataLoader against ours", 1.0, value, times, strictly=True)


def graphs(result: Row) -> Iterator[Judgement]:
    """Graphs of a batch, with equal edges: the measurement itself fails where they are not."""
    for network, goal in _GRAPHS.items():
        value = median(find(result["rows"], network=network), "faster")
        yield Judgement(f"{network}, 64 frames, against one Data per frame, equal edges", goal, value, times)


def memory(result: Row) -> Iterator[Judgement]:
    """A training run, parent included."""
    there, long = result["network"] == _REMEMBERED, result["long"]
    four = median(find(result["rows"], envs=4), "bytes") if there else None
    yield Judgement(f"{_REMEMBERED}, four simulations training", _FOUR_ENVS, four, megabytes, at_least=False)
    further = result["per_env"] if there else None
    yield Judgement(f"{_REMEMBERED}, each further simulation", _FURTHER_ENV, further, megabytes, at_least=False)
    growth = long["last_third"] / long["first_third"] if there else None
    about = f"{_REMEMBERED}, the last third of a long run against its first"
    yield Judgement(about, _FLAT, growth, lambda value: f"{value:.3f} ×", at_least=False)


_JUDGES: dict[str, Callable[[Row], Iterator[Judgement]]] = {
    "stepping": stepping,
    "scaling": scaling,
    "training": training,
    "resets": resets,
    "transport": transport,
    "loading": loading,
    "graphs": graphs,
    "memory": memory,
}


def judge(part: str, result: Row) -> list[Judgement]:
    """All targets of a part."""
    return list(_JUDGES[part](result))
