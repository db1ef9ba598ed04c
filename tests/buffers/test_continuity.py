"""The check of every fragment against a random history of one env, spoilt in every way that there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffers.continuity import Continuity
from buffers.errors import BrokenOrderError
from buffers.fragments import Fragment


def fragment(episode: int, first: int, length: int = 3, *, env: int = 0, ended: bool = False) -> Fragment:
    """A fragment of an env that decides every 10 s; nothing but its place matters here."""
    nothing = np.zeros(0, np.float32)
    rest = ("vehicles", "lanes", "shown", "elapsed", "allowed", "log_probs", "rewards", "costs")
    return Fragment(
        env=env,
        episode=episode,
        first=first,
        version=1,
        terminated=False,
        truncated=ended,
        summary=None,
        time=np.arange(first, first + length + 1, dtype=np.float64) * 10.0,
        offsets=np.zeros(length + 2, np.int64),
        actions=np.zeros((length, 1), np.int16),
        **dict.fromkeys(rest, nothing),  # type: ignore[arg-type]
    )


def history() -> list[tuple[Fragment, int]]:
    """Three episodes, the first one abandoned in its middle."""
    return [
        (fragment(0, 0), 1),
        (fragment(0, 3, 2), 2),
        (fragment(1, 0), 3),
        (fragment(1, 3, ended=True), 4),
        (fragment(2, 0), 5),
    ]


def test_what_is_in_order_passes_and_is_counted() -> None:
    continuity = Continuity()
    for one, number in history():
        continuity.check(one, number)
        continuity.check(replace(one, env=3), number)  # envs have nothing to do with each other
    assert continuity.delivered == 10


@given(st.integers(0, 4), st.integers(0, 4))
def test_no_fragment_may_come_twice_or_too_late(at: int, again: int) -> None:
    continuity = Continuity()
    for one, number in history()[: at + 1]:
        continuity.check(one, number)
    if again <= at:
        with pytest.raises(BrokenOrderError, match="came after number"):
            continuity.check(*history()[again])


@pytest.mark.parametrize("lost", range(4))
def test_no_fragment_may_be_missing(lost: int) -> None:
    """Neither from the middle of an episode nor from its end."""
    continuity = Continuity()
    *before, missing, after = history()[: lost + 2]
    for one, number in before:
        continuity.check(one, number)
    with pytest.raises(BrokenOrderError, match=f"came after number {lost}$"):
        continuity.check(*after)
    continuity.check(*missing)
    continuity.check(*after)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (fragment(0, 4), "does not go on where number 1 ended, at decision 3, 30 s"),
        (fragment(0, 2), "does not go on"),
        (replace(fragment(0, 3), time=np.array([40.0, 50.0, 60.0, 70.0])), "does not go on"),
        (replace(fragment(0, 3), time=np.array([30.0, 40.0, 40.0, 50.0])), "not in the order of time"),
        (replace(fragment(0, 3), time=np.frombuffer(b"\xfb" * 32)), "not in the order of time"),  # poison
        (fragment(-1, 0), "came after episode 0"),
        (fragment(1, 1), "does not begin one"),
    ],
)
def test_what_does_not_follow_is_named(wrong: Fragment, says: str) -> None:
    continuity = Continuity()
    continuity.check(fragment(0, 0), 1)
    with pytest.raises(BrokenOrderError, match=says):
        continuity.check(wrong, 2)


def test_an_episode_that_has_ended_is_not_gone_on_with() -> None:
    continuity = Continuity()
    continuity.check(fragment(0, 0, ended=True), 1)
    with pytest.raises(BrokenOrderError, match="does not go on"):
        continuity.check(fragment(0, 3), 2)
