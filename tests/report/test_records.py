"""Records that other programs read back."""

from __future__ import annotations

import csv
import io
import json

import pytest

from report import records
from tests.report.trials import TRIALS, Trial, WatchedTrial


def test_the_record_is_json_and_holds_everything() -> None:
    record = json.loads(json.dumps(records.as_dict(TRIALS, scenario="single"), allow_nan=False))
    assert record["scenario"] == "single"
    assert record["baseline"] == "fixed"
    assert record["controllers"]["policy"]["delay"]["mean"] == pytest.approx(42.3)
    assert record["controllers"]["policy"]["delay_difference"]["mean"] == pytest.approx(-49.0)
    assert record["controllers"]["fixed"]["delay_difference"] is None
    assert "gridlocked" not in record["controllers"]["fixed"]
    assert record["episodes"][0] == {
        "controller": "fixed",
        "seed": 1,
        "delay": 90.0,
        "travel_time": 80.0,
        "waiting_time": 10.0,
        "arrived": 1500,
        "course": [None, 10.0, 30.0, 20.0],
    }
    json.dumps(records.as_dict([TRIALS[0]]), allow_nan=False)


def test_the_record_counts_gridlocked_episodes() -> None:
    record = records.as_dict([WatchedTrial("a", 1, 9.0, gridlocked=True), WatchedTrial("a", 2, 9.0)])
    assert record["controllers"]["a"]["gridlocked"] == 1
    assert [one["gridlocked"] for one in record["episodes"]] == [True, False]


def test_the_csv_has_a_row_per_episode_whatever_the_names() -> None:
    trials = [Trial('runs/a, "best"', 1, 40.25), *TRIALS]
    assert "1977.9999999999998" not in records.as_csv([Trial("a", 1, 1977.9999999999998)])
    rows = list(csv.DictReader(io.StringIO(records.as_csv(trials))))
    assert [row["controller"] for row in rows] == [trial.controller for trial in trials]
    assert [float(row["delay"]) for row in rows] == [trial.delay for trial in trials]
    assert list(rows[0]) == ["controller", "seed", "delay", "travel_time", "waiting_time", "arrived"]
