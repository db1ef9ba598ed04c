"""How a run is going, in the numbers that people look at."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

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
        self.next_episode = int(known.get("next_episode", 0))  # the first number that no env has used yet
        self._began = time.monotonic()
        self._episode_figures = Window(_EPISODES)
        self._update_figures = Window(_UPDATES)
        self._decision_rate, self._second_rate, self._wait_rate = RateMeter(), RateMeter(), RateMeter()
        self._memory = 0
        self._memory_at = -_MEMORY_EVERY

    @property
    def elapsed(self) -> float:
        """Wall time since this start in s."""
        return time.monotonic() - self._began

    def waited(self, seconds: float) -> None:
        """The learner has waited for experience."""
        self._wait_rate.add(seconds)

    def learned(self, batch: Batch, decisions: int) -> None:
        """A batch is about to be learned from, one of several ranks' with ``decisions`` decisions together."""
        self.decisions += decisions
        self.seconds += batch.seconds * decisions / max(batch.decisions, 1)
        self.episodes += len(batch.summaries)
        self.next_episode = max(self.next_episode, *(episode + 1 for _, episode, _, _, _ in batch.sources))
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
            self._memory = own_memory(status)
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
            "next_episode": self.next_episode,
        }


def own_memory(status: Mapping[str, Any]) -> int:
    """Memory of this process, its collectors and their SUMOs in bytes, shared pages counted once."""
    children = [pid for row in status["collectors"] for pid in (row["pid"], *row["sumo"]) if pid != os.getpid()]
    return process_memory(os.getpid(), children)
