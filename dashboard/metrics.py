"""A run in the words of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UP = ("running", "waiting", "pausing", "paused", "resuming")  # states of a collector that has its simulations

# What is in a rank's status: key, metric, meaning.
_COUNTERS = (
    ("decisions", "platoon_decisions", "Decisions collected by all simulations of a rank."),
    ("episodes", "platoon_episodes", "Episodes of a rank that have ended."),
    ("simulated_seconds", "platoon_simulated_seconds", "Simulated time of all simulations of a rank."),
    ("restarts", "platoon_restarts", "SUMOs and collectors of a rank that were replaced after they died or hung."),
)
_GAUGES = (
    ("version", "platoon_policy_version", "Version of the newest weights."),
    ("num_envs", "platoon_simulations", "Simulations that the rank keeps."),
    ("max_envs", "platoon_simulations_limit", "Simulations that the rank may keep."),
)
# What is in the figures of every rank and means the whole run: told once, without a rank, so that no sum doubles it.
_FIGURES_OF_THE_RUN = (
    (
        "decisions_per_second",
        "platoon_decisions_per_second",
        "Decisions learned from per second of wall time, of all ranks together.",
    ),
    (
        "simulated_per_second",
        "platoon_simulation_speed_ratio",
        "Simulated time per wall time, of all ranks together.",
    ),
)
# What is in the figures of a rank.
_FIGURES = (
    ("queue_fill", "platoon_queue_fill_ratio", "Share of the unused slots that wait to be read."),
    ("lag", "platoon_lag_versions", "Policy versions between acting and learning."),
    ("delay", "platoon_delay_seconds", "Mean delay of trips in recent episodes."),
    ("return", "platoon_return", "Mean return of recent episodes."),
    ("loss", "platoon_loss", "Loss of recent optimizer steps."),
    ("wait_share", "platoon_wait_ratio", "Share of the time in which the learner waits for experience."),
    ("memory_bytes", "platoon_memory_bytes", "Memory of the rank and all that it has started."),
    ("memory_budget", "platoon_memory_budget_bytes", "Memory that the rank may use."),
    ("elapsed", "platoon_elapsed_seconds", "Training time of this start, without pauses."),
)
_DELAY_ON = "delay/"  # and a scenario's name: in the figures where there are several
_OF_COLLECTORS = (
    ("decisions", "platoon_collector_decisions", "Decisions collected by all simulations of a collector."),
    ("restarts", "platoon_collector_restarts", "Times that a collector or one of its SUMOs was replaced."),
)


def exposition(ranks: Sequence[dict[str, Any]]) -> bytes:
    """The status of all ranks in Prometheus' text format; what is not known is left out."""
    registry = CollectorRegistry()
    registry.register(_Ranks(ranks))
    return generate_latest(registry)


class _Ranks(Collector):
    """Turns one reading of the status into metrics."""

    def __init__(self, ranks: Sequence[dict[str, Any]]) -> None:
        self._ranks = ranks

    def collect(self) -> Iterator[Metric]:
        """Every metric with a sample per rank, slot state or collector."""
        up = GaugeMetricFamily("platoon_rank_up", "Whether the rank answers.", labels=["rank"])
        for rank in self._ranks:
            up.add_metric([str(rank["rank"])], float(rank["ok"]))
        yield up
        answering = [rank for rank in self._ranks if rank["ok"]]
        for key, name, meaning in _COUNTERS:
            yield _filled(CounterMetricFamily(name, meaning, labels=["rank"]), _per_rank(answering, key))
        for key, name, meaning in _GAUGES:
            yield _filled(GaugeMetricFamily(name, meaning, labels=["rank"]), _per_rank(answering, key))
        figures = [{**rank.get("figures", {}), "rank": rank["rank"]} for rank in answering]
        for key, name, meaning in _FIGURES_OF_THE_RUN:
            yield _filled(GaugeMetricFamily(name, meaning), (([], rank.get(key)) for rank in figures[:1]))
        yield from self._of_scenarios(figures)
        for key, name, meaning in _FIGURES:
            yield _filled(GaugeMetricFamily(name, meaning, labels=["rank"]), _per_rank(figures, key))
        yield _filled(
            GaugeMetricFamily("platoon_queue_slots", "Slots of shared memory by state.", labels=["rank", "state"]),
            (
                ([str(rank["rank"]), state], count)
                for rank in answering
                for state, count in rank.get("queue", {}).items()
            ),
        )
        yield from self._of_collectors(answering)

    def _of_scenarios(self, figures: Sequence[dict[str, Any]]) -> Iterator[Metric]:
        # Only where there are several; every rank knows those of all ranks.
        own = {key: value for key, value in next(iter(figures), {}).items() if key.startswith(_DELAY_ON)}
        if own:
            meaning = "Mean delay of trips in recent episodes of a scenario, of all ranks together."
            yield _filled(
                GaugeMetricFamily("platoon_scenario_delay_seconds", meaning, labels=["scenario"]),
                (([key.removeprefix(_DELAY_ON)], value) for key, value in own.items()),
            )

    def _of_collectors(self, ranks: Sequence[dict[str, Any]]) -> Iterator[Metric]:
        # A collector without envs was scaled away: it is not down, it is not wanted.
        rows = [
            ([str(rank["rank"]), str(row["collector"])], row)
            for rank in ranks
            for row in rank.get("collectors", [])
            if row["envs"]
        ]
        labels = ["rank", "collector"]
        yield _filled(
            GaugeMetricFamily("platoon_collector_up", "Whether a collector has its simulations.", labels=labels),
            ((label, row.get("state") in _UP) for label, row in rows),
        )
        for key, name, meaning in _OF_COLLECTORS:
            yield _filled(
                CounterMetricFamily(name, meaning, labels=labels), ((label, row.get(key)) for label, row in rows)
            )


def _per_rank(ranks: Iterable[dict[str, Any]], key: str) -> Iterator[tuple[list[str], Any]]:
    return (([str(rank["rank"])], rank.get(key)) for rank in ranks)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, samples: Iterable[tuple[list[str], Any]]
) -> CounterMetricFamily | GaugeMetricFamily:
    for labels, value in samples:
        if value is not None and value == value:  # NaN is not equal to itself
            family.add_metric(labels, float(value))
    return family
