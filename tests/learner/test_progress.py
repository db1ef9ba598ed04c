from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from learner.progress import Progress
from tests.learner.examples import make_batch

STATUS: dict[str, Any] = {"queue": {"ready": 3, "free": 1}, "version": 8, "num_envs": 4, "restarts": 2}


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
    assert (values["envs"], values["restarts"]) == (4, 2)


def test_an_idle_run_has_values_too() -> None:
    values = Progress().values({**STATUS, "queue": {"ready": 0, "free": 0}})
    assert values["decisions"] == values["queue_fill"] == 0
    assert 0 <= values["wait_share"] <= 1


def test_the_share_of_waiting_is_at_most_one() -> None:
    progress = Progress()
    progress.waited(1e6)
    assert progress.values(STATUS)["wait_share"] == 1.0


def test_a_rest_of_any_rank_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("learner.progress.time.monotonic", lambda: now[0])
    progress = Progress()
    for moment, paused, at_rest in ((110.0, False, False), (120.0, True, False), (130.0, False, True)):
        now[0], progress.at_rest = moment, at_rest
        progress.tick(paused)
    assert progress.elapsed == 10.0


def test_it_goes_on_where_it_stood() -> None:
    progress = Progress()
    progress.learned(make_batch(4), 11, 1)
    progress.learned(make_batch(2), 11, 1)
    resumed = Progress(progress.counters())
    assert progress.first_episode == 0
    assert resumed.first_episode == 2**32, "an episode that was met before"
    resumed.learned(make_batch(1), 11, 1)
    counters = resumed.counters()
    assert counters["decisions"] == 33
    assert counters["episodes"] == 3
    assert counters["seconds"] == pytest.approx(330.0)
    assert counters["starts"] == 2
    assert Progress(counters).first_episode == 2**33
    assert counters["trained"] >= progress.trained


def test_rolling_figures_go_on_too() -> None:
    progress = Progress()
    progress.updated({"loss": 3.0})
    progress.updated({"loss": 5.0})
    resumed = Progress(progress.counters(), progress.windows())
    assert resumed.values(STATUS)["loss"] == 4.0


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
