"""Targets are met, missed, or not measured."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.targets import Judgement, judge, times


def figure(median: float) -> dict[str, float]:
    return {"median": median, "low": median, "high": median, "n": 1}


@pytest.mark.parametrize(
    ("value", "kind", "met"),
    [
        (1.0, {}, True),
        (0.99, {}, False),
        (1.0, {"strictly": True}, False),
        (1.01, {"strictly": True}, True),
        (1.0, {"at_least": False}, True),
        (1.01, {"at_least": False}, False),
        (1.0, {"at_least": False, "strictly": True}, False),
        (0.99, {"at_least": False, "strictly": True}, True),
        (None, {}, None),
    ],
)
def test_verdicts(value: float | None, kind: dict[str, Any], met: bool | None) -> None:
    assert Judgement("it", 1.0, value, times, **kind).met is met


def test_the_better_backend_counts_where_either_may() -> None:
    rows = [
        {"network": "resco:cologne1", "interval": 5.0, "client": client, "cpu_vs_bare": figure(value)}
        for client, value in (("platoon-traci-policy", 0.6), ("platoon-libsumo-policy", 0.72))
    ]
    found = {one.about: one for one in judge("stepping", {"rows": rows})}
    assert found["resco:cologne1, every 5 s with the policy, better backend"].verdict == "met"
    assert found["resco:cologne1, every 5 s with the policy, TraCI"].value == 0.6
    assert found["resco:cologne8, every 5 s with the policy, TraCI"].verdict == "–"


def test_training_is_held_against_ppo_and_the_collectors() -> None:
    speeds = {("resco:cologne1", "platoon"): 900.0, ("resco:cologne1", "sumo-rl-ppo"): 1000.0}
    speeds |= {("grid4x4", "platoon"): 600.0, ("grid4x4", "collectors"): 1000.0}
    rows = [{"network": n, "system": s, "per_wall": figure(value)} for (n, s), value in speeds.items()]
    ppo, cologne8, grid = judge("training", {"rows": rows})
    assert [one.value_text for one in (ppo, cologne8, grid)] == ["0.90 ×", "not measured", "0.60 ×"]
    assert [one.verdict for one in (ppo, cologne8, grid)] == ["missed", "–", "met"]


def test_another_network_says_nothing_about_a_target() -> None:
    result = {
        "network": "single",
        "rows": [{"envs": 4, "bytes": figure(1.0)}],
        "per_env": 1.0,
        "long": {"first_third": 1.0, "last_third": 1.0},
    }
    assert {one.verdict for one in judge("memory", result)} == {"–"}
    assert {one.verdict for one in judge("memory", result | {"network": "resco:cologne8"})} == {"met"}
