"""How a run is going, in the numbers that people look at."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import psutil

from graph.batch import Batch
from learner.metrics import RateMeter, Window, process_memory

_EPISODES = 20  # that episode figures are averaged over
_UPDATES = 20  # that update figures are averaged over
_MEMORY_EVERY = 5.0  # s: reading the memory of all processes takes some ms


class Progress:
    """Counts what has been learned from, and keeps the rolling figures of one rank.

    ``decisions``, ``episodes`` and ``seconds`` (simulated s) count from the beginning of the run, over resumes.
    """

    def __init__(self, counters: Mapping[str, float] | None = None) -> None:
        known = counters or {}
        self.decisions = int(known.get("decisions", 0))
        self.episodes = int(known.get("episodes", 0))
        self.seconds = float(known.get("seconds", 0.0))
        self.trained = float(known.get("trained", 0.0))  # s of wall time, of earlier starts
        self.first_episode = int(known.get("next_episode", 0))  # the number that every env's episodes begin with
        self._episodes_before = self.episodes
        self._looked_at = time.monotonic()
        self.elapsed = 0.0  # s of wall time since this start, without pauses
        self._episode_figures = Window(_EPISODES)
        self._update_figures = Window(_UPDATES)
        self._decision_rate, self._second_rate, self._wait_rate = RateMeter(), RateMeter(), RateMeter()
        self._memory = 0
        self._memory_at = -_MEMORY_EVERY

    def begin(self) -> None:
        """Training begins now; what came before was start-up."""
        self._looked_at = time.monotonic()

    def tick(self, paused: bool) -> None:
        """Time has passed; a pause does not count as training."""
        now = time.monotonic()
        if not paused:
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
        if time.monotonic() - self._memory_at >= _MEMORY_EVERY:
            self._memory_at = time.monotonic()
            self._memory = own_memory()
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
            "memory_bytes": self._memory,
        }

    def counters(self) -> dict[str, float]:
        """What a resumed run goes on counting from."""
        return {
            "decisions": self.decisions,
            "episodes": self.episodes,
            "seconds": self.seconds,
            "trained": self.trained + self.elapsed,
            # No env can have come further than all episodes that ended since, and the one that it is in.
            "next_episode": self.first_episode + self.episodes - self._episodes_before + 1,
        }


def own_memory() -> int:
    """Memory of this process and all that it has started in bytes, shared pages counted once."""
    children = psutil.Process().children(recursive=True)
    return process_memory(os.getpid(), [child.pid for child in children])
