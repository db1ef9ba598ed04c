"""The run in Prometheus' format, read by Prometheus' own parser."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dashboard import Dashboard
from dashboard.metrics import exposition
from tests.dashboard.fakes import FakeRun
from tests.dashboard.talk import TOKEN, get

# Parts of a name that say what the type says, that are kept for other types, or that are no base unit.
FORBIDDEN = {
    *("counter", "gauge", "count", "sum", "bucket", "info", "total"),
    *("ms", "milliseconds", "minutes", "hours", "kilobytes", "megabytes", "mb", "percent"),
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation and family.name.startswith("platoon_") for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_a_run_is_told_in_samples() -> None:
    run = FakeRun(ranks=3)
    run.silent_rank = 2
    with Dashboard(":0", TOKEN, **run.functions()) as served:
        answer = get(served, "/metrics", Accept="application/openmetrics-text")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = parse(answer.body.decode())
    assert [value(samples, "platoon_rank_up", rank=rank) for rank in "012"] == [1, 1, 0]
    assert value(samples, "platoon_decisions_total", rank="1") > 0
    assert value(samples, "platoon_restarts_total", rank="0") == 1
    assert value(samples, "platoon_simulations_limit", rank="0") == 64
    assert value(samples, "platoon_queue_slots", rank="0", state="writing") == 4
    assert value(samples, "platoon_memory_budget_bytes", rank="0") == 4e9
    assert value(samples, "platoon_collector_restarts_total", rank="1", collector="1") == 1
    assert ("platoon_decisions_total", frozenset({("rank", "2")})) not in samples


def test_every_line_is_as_prometheus_wants_it() -> None:
    """The rules of ``promtool check metrics``, for all that a run can say."""
    text = exposition(FakeRun(ranks=2).status()).decode()
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    lines = text.splitlines()
    assert len(samples) == len([line for line in lines if not line.startswith("#")]), "a line that nobody has read"
    assert len(samples) == len(parse(text)), "a sample twice"
    assert (
        len(families) == len({family.name for family in families}) == sum(line.startswith("# HELP ") for line in lines)
    )
    for family in families:
        assert re.fullmatch(r"platoon(_[a-z]+)+", family.name)
        assert not set(family.name.split("_")) & FORBIDDEN
        assert re.fullmatch(r"[A-Z].+\.", family.documentation)
        assert family.samples
        suffix = {"counter": "_total", "gauge": ""}[family.type]
        assert {sample.name for sample in family.samples} == {family.name + suffix}
        assert all(set(sample.labels) <= {"rank", "state", "collector"} for sample in family.samples)


def test_what_is_said_of_the_whole_run_is_said_once() -> None:
    status = FakeRun(ranks=3).status()
    text = exposition(status).decode()
    samples = parse(text)
    for name in ("platoon_decisions_per_second", "platoon_simulation_speed_ratio"):
        assert [labels for other, labels in samples if other == name] == [frozenset()]
        assert re.search(rf"# HELP {name} .* of all ranks together\.", text)
    assert value(samples, "platoon_decisions_per_second") == status[0]["figures"]["decisions_per_second"]
    assert "# HELP platoon_restarts_total SUMOs and collectors " in text


def test_a_collector_without_simulations_is_down() -> None:
    up = ("running", "waiting", "pausing", "paused", "resuming")
    states = {**dict.fromkeys(up, 1.0), **dict.fromkeys(("starting", "recovering", "stopping", "stopped"), 0.0)}
    rows = [{"collector": number, "state": state, "envs": [number]} for number, state in enumerate(states)]
    samples = parse(exposition([{"rank": 0, "ok": True, "collectors": rows}]).decode())
    told = [value(samples, "platoon_collector_up", rank="0", collector=str(number)) for number in range(len(states))]
    assert dict(zip(states, told, strict=True)) == states


def test_a_collector_that_was_scaled_away_is_not_down_but_gone() -> None:
    run = FakeRun(collectors=3)
    run.num_envs = 2
    samples = parse(exposition(run.status()).decode())
    for name in ("platoon_collector_up", "platoon_collector_decisions_total", "platoon_collector_restarts_total"):
        assert {dict(labels)["collector"] for other, labels in samples if other == name} == {"0", "1"}


def test_what_is_not_known_is_left_out() -> None:
    figures: dict[str, Any] = {"lag": math.nan, "delay": None, "loss": math.inf, "memory_bytes": 7}
    samples = parse(exposition([{"rank": 0, "ok": True, "figures": figures}]).decode())
    assert {name for name, _ in samples} == {"platoon_rank_up", "platoon_loss", "platoon_memory_bytes"}


def test_each_of_several_scenarios_has_its_delay_once() -> None:
    figures = {"delay": 20.0, "delay/resco:cologne1": 15.0, "delay/single": 25.0, "delay/grid4x4": None}
    ranks = [{"rank": rank, "ok": True, "figures": figures} for rank in range(2)]
    samples = parse(exposition(ranks).decode())
    told = {labels: delay for (name, labels), delay in samples.items() if name == "platoon_scenario_delay_seconds"}
    assert told == {frozenset({("scenario", "resco:cologne1")}): 15.0, frozenset({("scenario", "single")}): 25.0}


def test_the_dashboard_of_grafana_asks_for_nothing_that_is_not_told() -> None:
    board = Path(__file__).parents[2] / "docker/grafana/provisioning/dashboards/platoon.json"
    asked = set(re.findall(r"platoon_[a-z_]+", " ".join(re.findall(r'"expr": "(.*)"', board.read_text()))))
    ranks = FakeRun(ranks=1).status()
    ranks[0]["figures"] |= {"delay/single": 25.0}
    assert asked
    assert asked <= {name for name, _ in parse(exposition(ranks).decode())}
