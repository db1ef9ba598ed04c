"""Whether a target is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Judgement:
    """One target: what it is about, what was aimed at, and what was measured; None where nothing was."""

    about: str
    goal: float
    value: float | None
    show: Callable[[float], str]
    at_least: bool = True
    strictly: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where nothing was measured."""
        if self.value is None:
            return None
        if self.strictly:
            return self.value > self.goal if self.at_least else self.value < self.goal
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    @property
    def goal_text(self) -> str:
        """The target in words."""
        sign = (">" if self.at_least else "<") if self.strictly else ("≥" if self.at_least else "≤")
        return f"{sign} {self.show(self.goal)}"

    @property
    def value_text(self) -> str:
        """What was measured."""
        return "not measured" if self.value is None else self.show(self.value)

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "met", False: "missed", None: "–"}[self.met]
