"""Whether fragments arrive as they were collected: whole, once, and in order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from buffers.errors import BrokenOrderError
from buffers.fragments import Fragment


class _Reached(NamedTuple):
    """How far an env has come."""

    number: int  # of its latest fragment
    episode: int
    decision: int  # the next one
    time: float  # simulated s
    ended: bool


class Continuity:
    """Holds every fragment against the one before it of the same env.

    An env numbers its fragments from 1, whoever collects for it. Inside an episode each one begins where the last one
    ended; a new episode begins with its first frame. An episode that was abandoned because its simulation died is just
    not gone on with.
    """

    def __init__(self) -> None:
        self._reached: dict[int, _Reached] = {}
        self.delivered = 0  # fragments

    def check(self, fragment: Fragment, number: int) -> None:
        """Take note of an env's next fragment; raises ``BrokenOrderError`` when that cannot be it."""
        if not (np.diff(fragment.time) > 0).all():
            raise BrokenOrderError(f"{_name(fragment, number)}: its frames are not in the order of time")
        last = self._reached.get(fragment.env)
        before = last.number if last is not None else 0
        if number != before + 1:
            raise BrokenOrderError(f"{_name(fragment, number)}: came after number {before}")
        if last is not None:
            self._follow(last, fragment, number)
        elif fragment.first != 0:
            raise BrokenOrderError(f"{_name(fragment, number)}: the first of its env, in the middle of an episode")
        self.delivered += 1
        after = fragment.first + len(fragment)
        self._reached[fragment.env] = _Reached(
            number, fragment.episode, after, float(fragment.time[-1]), fragment.ended
        )

    def _follow(self, last: _Reached, fragment: Fragment, number: int) -> None:
        if fragment.episode != last.episode:
            if fragment.episode < last.episode or fragment.first != 0:
                raise BrokenOrderError(
                    f"{_name(fragment, number)}: came after episode {last.episode}, and does not begin one"
                )
        elif last.ended or (fragment.first, fragment.time[0]) != (last.decision, last.time):
            raise BrokenOrderError(
                f"{_name(fragment, number)}: does not go on where number {last.number} ended, at decision "
                f"{last.decision}, {last.time:g} s"
            )


def _name(fragment: Fragment, number: int) -> str:
    return (
        f"fragment {number} of env {fragment.env}, episode {fragment.episode}, "
        f"decision {fragment.first}, {float(fragment.time[0]):g} s"
    )
