"""How a run is going, in the numbers that people look at."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
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

    Where there are several ``maps`` a rank may have simulations of some of them only. So delays are those of all ranks:
    ``delay/NAME`` of each map, and ``delay``, the mean of these. What else is said of episodes is the mean over the
    maps of this rank, so that one with many short episodes counts no more than another.
    """

    def __init__(
        self,
        counters: Mapping[str, float] | None = None,
        windows: Mapping[str, Mapping[str, list[float]]] | None = None,
        maps: Sequence[str] = ("",),
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
        self._maps = tuple(maps)
        self._episode_figures = [Window(_EPISODES) for _ in self._maps]
        self._delays = Window(_EPISODES)  # by map, of all ranks
        self._update_figures = Window(_UPDATES)
        for name, window in self._windows().items():
            window.restore((windows or {}).get(name, {}))
        self._delays.keep([_delay_of(name) for name in self._maps])
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

    def delays_in(self, batch: Batch | None) -> list[float]:
        """Of the episodes that ended in a batch, their number on each map and the sum of their delays (s) there, [2 M].

        Empty where there is one map, of which every rank knows enough itself.
        """
        if len(self._maps) == 1:
            return []
        counts, sums = [0.0] * len(self._maps), [0.0] * len(self._maps)
        if batch is not None:
            for number, summary in zip(batch.ended_in, batch.summaries, strict=True):
                counts[number] += 1
                sums[number] += summary["delay"]
        return counts + sums

    def learned(self, batch: Batch, decisions: int, episodes: int, delays: Sequence[float] = ()) -> None:
        """A batch is about to be learned from, together with those of the other ranks.

        ``decisions``, ``episodes`` that ended, and ``delays`` (see ``delays_in``) count the batches of all ranks.
        """
        self.decisions += decisions
        self.seconds += batch.seconds * decisions / max(batch.decisions, 1)
        self.episodes += episodes
        self._decision_rate.add(decisions)
        self._second_rate.add(batch.seconds * decisions / max(batch.decisions, 1))
        for number, summary in zip(batch.ended_in, batch.summaries, strict=True):
            self._episode_figures[number].add(summary)
        for name, count, total in zip(self._maps, delays, delays[len(self._maps) :], strict=False):
            for _ in range(int(count)):
                self._delays.add({_delay_of(name): total / count})

    def updated(self, figures: Mapping[str, float]) -> None:
        """An optimizer step has been made."""
        self._update_figures.add(figures)

    def values(self, status: Mapping[str, Any]) -> dict[str, float]:
        """All figures now; ``status`` is the pool's."""
        queue = status["queue"]
        return {
            **self._update_figures.means(),
            **self._episode_means(),
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

    def _episode_means(self) -> dict[str, float]:
        known = [means for window in self._episode_figures if (means := window.means())]
        figures = {name: statistics.fmean(means[name] for means in known) for name in (known[0] if known else ())}
        delays = self._delays.means()
        return {**figures, **({"delay": statistics.fmean(delays.values())} if delays else {}), **delays}

    def _windows(self) -> dict[str, Window]:
        of_maps = zip(self._maps, self._episode_figures, strict=True)
        episodes = {f"episodes/{name}": window for name, window in of_maps}
        return {**episodes, "delays": self._delays, "updates": self._update_figures}

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


def _delay_of(name: str) -> str:
    """What the delay on a map is called among the figures."""
    return f"delay/{name}"
