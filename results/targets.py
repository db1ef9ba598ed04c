"""What was aimed at, and whether the policies reach it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.targets import Judgement
from results.protocol import Row

Found = Mapping[str, Row]  # what each part has found

_LAST = {"cologne1": 16.5, "cologne8": 17.0, "grid4x4": 30.0}  # s of delay, of the last checkpoint
_EARLY = (("cologne1", 60.0, 20.0), ("cologne1", 300.0, 17.0))  # part, s of wall time, s of delay
_OF_FIXED = 0.45
_SPREAD = 1.10  # the worst training run to the median of them


def seconds(value: float) -> str:
    """Of delay."""
    return f"{value:.1f} s"


def count(value: float) -> str:
    """Of episodes."""
    return f"{value:.0f}"


def judge(found: Found) -> list[Judgement]:
    """All targets, those that nothing was measured for included."""
    return [
        *_last(found),
        *_early(found),
        *_against_yardsticks(found),
        *_spread(found),
        *_transfer(found),
        *_side(found),
    ]


def _last(found: Found) -> Iterator[Judgement]:
    for part, goal in _LAST.items():
        rows = _rows(found, part, moment=None)
        yield from _at_most(f"{part}, last checkpoint, median of training runs", goal, _median(rows))
        jams = sum(row["gridlocked"] for row in rows) if rows else None
        yield Judgement(f"{part}, last checkpoints, gridlocked episodes", 0.0, jams, count, at_least=False)


def _early(found: Found) -> Iterator[Judgement]:
    for part, moment, goal in _EARLY:
        value = _median(_rows(found, part, moment=moment))
        yield from _at_most(f"{part}, {moment:g} s after the start, median of training runs", goal, value)


def _against_yardsticks(found: Found) -> Iterator[Judgement]:
    for part, minutes in (("cologne8", 10), ("grid4x4", 10)):
        value = _median(_rows(found, part, moment=60.0 * minutes))
        goal = _yardstick(found, part, "max-wave")
        yield from _below(f"{part}, within {minutes} minutes, against max-wave", goal, value)
    value = _median(_rows(found, "ingolstadt21", moment=2700.0))
    delays = [row["delay"]["mean"] for row in _yardsticks(found, "ingolstadt21")]
    yield from _below(
        "ingolstadt21, within 45 minutes, against every classical controller", min(delays, default=None), value
    )
    fixed = _yardstick(found, "ingolstadt21", "fixed")
    goal = None if fixed is None else _OF_FIXED * fixed
    yield from _at_most(f"ingolstadt21, within 45 minutes, {_OF_FIXED:g} times fixed time", goal, value)


def _spread(found: Found) -> Iterator[Judgement]:
    delays = [row["delay"]["mean"] for row in _rows(found, "cologne1", moment=None)]
    goal = _SPREAD * statistics.median(delays) if delays else None
    yield from _at_most(f"cologne1, worst of {len(delays)} training runs", goal, max(delays, default=None))


def _transfer(found: Found) -> Iterator[Judgement]:
    value = _median(_rows(found, "transfer", network="resco:cologne8"))
    row = next((row for row in _yardsticks(found, "cologne8") if row["controller"] == "max-pressure"), None)
    goal = None if row is None else row["delay"]["median"]
    yield from _below("cologne8 unseen, trained on cologne1 and grid4x4, against max-pressure's median", goal, value)


def _side(found: Found) -> Iterator[Judgement]:
    own, theirs = (found.get("rival", {}).get(who, []) for who in ("own", "theirs"))
    for moment in dict.fromkeys(row["moment"] for row in theirs):
        best = min(row["delay"]["mean"] for row in theirs if row["moment"] == moment)
        value = _median([row for row in own if row["moment"] == moment])
        yield from _below(f"cologne1, {moment:g} s after the start, against the best of sumo-rl with PPO", best, value)


def _rows(found: Found, part: str, **wanted: Any) -> list[Row]:
    """A part's rows that have all these values."""
    rows = found.get(part, {}).get("rows", [])
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def _yardsticks(found: Found, part: str) -> list[Row]:
    return _rows(found, "yardsticks", network=f"resco:{part}")


def _yardstick(found: Found, part: str, controller: str) -> float | None:
    for row in _yardsticks(found, part):
        if row["controller"] == controller:
            return float(row["delay"]["mean"])
    return None


def _median(rows: Sequence[Row]) -> float | None:
    """The median over training runs of the mean delay, s."""
    return statistics.median(row["delay"]["mean"] for row in rows) if rows else None


def _at_most(about: str, goal: float | None, value: float | None) -> Iterator[Judgement]:
    """Nothing where the yardstick that it is judged by was not measured."""
    if goal is not None:
        yield Judgement(about, goal, value, seconds, at_least=False)


def _below(about: str, goal: float | None, value: float | None) -> Iterator[Judgement]:
    """Likewise."""
    if goal is not None:
        yield Judgement(about, goal, value, seconds, at_least=False, strictly=True)
