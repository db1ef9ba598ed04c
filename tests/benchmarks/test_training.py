"""Rates from a run's metrics, and thirds of a long one."""

from __future__ import annotations

import pytest

from benchmarks.memory import thirds
from benchmarks.training import rates, summary


def test_rates_of_consecutive_parts() -> None:
    rows = [{"elapsed": float(second), "decisions": 100 * second**2} for second in range(11)]
    assert rates(rows, 5) == [200.0, 600.0, 1000.0, 1400.0, 1800.0]
    assert rates(rows[:2]) == [100.0]


def test_one_row_has_no_rate() -> None:
    with pytest.raises(ValueError, match="at least two"):
        rates([{"elapsed": 1.0, "decisions": 5}])


def test_repeated_measurements_in_short() -> None:
    found = summary([100, 300], [1.0, 1.0], [2.0, 3.0])
    assert found["per_wall"]["median"] == 200.0
    assert found["cpu_per_decision"] == pytest.approx(0.015)


def test_thirds() -> None:
    assert thirds([1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 4.0, 5.0, 6.0]) == (2.0, 5.0)
    assert thirds([3.0]) == (3.0, 3.0)
