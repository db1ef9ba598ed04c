"""Medians over repetitions, and ratios within a round."""

from __future__ import annotations

import pytest

from benchmarks.spread import Spread, ratio


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert Spread.of([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0, 3)
    assert Spread.of([1.0, 3.0]).median == 2.0


def test_no_values_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was half as fast in the second round, for both: that must not show.
    assert ratio([30.0, 15.0, 33.0], [10.0, 5.0, 11.0]) == Spread(3.0, 3.0, 3.0, 3)
    assert ratio([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]) == Spread(4.0, 2.0, 9.0, 3)


def test_rounds_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="argument"):
        ratio([1.0, 2.0], [1.0])
