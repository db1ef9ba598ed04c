"""How the demand of an episode may differ from what its scenario says, so that no two episodes are one and the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from envs.scenarios import Scenario

_STREAM = 1  # of an episode's seed: others draw from it too


@dataclass(frozen=True, slots=True)
class Variation:
    """What each episode draws from its seed; unless told otherwise, it is the scenario as it is.

    ``low`` to ``high``: the factor on the number of vehicles, uniformly; ``jitter``: s by which each vehicle departs
    later than planned at most, uniformly.
    """

    low: float = 1.0
    high: float = 1.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < float("inf"):
            raise ValueError(f"demand_scale {self.low:g}:{self.high:g}: must be above 0, the smaller one first")
        if not 0 <= self.jitter < float("inf"):
            raise ValueError(f"departure_jitter {self.jitter:g}: must be 0 s or more")

    @classmethod
    def of(cls, scale: float | str, jitter: float) -> Self:
        """``scale`` is a factor, such as 1.2, or a range of them, such as "0.8:1.2"; raises ``ValueError``."""
        low, colon, high = str(scale).partition(":")
        try:
            return cls(float(low), float(high if colon else low), jitter)
        except ValueError as error:
            if str(error).startswith("could not convert"):
                raise ValueError(f"demand_scale {scale!r}: must be a factor, as 1.2, or a range, as 0.8:1.2") from None
            raise

    def scale(self, seed: int) -> float:
        """The factor of the episode with this seed."""
        return float(np.random.default_rng([_STREAM, seed]).uniform(self.low, self.high))

    def options(self, scenario: Scenario, seed: int) -> list[str]:
        """SUMO's options for the episode with this seed; they replace what the configuration says, so that counts in.

        The factor multiplies the configuration's own, and of two ranges of departures the wider one holds.
        """
        options = []
        if (self.low, self.high) != (1.0, 1.0):
            options += ["--scale", f"{scenario.scale * self.scale(seed):.6g}"]
        if self.jitter > scenario.departure_jitter:
            options += ["--random-depart-offset", f"{self.jitter:g}"]
        return options


AS_IT_IS = Variation()
