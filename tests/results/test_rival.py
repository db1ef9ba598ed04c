"""One who fails does not take the others' results along."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contest import ContestError
from results import learning, rival
from results.protocol import Court, Row


def test_a_variant_that_fails_is_named_and_the_others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(court: Court, settings: rival.Settings, name: str, seed: int) -> list[Row]:
        if name == "queue":
            raise ContestError("out of luck")
        return [{"variant": name, "seed": seed}]

    own: dict[str, Any] = {"rows": [{"moment": 30.0}, {"moment": None}], "runs": [], "failed": ["one of ours"]}
    monkeypatch.setattr(learning, "measure", lambda settings: own)
    monkeypatch.setattr(rival, "_theirs", theirs)
    result = rival.measure(rival.Settings(network="single", variants=("short", "queue"), their_runs=2))
    assert result["theirs"] == [{"variant": "short", "seed": 1}, {"variant": "short", "seed": 2}]
    assert result["failed"] == ["one of ours", "queue, seed 1: out of luck", "queue, seed 2: out of luck"]
    assert result["own"] == [{"moment": 30.0}]
