"""Statistics against scipy's own, tables that nobody's terminal breaks, and pictures that show what they should."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from rich.console import Console
from scipy import stats

from learner import report
from learner.report import Summary


@dataclass(frozen=True)
class Trial:
    controller: str
    seed: int
    delay: float
    waiting_time: float = 10.0
    travel_time: float = 80.0
    arrived: int = 1500


FIXED = [Trial("fixed", seed, delay) for seed, delay in enumerate([90.0, 92.5, 88.0, 95.0, 91.0], start=1)]
POLICY = [Trial("policy", seed, delay) for seed, delay in enumerate([40.0, 44.0, 39.0, 47.5, 41.0], start=1)]
TRIALS = FIXED + POLICY

delays = st.lists(st.floats(0.0, 1000.0), min_size=2, max_size=20).filter(lambda values: np.std(values) > 1e-3)


@given(delays)
def test_a_summary_is_what_scipy_says(values: list[float]) -> None:
    summary = Summary.of(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (summary.n, summary.median) == (len(values), np.median(values))
    assert summary.mean == pytest.approx(np.mean(values))
    assert [summary.low, summary.high] == pytest.approx([low, high])


def test_one_value_has_no_interval_and_none_no_summary() -> None:
    one = Summary.of([5.0])
    assert (one.mean, one.median, one.n) == (5.0, 5.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.as_dict() == {"n": 1, "mean": 5.0, "median": 5.0, "low": None, "high": None}
    with pytest.raises(ValueError, match="at least one"):
        Summary.of([])


def test_the_difference_is_paired_by_seed_whatever_the_order() -> None:
    fixed, policy = report.results([*FIXED, *reversed(POLICY)])
    assert fixed.difference is None
    assert policy.difference is not None
    ours, theirs = [trial.delay for trial in POLICY], [trial.delay for trial in FIXED]
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert [policy.difference.low, policy.difference.high] == pytest.approx([interval.low, interval.high])
    unpaired = stats.ttest_ind(ours, theirs).confidence_interval(0.95)
    assert interval.high - interval.low < unpaired.high - unpaired.low


def test_another_baseline_can_be_named() -> None:
    fixed, policy = report.results(TRIALS, baseline="policy")
    assert policy.difference is None
    assert fixed.difference is not None
    assert fixed.difference.mean == pytest.approx(91.3 - 42.3)
    with pytest.raises(ValueError, match="'random' has no episode: must be one of fixed, policy"):
        report.results(TRIALS, baseline="random")


def test_controllers_that_met_other_traffic_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"policy ran on seeds \[1, 2, 3, 4\]"):
        report.results(TRIALS[:-1])


def test_the_record_is_json_and_holds_everything() -> None:
    record = json.loads(json.dumps(report.as_dict(TRIALS, scenario="single"), allow_nan=False))
    assert record["scenario"] == "single"
    assert record["baseline"] == "fixed"
    assert record["controllers"]["policy"]["delay"]["mean"] == pytest.approx(42.3)
    assert record["controllers"]["policy"]["delay_difference"]["mean"] == pytest.approx(-49.0)
    assert record["controllers"]["fixed"]["delay_difference"] is None
    assert record["episodes"][0] == {
        "controller": "fixed",
        "seed": 1,
        "delay": 90.0,
        "travel_time": 80.0,
        "waiting_time": 10.0,
        "arrived": 1500,
    }
    json.dumps(report.as_dict([TRIALS[0]]), allow_nan=False)


def shown(trials: list[Trial], **console: Any) -> str:
    file = io.StringIO()
    report.show(trials, Console(file=file, **console), title="Delay on single")
    return file.getvalue()


def test_the_plain_table_is_aligned_and_uncut() -> None:
    lines = shown(TRIALS, width=20).splitlines()
    assert lines[0] == "Delay on single"
    header, fixed, policy = lines[1:4]
    assert len(header) == len(fixed) == len(policy)
    assert header.split()[:5] == ["controller", "delay", "median", "vs", "fixed"]
    assert fixed.split()[:5] == ["fixed", "91.3", "±", "3.3", "91.0"]
    assert "-49.0 ±" in policy
    assert policy.split()[-2:] == ["1,500", "5"]
    assert "vs" not in shown(FIXED)


def test_the_table_on_a_terminal_fits_eighty_columns() -> None:
    text = shown(TRIALS, width=80, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("91.3 ± 3.3", "42.3 ±", "-49.0 ±", "policy", "Delay on single"):
        assert part in text


def inked(path: Path) -> np.ndarray:
    """Where a picture is blue as the policy's line is, bool [H, W]."""
    red, _, blue = np.moveaxis(imread(path)[..., :3], -1, 0)
    return (blue > 0.6) & (red < 0.3)


ROWS: list[dict[str, Any]] = [
    {"step": step, "trained": 2.0 * step, "decisions": 90 * step, "delay": 40.0 + 900.0 / step} for step in range(6, 60)
]


def test_the_learning_curve_falls_in_both_panels(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    unfinished: dict[str, Any] = {"step": 1, "trained": 1.0, "decisions": 9, "delay": None}
    report.learning_curve(path, [unfinished, {"step": 2, "trained": 2.0}, *ROWS], Summary.of([90.0, 92.0]), "Learning")
    blue = inked(path)
    for panel in (blue[:, : blue.shape[1] // 2], blue[blue.shape[0] // 3 :, blue.shape[1] // 2 :]):
        columns = np.flatnonzero(panel.any(axis=0))
        heights = [np.flatnonzero(panel[:, column]).mean() for column in columns]
        assert len(columns) > 200
        assert np.corrcoef(columns, heights)[0, 1] > 0.7, "pixels count from the top: the line must go down"


def test_a_run_without_an_ended_episode_has_a_picture_too(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    report.learning_curve(path, [], None)
    assert not inked(path).any()
    assert imread(path).min() < 0.5, "nothing is written in it"


def test_one_evaluation_of_the_baseline_is_a_line_without_a_band(tmp_path: Path) -> None:
    report.learning_curve(tmp_path / "curve.png", ROWS, Summary.of([90.0]))
    report.comparison(tmp_path / "single.png", FIXED[:1])
    assert inked(tmp_path / "curve.png").any()


def test_the_comparison_puts_each_mean_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "comparison.png"
    report.comparison(path, TRIALS, title="Delay on single")
    blue = inked(path)
    rows = np.flatnonzero(blue.any(axis=1))
    split = rows[np.argmax(np.diff(rows))]
    first, second = (np.flatnonzero(part.any(axis=0)).mean() for part in (blue[: split + 1], blue[split + 1 :]))
    assert first > second, "fixed-time is above and waits longer"
