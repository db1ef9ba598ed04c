"""How a run is going, in the numbers that people look at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from graph.batch import Batch
from learner.metrics import RateMeter, Window

_EPISODES = 20  # that episode figures are averaged over
_UPDATES = 20  # that update figures are averaged over
_EPISODES_PER_START = 2**32  # of one env: more than a run can ever collect

Windows = dict[str, dict[str, list[float]]]  # window → name → its latest values


class Progress:
    """Counts what has been learned from, and keeps the rolling figures of one rank.

    ``decisions``, ``episodes`` and ``seconds`` (simulated s) count from the beginning of the run, over resumes.
    """

    def __init__(
        self,
        counters: Mapping[str, float] | None = None,
        windows: Mapping[str, Mapping[str, list[float]]] | None = None,
    ) -> None:
        known = counters or {}
        self.decisions = int(known.get("decisions", 0))
        self.episodes = int(known.get("episodes", 0))
        self.seconds = float(known.get("seconds", 0.0))
        self.trained = float(known.get("trained", 0.0))  # s of wall time, of earlier starts
        self.starts = int(known.get("starts", 0)) + 1  # how often the run was started, this time included
        self._looked_at = time.monotonic()
        self.elapsed = 0.0  # s of wall time since this start, without pauses
        self.at_rest = False  # some rank's collectors rest
        self._episode_figures = Window(_EPISODES)
        self._update_figures = Window(_UPDATES)
        for name, window in self._windows().items():
            window.restore((windows or {}).get(name, {}))
        self._decision_rate, self._second_rate, self._wait_rate = RateMeter(), RateMeter(), RateMeter()

    @property
    def first_episode(self) -> int:
        """The number that every env's episodes begin with, so that a resumed run meets none that it has met before."""
        return (self.starts - 1) * _EPISODES_PER_START

    def begin(self) -> None:
        """Training begins now; what came before was start-up."""
        self._looked_at = time.monotonic()

    def tick(self, paused: bool) -> None:
        """Time has passed; a pause, of this rank or another, does not count as training."""
        now = time.monotonic()
        if not (paused or self.at_rest):
            self.elapsed += now - self._looked_at
        self._looked_at = now

    def waited(self, seconds: float) -> None:
        """The learner has waited for experience."""
        self._wait_rate.add(seconds)

    def learned(self, batch: Batch, decisions: int, episodes: int) -> None:
        """A batch is about to be learned from, together with those of the other ranks.

        ``decisions`` and ``episodes`` that ended count the batches of all ranks.
        """
        self.decisions += decisions
        self.seconds += batch.seconds * decisions / max(batch.decisions, 1)
        self.episodes += episodes
        self._decision_rate.add(decisions)
        self._second_rate.add(batch.seconds * decisions / max(batch.decisions, 1))
        for summary in batch.summaries:
            self._episode_figures.add(summary)

    def updated(self, figures: Mapping[str, float]) -> None:
        """An optimizer step has been made."""
        self._update_figures.add(figures)

    def values(self, status: Mapping[str, Any]) -> dict[str, float]:
        """All figures now; ``status`` is the pool's."""
        queue = status["queue"]
        return {
            **self._update_figures.means(),
            **self._episode_figures.means(),
            "decisions": self.decisions,
            "episodes": self.episodes,
            "simulated_seconds": self.seconds,
            "elapsed": self.elapsed,
            "trained": self.trained + self.elapsed,
            "decisions_per_second": self._decision_rate.rate(),
            "simulated_per_second": self._second_rate.rate(),
            "wait_share": min(1.0, self._wait_rate.rate()),
            "queue_fill": queue["ready"] / max(1, queue["ready"] + queue["free"]),
            "version": status["version"],
            "envs": status["num_envs"],
            "restarts": status["restarts"],
        }

    def _windows(self) -> dict[str, Window]:
        return {"episodes": self._episode_figures, "updates": self._update_figures}

    def windows(self) -> Windows:
        """The values behind the rolling figures, which a resumed run goes on with."""
        return {name: window.values() for name, window in self._windows().items()}

    def counters(self) -> dict[str, float]:
        """What a resumed run goes on counting from."""
        return {
            "decisions": self.decisions,
            "episodes": self.episodes,
            "seconds": self.seconds,
            "trained": self.trained + self.elapsed,
            "starts": self.starts,
        }
