from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from graph.batch import Batch
from learner.progress import Progress
from learner.steps import agreed_steps
from tests.learner.examples import ALONE, make_batch
from tests.learner.ranks import AVAILABLE, rest_together, stop_together, take_steps
from tests.learner.test_world import on_two_ranks


def stream(seeds: Sequence[int | None]) -> Iterator[Batch | None]:
    return (None if seed is None else make_batch(seed) for seed in seeds)


def steps_of(seeds: Sequence[int | None], accumulate: int) -> tuple[list[list[int]], Progress]:
    progress = Progress()
    steps = agreed_steps(stream(seeds), ALONE, progress, accumulate, lambda: False)
    return [[batch.sources[0][1] for batch in batches] for batches in steps], progress


def test_batches_are_gathered_and_waiting_is_handed_on() -> None:
    steps, progress = steps_of([0, None, 1, 2, None, 3], accumulate=2)
    assert steps == [[], [0, 1], [], [2, 3]]
    assert progress.decisions == 4 * 11


def test_what_is_left_when_batches_end_is_learned_from() -> None:
    steps, progress = steps_of([0, 1, 2], accumulate=2)
    assert steps == [[0, 1], [2]]
    assert progress.decisions == 3 * 11


def test_no_batch_at_all() -> None:
    assert steps_of([], accumulate=2)[0] == []


def test_it_stops_when_asked() -> None:
    looks = itertools.count(1)
    endless = (make_batch(0) for _ in itertools.count())
    steps = agreed_steps(endless, ALONE, Progress(), 1, lambda: next(looks) == 4)
    assert [len(batches) for batches in steps] == [1, 1, 1]


def test_ranks_with_different_streams_take_the_same_steps() -> None:
    """Neither waits for ever, and a batch that came while the other rank had none is not dropped."""
    results = on_two_ranks(take_steps)
    known = [[seed for seed in seeds if seed is not None] for seeds in AVAILABLE]
    assert known == [[0, 1, 2, 3], [0, 1, 2, 3]]
    for rank, result in enumerate(results):
        assert [step for step in result["steps"] if step] == [
            [10 * rank, 10 * rank + 1],
            [10 * rank + 2, 10 * rank + 3],
        ]
        assert result["decisions"] == 2 * 4 * 11
    assert [len(step) for step in results[0]["steps"]] == [len(step) for step in results[1]["steps"]]


def test_a_rank_at_rest_is_known_to_all() -> None:
    assert on_two_ranks(rest_together) == [[True, True, False, False]] * 2


def test_one_rank_that_wants_to_stop_stops_all() -> None:
    assert on_two_ranks(stop_together) == [4, 4]
