"""From a stream of batches to optimizer steps on which all ranks agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from graph.batch import Batch
from learner.progress import Progress
from learner.world import World


def agreed_steps(
    batches: Iterator[Batch | None],
    world: World,
    progress: Progress,
    accumulate: int,
    finished: Callable[[], bool],
    resting: Callable[[], bool] = lambda: False,
) -> Iterator[list[Batch]]:
    """Lists of ``accumulate`` batches, one per optimizer step, or empty lists while there is nothing to learn from.

    Ranks see different numbers of batches and must not wait for each other for ever. So each one looks for a batch for
    a bounded time, and then one tiny all-reduce says whether all have one and whether any of them wants to stop:
    when its ``finished`` says so, or when its batches end. ``resting`` says whether this rank's collectors rest; where
    those of any rank do, there is no experience for all, and ``progress`` is told.
    """
    held: Batch | None = None
    ready: list[Batch] = []
    ended = False
    while True:
        if held is None and not ended:
            began = time.monotonic()
            try:
                held = next(batches)
            except StopIteration:
                ended = True
            progress.waited(time.monotonic() - began)
        decisions, episodes = (held.decisions, len(held.summaries)) if held is not None else (0, 0)
        mine = (held is not None, ended or finished(), resting(), decisions, episodes, *progress.delays_in(held))
        holding, stopping, at_rest, decided, over, *delays = world.sum([float(value) for value in mine])
        progress.at_rest = at_rest > 0
        if stopping:
            if ready:  # every rank holds as many; what has been taken is learned from
                yield ready
            return
        if held is None or holding < world.size:
            yield []
            continue
        progress.learned(held, int(decided), int(over), delays)
        ready.append(held)
        held = None
        if len(ready) == accumulate:
            yield ready
            ready = []
