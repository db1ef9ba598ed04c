"""The closing table of a run: its policy against the networks' own programs, scenario by scenario.

Known to ``train_rl.py`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from buffers.children import without_main
from collectors.episodes import Conditions
from collectors.evaluation import evaluate
from collectors.measures import Episode
from collectors.places import Place
from collectors.policies import Policy
from learner import metrics
from learner.files import write_atomically, writing
from report.curves import learning_curve
from report.progress import progress
from report.records import as_dict
from report.statistics import Summary
from report.tables import show

_BASELINE = "fixed"


class ClosingTable:
    """Episodes with ``seeds`` that nobody was trained on, of the policy and of fixed time, on each scenario as it is.

    ``on_wait`` is called while they run, and may raise.
    """

    def __init__(
        self, policy: Policy, conditions: Conditions, seeds: Sequence[int], on_wait: Callable[[], object]
    ) -> None:
        self._policy = policy
        self._conditions = conditions
        self._seeds = seeds
        self._on_wait = on_wait
        self._episodes: dict[str, list[Episode]] = {}  # by scenario

    def fill(self, places: Sequence[Place]) -> None:
        """Run and show the episodes of one scenario after the other; raises as ``evaluate``."""
        print(
            f"evaluating the policy against the network's own programs, unseen seeds 1 to {len(self._seeds)} …",
            flush=True,
        )
        for place in places:
            both: list[str | Policy] = [_BASELINE, self._policy]
            with (
                without_main(),  # the run's own program, with torch, would be loaded once per episode
                progress(f"{place.name}: episodes", len(both) * len(self._seeds)) as advance,
            ):
                episodes = evaluate(
                    place.scenario,
                    place.network,
                    both,
                    self._seeds,
                    self._conditions,
                    on_episode=advance,
                    on_wait=self._on_wait,
                )
            self._episodes[place.name] = episodes
            show(episodes, Console(), _BASELINE, title=f"{place.name}, unseen seeds")

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write report.json and report.png into a run's folder; raises ``UnwritableError``.

        The record begins with what is to be said ``about`` the run. One scenario's figures follow; those of several do
        under their names in ``scenarios``.
        """
        records = {name: as_dict(episodes, _BASELINE) for name, episodes in self._episodes.items()}
        record = dict(about)
        record |= next(iter(records.values())) if len(records) == 1 else {"scenarios": records}
        with writing(folder / "report.json") as path:
            write_atomically(path, json.dumps(record, indent=2).encode())
        rows = metrics.read(folder / metrics.FILE_NAME)
        with writing(folder / "report.png") as path:
            learning_curve(path, rows, self._baselines(), title=f"{', '.join(records)}, run {folder}")
        print(f"learning curve: {folder / 'report.png'}; all figures: {folder / 'report.json'}")

    def _baselines(self) -> dict[str, Summary]:
        """Delay under fixed time, by scenario."""
        return {
            name: Summary.of(episode.delay for episode in episodes if episode.controller == _BASELINE)
            for name, episodes in self._episodes.items()
        }
