"""What was aimed at, and whether the policies reach it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from pages.judgement import Judgement
from results.protocol import Found, Row, median_delay

_LAST = {"cologne1": 16.5, "cologne8": 17.0, "grid4x4": 30.0}  # s of delay, of the last checkpoint
_OF_FIXED = 0.45
_MAX_PRESSURE = 25.5  # s on cologne8, the median episode of RESCO's own
_MINUTES = 45.0  # of wall time, on ingolstadt21
_RUNS, _SPREAD = 5, 1.10  # training runs, and the worst of them to their median
_MOMENTS = (30.0, 60.0, 120.0, 300.0)  # s of wall time


def seconds(value: float) -> str:
    """Of delay; without end is that of a policy that was not there by then, and NaN that of an unknown yardstick."""
    if math.isnan(value):
        return "a yardstick"
    return f"{value:.2f} s" if math.isfinite(value) else "no checkpoint"


def count(value: float) -> str:
    """Of episodes; without end where a training run has failed."""
    return f"{value:.0f}" if math.isfinite(value) else "a run failed"


def judge(found: Found) -> list[Judgement]:
    """All targets, those that nothing was measured for included."""
    kinds = (_last, _early, _against_yardsticks, _spread, _transfer, _side)
    return [judgement for kind in kinds for judgement in kind(found)]


def _last(found: Found) -> Iterator[Judgement]:
    for part, goal in _LAST.items():
        yield _at_most(f"{part}, last checkpoint", goal, _delay(found, part))
    for part in (*_LAST, "ingolstadt21"):
        rows = rows_of(found, part)
        jams = sum(row["gridlocked"] for row in rows) if rows else None
        jams = math.inf if _failed(found, part) else jams
        yield Judgement(f"{part}, last checkpoint, gridlocked episodes", 0.0, jams, count, at_least=False)


def _early(found: Found) -> Iterator[Judgement]:
    yield _below("cologne1, 60 s after the start", 20.0, _delay(found, "cologne1", 60.0))
    yield _at_most("cologne1, 5 minutes after the start", 17.0, _delay(found, "cologne1", 300.0))


def _against_yardsticks(found: Found) -> Iterator[Judgement]:
    for part in ("cologne8", "grid4x4"):
        goal = _yardstick(found, part, "max-wave")
        yield _below(f"{part}, 10 minutes after the start, against max-wave", goal, _delay(found, part, 600.0))
    walls = [row["wall"] for row in rows_of(found, "ingolstadt21")]
    wall = math.inf if _failed(found, "ingolstadt21") else max(walls, default=None)
    yield _at_most("ingolstadt21, from the start to the last checkpoint", 60.0 * _MINUTES, wall)
    delay = _delay(found, "ingolstadt21")
    best = min((row["delay"]["mean"] for row in _yardsticks(found, "ingolstadt21")), default=None)
    yield _below("ingolstadt21, last checkpoint, against every classical controller", best, delay)
    fixed = _yardstick(found, "ingolstadt21", "fixed")
    goal = None if fixed is None else _OF_FIXED * fixed
    yield _at_most(f"ingolstadt21, last checkpoint, {_OF_FIXED:g} times fixed time", goal, delay)


def _spread(found: Found) -> Iterator[Judgement]:
    delays = [row["delay"]["mean"] for row in rows_of(found, "cologne1")]
    about = f"cologne1, last checkpoint, the worst of {_RUNS} training runs, {_SPREAD:g} times their median"
    goal = _SPREAD * statistics.median(delays) if delays else None
    worst = [*delays, *[math.inf] * _failed(found, "cologne1")]
    yield _at_most(about, goal, max(worst) if len(worst) >= _RUNS else None)


def _transfer(found: Found) -> Iterator[Judgement]:
    own = _yardstick(found, "cologne8", "max-pressure", "median")
    goal = None if own is None else min(own, _MAX_PRESSURE)
    about = "cologne8 unseen, trained on cologne1 and grid4x4: the mean, against max-pressure's median, ours or RESCO's"
    yield _below(about, goal, _delay(found, "transfer", network="cologne8"))


def _side(found: Found) -> Iterator[Judgement]:
    """At each moment, the median over training runs of ours, against the least of those of their variants."""
    rival = found.get("rival", {"own": [], "theirs": [], "runs": {"own": 0, "theirs": 0}})
    runs = rival["runs"]
    for moment in _MOMENTS:
        own, theirs = ([row for row in rival[who] if row["moment"] == moment] for who in ("own", "theirs"))
        names = {row["variant"] for row in theirs}
        medians = [median_delay([row for row in theirs if row["variant"] == name], runs["theirs"]) for name in names]
        best = min((median for median in medians if median is not None), default=None)
        about = f"cologne1, {moment:g} s after the start, against the best of sumo-rl with PPO"
        yield _below(about, best, median_delay(own, runs["own"]))


def rows_of(found: Found, part: str, moment: float | None = None, network: str = "") -> list[Row]:
    """A part's rows of one moment, or of its last checkpoints; of its own network unless another is named."""
    wanted = (f"resco:{network or part}", moment)
    return [row for row in found.get(part, {}).get("rows", []) if (row["network"], row["moment"]) == wanted]


def _failed(found: Found, part: str) -> int:
    """How many training runs of a part have come to nothing."""
    return len(found.get(part, {}).get("failed", []))


def _delay(found: Found, part: str, moment: float | None = None, network: str = "") -> float | None:
    """The median over a part's training runs of the mean delay at a moment, s."""
    runs = len(rows_of(found, part, network=network)) + _failed(found, part)
    return median_delay(rows_of(found, part, moment, network), runs)


def _yardsticks(found: Found, part: str) -> list[Row]:
    rows = found.get("yardsticks", {}).get("rows", [])
    return [row for row in rows if row["network"] == f"resco:{part}"]


def _yardstick(found: Found, part: str, controller: str, figure: str = "mean") -> float | None:
    for row in _yardsticks(found, part):
        if row["controller"] == controller:
            return float(row["delay"][figure])
    return None


def _at_most(about: str, goal: float | None, value: float | None) -> Judgement:
    return _judgement(about, goal, value, strictly=False)


def _below(about: str, goal: float | None, value: float | None) -> Judgement:
    return _judgement(about, goal, value, strictly=True)


def _judgement(about: str, goal: float | None, value: float | None, strictly: bool) -> Judgement:
    """Without the yardstick that it is judged by, nothing is met or missed."""
    if goal is None:
        return Judgement(about, math.nan, None, seconds, False, strictly)
    return Judgement(about, goal, value, seconds, False, strictly)
