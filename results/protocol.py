"""The protocol that everybody is judged by: the scenario's own hour, decisions every 10 s, seeds nobody trained on."""

from __future__ import annotations

from collections.abc import Sequence
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

CONDITIONS = Conditions()  # 10 s between decisions, 3 s of yellow, 5 s of green at least, no teleporting
FIRST_SEED = 1

Row = dict[str, Any]


def seeds(count: int) -> range:
    """The traffic that everybody meets."""
    return range(FIRST_SEED, FIRST_SEED + count)


class Court:
    """Judges controllers on one scenario, whose network it reads once."""

    def __init__(self, name: str, num_seeds: int) -> None:
        self.name = name
        self.scenario: Scenario = find(name)
        self.network: Network = probe(self.scenario)
        self._seeds = seeds(num_seeds)

    def judge(self, controllers: Sequence[str | Policy]) -> dict[str, Row]:
        """What is known of each controller, by its name; see ``verdict``."""
        episodes = evaluate(self.scenario, self.network, controllers, self._seeds, CONDITIONS)
        names = dict.fromkeys(episode.controller for episode in episodes)
        return {name: verdict([e for e in episodes if e.controller == name]) for name in names}

    def judge_checkpoint(self, path: Path) -> Row:
        """What is known of the policy in a checkpoint, which takes the likeliest phases."""
        trained = read_policy(path)
        (row,) = self.judge([Policy.of("policy", trained.model, trained.radius)]).values()
        return row


def verdict(episodes: Sequence[Episode]) -> Row:
    """One controller's episodes: ``delay`` and other figures summed up, ``delays`` of each, how many ``gridlocked``."""
    figures = ("delay", "full_delay", "travel_time", "waiting_time", "queue", "throughput")
    return {
        **{name: Summary.of(getattr(episode, name) for episode in episodes).as_dict() for name in figures},
        "delays": [episode.delay for episode in episodes],
        "gridlocked": sum(episode.gridlocked for episode in episodes),
        "teleports": sum(episode.teleports for episode in episodes),
    }
