from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from graph.batch import Batch
from learner.progress import Progress
from tests.learner.examples import make_batch
from tests.learner.ranks import hear_of_delays
from tests.learner.test_world import on_two_ranks

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


MAPS = ("one", "resco:other")


def ended(*episodes: tuple[int, float]) -> Batch:
    """A batch in which episodes on these maps have ended with these delays, s."""
    batch = make_batch(0)
    summaries = tuple({"delay": delay, "return": -delay} for _, delay in episodes)
    return replace(batch, summaries=summaries, ended_in=tuple(number for number, _ in episodes))


def learn(progress: Progress, *batches: Batch) -> None:
    for batch in batches:
        progress.learned(batch, batch.decisions, len(batch.summaries), progress.delays_in(batch))


def test_of_several_maps_each_has_its_delay_and_the_plain_one_is_the_mean_of_their_means() -> None:
    progress = Progress(maps=MAPS)
    learn(progress, ended((0, 10.0), (0, 20.0), (1, 100.0)), ended(), ended((0, 30.0)))
    values = progress.values(STATUS)
    assert values["delay/one"] == pytest.approx(20.0)
    assert values["delay/resco:other"] == 100.0
    assert values["delay"] == pytest.approx(60.0)
    assert values["return"] == pytest.approx(-60.0)


def test_one_map_needs_no_name_among_the_figures() -> None:
    progress = Progress(maps=("one",))
    assert progress.delays_in(ended((0, 10.0))) == []
    learn(progress, ended((0, 10.0), (0, 20.0)))
    assert progress.values(STATUS)["delay"] == 15.0
    assert not any(name.startswith("delay/") for name in progress.values(STATUS))


def test_delays_go_on_by_the_names_of_their_maps() -> None:
    progress = Progress(maps=MAPS)
    learn(progress, ended((0, 10.0), (1, 50.0)))
    resumed = Progress(progress.counters(), progress.windows(), ("new", "resco:other"))
    values = resumed.values(STATUS)
    assert (values["delay"], values["delay/resco:other"]) == (50.0, 50.0)
    assert "delay/one" not in values


def test_delays_of_maps_that_only_another_rank_has_are_heard_of() -> None:
    one, other = on_two_ranks(hear_of_delays)
    assert one == other == {"delay/one": 10.0, "delay/other": pytest.approx(70 / 3), "delay": pytest.approx(50 / 3)}
