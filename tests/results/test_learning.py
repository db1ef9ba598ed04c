"""Which checkpoints of a run are judged, and what is kept of its curve."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.contest import ContestError
from results import learning
from results.learning import Settings, curve, flags, snapshots


def run_with(tmp_path: Path, *ages: float) -> Any:
    """A run that began at 1,000 s and wrote checkpoints so many s later."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for number, age in enumerate(ages):
        path = folder / f"step-{number:012d}.pt"
        path.touch()
        os.utime(path, (0.0, 1000.0 + age))
    return SimpleNamespace(folder=tmp_path, began=1000.0)


def test_a_moment_has_the_newest_checkpoint_that_was_there(tmp_path: Path) -> None:
    found = list(snapshots(run_with(tmp_path, 11.0, 29.5, 30.5, 58.0), (10.0, 30.0, 60.0)))
    assert [(one.moment, one.wall) for one in found] == [(30.0, 29.5), (60.0, 58.0), (None, 58.0)]


def test_the_last_one_is_judged_in_any_case(tmp_path: Path) -> None:
    (last,) = snapshots(run_with(tmp_path, 11.0, 70.0), ())
    assert (last.moment, last.wall) == (None, 70.0)


def test_a_run_has_the_default_profile_but_for_what_must_differ() -> None:
    assert flags(Settings(scenario="a,b", minutes=2.0), seed=3).keys() == {
        *("--scenario", "--num-envs", "--time-limit", "--eval-seeds", "--seed"),
        *("--checkpoint-every", "--keep-checkpoints"),
    }


def test_a_curve_is_thinned_out_and_begins_with_the_first_episode() -> None:
    rows = [
        {"trained": float(i), "decisions": 10 * i, "lag": 1.0, **({"delay": 20.0} if i > 9 else {})} for i in range(999)
    ]
    kept = curve(rows)
    assert kept[0] == {"trained": 10.0, "decisions": 100, "delay": 20.0}
    assert 100 < len(kept) < 400


def test_a_curve_knows_the_scenarios_apart() -> None:
    row = {"trained": 1.0, "decisions": 10, "delay": 20.0, "delay/a": 15.0, "delay/b": 25.0, "lag": 1.0}
    assert curve([row]) == [{name: value for name, value in row.items() if name != "lag"}]


def test_runs_that_come_to_nothing_are_kept_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(within: float) -> None:
        raise ContestError("out of luck")

    monkeypatch.setattr(learning, "training_run", lambda given: nullcontext(SimpleNamespace(finish=finish)))
    result = learning.measure(Settings(scenario="single", runs=2))
    assert result == {"scenario": "single", "rows": [], "runs": [], "failed": ["out of luck"] * 2}
