"""The protocol that everybody is judged by: the scenario's own hour, decisions every 10 s, seeds nobody trained on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collectors.episodes import Conditions
from collectors.evaluation import Episode, evaluate
from collectors.policies import Policy
from envs.network import Network
from envs.scenarios import Scenario, find
from envs.simulation import probe
from learner.policies import read_policy
from report.statistics import Summary

CONDITIONS = Conditions(decision_interval=10.0, yellow_time=3.0, min_green=5.0, time_to_teleport=-1.0)

Row = dict[str, Any]
Found = Mapping[str, Row]  # what each part has found


def seeds(count: int) -> range:
    """The traffic that everybody meets."""
    return range(1, 1 + count)


class Court:
    """Judges controllers on one scenario, whose network it reads once."""

    def __init__(self, name: str, seeds: Sequence[int]) -> None:
        self.name = name
        self.scenario: Scenario = find(name)
        self.network: Network = probe(self.scenario)
        self._seeds = seeds

    def judge(self, controller: str | Policy) -> Row:
        """What is known of a controller; see ``verdict``."""
        return self._judge(controller, CONDITIONS)

    def judge_checkpoint(self, path: Path) -> Row:
        """What is known of the policy in a checkpoint, which takes the likeliest phase under its own rules."""
        trained = read_policy(path)
        conditions = replace(CONDITIONS, **{name: trained.env[name] for name in ("max_red", "max_hold")})
        return self._judge(Policy.of("policy", trained.model, trained.radius), conditions)

    def _judge(self, controller: str | Policy, conditions: Conditions) -> Row:
        return verdict(evaluate(self.scenario, self.network, [controller], self._seeds, conditions))


def median_delay(rows: Sequence[Row], runs: int) -> float | None:
    """The median over so many training runs of the mean delay, s; None where there was none.

    ``rows`` are of the runs that had a policy: one that failed, or had no checkpoint yet, counts as infinite delay.
    """
    missing = [math.inf] * (runs - len(rows))
    return statistics.median([row["delay"]["mean"] for row in rows] + missing) if runs else None


def verdict(episodes: Sequence[Episode]) -> Row:
    """One controller's episodes: figures summed up, the ``delays`` of each, and how many were ``gridlocked``.

    ``full_delay`` counts the wait of vehicles that never got in as well, ``teleports`` those that SUMO took away.
    """
    figures = ("delay", "full_delay", "travel_time", "waiting_time", "throughput")
    return {
        **{name: Summary.of(getattr(episode, name) for episode in episodes).as_dict() for name in figures},
        "delays": [episode.delay for episode in episodes],
        "gridlocked": sum(episode.gridlocked for episode in episodes),
        "teleports": sum(episode.teleports for episode in episodes),
    }
