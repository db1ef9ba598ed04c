"""Policies and the best classical controller on the same traffic."""

from __future__ import annotations

from typing import Any

import pytest

from results.differences import differences


def classical(controller: str, full: float, delays: list[float]) -> dict[str, Any]:
    return {"network": "resco:a", "controller": controller, "full_delay": {"mean": full}, "delays": delays}


def test_episodes_are_paired_with_those_of_the_controller_that_loses_least_time_in_all() -> None:
    rows = [classical("blocks the entrances", 90.0, [10.0] * 3), classical("best", 30.0, [20.0, 30.0, 40.0])]
    own = [
        {"network": "resco:a", "moment": moment, "delays": delays}
        for moment, delays in [(60.0, [99.0] * 3), (None, [11.0, 19.0, 27.0]), (None, [9.0, 21.0, 29.0])]
    ]
    (found,) = differences({"yardsticks": {"rows": rows}, "a": {"rows": own}, "b": {"rows": own}})
    assert (found.network, found.controller, found.runs) == ("resco:a", "best", 2)
    assert found.summary.mean == pytest.approx(-32 / 3)  # of -10, -10 and -12
    assert found.summary.high - found.summary.mean == pytest.approx(4.303 * (4 / 3 / 3) ** 0.5, rel=1e-3)


def test_without_both_there_is_nothing_to_compare() -> None:
    own = {"rows": [{"network": "resco:a", "moment": None, "delays": [1.0, 2.0]}]}
    assert list(differences({"a": own})) == []
    assert list(differences({"a": {"rows": []}, "yardsticks": {"rows": [classical("best", 1.0, [1.0])]}})) == []
