"""Statistics against scipy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from report.statistics import Summary, by_controller, results
from tests.report.trials import FIXED, POLICY, TRIALS, WatchedTrial

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
    fixed, policy = results([*FIXED, *reversed(POLICY)])
    assert fixed.difference is None
    assert policy.difference is not None
    ours, theirs = [trial.delay for trial in POLICY], [trial.delay for trial in FIXED]
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert [policy.difference.low, policy.difference.high] == pytest.approx([interval.low, interval.high])
    unpaired = stats.ttest_ind(ours, theirs).confidence_interval(0.95)
    assert interval.high - interval.low < unpaired.high - unpaired.low


def test_another_baseline_can_be_named() -> None:
    fixed, policy = results(TRIALS, baseline="policy")
    assert policy.difference is None
    assert fixed.difference is not None
    assert fixed.difference.mean == pytest.approx(91.3 - 42.3)
    with pytest.raises(ValueError, match="'random' has no episode: must be one of fixed, policy"):
        results(TRIALS, baseline="random")


def test_controllers_that_met_other_traffic_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"policy ran on seeds \[1, 2, 3, 4\]"):
        results(TRIALS[:-1])


def test_gridlocked_episodes_are_counted_where_somebody_looked() -> None:
    watched = [WatchedTrial("a", seed, 10.0, gridlocked=seed in (2, 4)) for seed in range(5)]
    assert results(watched)[0].gridlocked == 2
    assert results(FIXED)[0].gridlocked is None


def test_controllers_keep_their_order() -> None:
    mixed = [TRIALS[5], TRIALS[0], TRIALS[6]]
    assert by_controller(mixed) == {"policy": [TRIALS[5], TRIALS[6]], "fixed": [TRIALS[0]]}
