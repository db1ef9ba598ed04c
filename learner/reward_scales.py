"""What rewards are divided by, map by map: maps differ in the size of their rewards by orders of magnitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graph.batch import Batch
from learner.world import World

_MEMORY = 0.99  # share of a scale that one batch of one step leaves as it was
_LEAST = 1e-3  # scale of a map on which there is nothing to be rewarded for
_LONGEST = 0.999  # discount beyond which horizons count as equally long


class RewardScales:
    """Follows the size of a discounted return on each of M ``maps``, the same on all ranks.

    Maps are numbered as in ``Batch.maps``; by their names they are known in checkpoints, so that a run may go on with
    others, and come back to those that it has left.
    """

    def __init__(self, maps: Sequence[str], world: World, discount: float) -> None:
        self._maps = tuple(maps)
        self._world = world
        self._horizon = horizon(discount)
        self._scales = torch.zeros(len(self._maps), device=world.device)  # 0: not met yet
        self._left: dict[str, float] = {}  # of maps that are not learned from now

    def follow(self, batches: Sequence[Batch]) -> Tensor:
        """The scales as of each batch, [B, M]; where no rank has met a map in a batch, its scale stays."""
        totals = torch.stack([self._totals(batch) for batch in batches]).to(self._world.device)
        scales = []
        for total, count in self._world.mean(totals):  # of sums, not of means: ranks see a map more or less often
            size = (total / count.clamp(min=1e-6) * self._horizon).clamp(min=_LEAST)
            followed = torch.where(self._scales == 0, size, _MEMORY * self._scales + (1 - _MEMORY) * size)
            self._scales = torch.where(followed.isfinite() & (count > 0), followed, self._scales)
            scales.append(self._scales)
        return torch.stack(scales)

    def _totals(self, batch: Batch) -> Tensor:
        """On each map the sum of absolute rewards, and how many there are, [2, M]."""
        per_signal = torch.stack([batch.rewards.abs().sum(0), batch.valid.sum(0).float()])  # [2, A]
        return torch.zeros(2, len(self._maps)).index_add_(1, batch.maps, per_signal)

    def state(self) -> dict[str, float]:
        """The scale of every map that was ever met, by its name."""
        own = zip(self._maps, self._scales.tolist(), strict=True)
        return {**self._left, **{name: scale for name, scale in own if scale > 0}}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a ``state``; maps that are not in it are met for the first time."""
        self._left = {name: scale for name, scale in state.items() if name not in self._maps}
        self._scales = torch.tensor([state.get(name, 0.0) for name in self._maps], device=self._world.device)


def horizon(discount: float) -> float:
    """How many decisions a reward that never changes is worth."""
    return 1.0 / (1.0 - min(discount, _LONGEST))
