from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from learner.progress import Progress
from tests.learner.examples import make_batch

STATUS: dict[str, Any] = {"queue": {"ready": 3, "free": 1}, "version": 8, "collectors": []}


def test_it_counts() -> None:
    progress = Progress()
    batch = make_batch(4)
    assert batch.decisions == 11
    progress.learned(batch, 22, 2)  # two ranks with as many decisions each
    progress.updated({"loss": 1.0})
    progress.updated({"loss": 3.0})
    values = progress.values(STATUS)
    assert values["decisions"] == 22
    assert values["episodes"] == 2
    assert values["simulated_seconds"] == pytest.approx(220.0)
    assert values["return"] == 4.0
    assert values["loss"] == 2.0
    assert values["queue_fill"] == 0.75
    assert values["version"] == 8
    assert values["memory_bytes"] > 2**20


def test_an_idle_run_has_values_too() -> None:
    values = Progress().values({**STATUS, "queue": {"ready": 0, "free": 0}})
    assert values["decisions"] == values["queue_fill"] == 0
    assert 0 <= values["wait_share"] <= 1


def test_the_share_of_waiting_is_at_most_one() -> None:
    progress = Progress()
    progress.waited(1e6)
    assert progress.values(STATUS)["wait_share"] == 1.0


def test_it_goes_on_where_it_stood() -> None:
    progress = Progress()
    progress.learned(make_batch(4), 11, 1)
    progress.learned(make_batch(2), 11, 1)
    resumed = Progress(progress.counters())
    assert resumed.first_episode == 3
    resumed.learned(make_batch(1), 11, 1)
    counters = resumed.counters()
    assert counters["decisions"] == 33
    assert counters["episodes"] == 3
    assert counters["seconds"] == pytest.approx(330.0)
    assert counters["next_episode"] == 5
    assert counters["trained"] >= progress.trained


def test_memory_of_collectors_counts_and_that_of_the_dead_does_not() -> None:
    collectors = [{"pid": os.getpid(), "sumo": []}, {"pid": os.getppid(), "sumo": []}, {"pid": 2**22 + 1, "sumo": []}]
    alone = Progress().values(STATUS)["memory_bytes"]
    together = Progress().values({**STATUS, "collectors": collectors})["memory_bytes"]
    assert together > alone * 0.9


def test_a_pause_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("learner.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = Progress()
    now[0] = 100.0  # of starting up
    progress.begin()
    for at, paused in ((107.0, False), (250.0, True), (253.0, False)):
        now[0] = at
        progress.tick(paused)
    assert progress.elapsed == 10.0
