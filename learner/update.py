"""The learner: batches in, new weights out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, parameters_to_vector

from graph.batch import Batch
from graph.policy import SignalPolicy
from learner.checkpoints import check_shapes, digest
from learner.errors import DivergedError
from learner.losses import LossWeights, actor_critic_loss
from learner.world import World

_MOST_SKIPPED = 50  # steps in a row; a gradient scaler needs some 16 of them to find its scale
_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SCALE_MEMORY = 0.99  # share of the reward scale that one update leaves as it was


class Learner:
    """Adam on the actor–critic loss, under autocast and ``DistributedDataParallel`` where asked for.

    ``amp`` is ``"off"``, ``"bf16"`` or ``"fp16"``. Experience older than ``max_lag`` versions counts nothing.
    ``version`` counts updates from 1, the weights that nobody has learned.
    """

    def __init__(
        self,
        policy: SignalPolicy,
        world: World,
        weights: LossWeights,
        *,
        learning_rate: float,
        gradient_clip: float,
        amp: str = "off",
        max_lag: int = 20,
    ) -> None:
        self.policy = policy.to(world.device)
        self.version = 1
        self._world = world
        self._weights = weights
        self._learning_rate = learning_rate
        self._gradient_clip = gradient_clip
        self._max_lag = max_lag
        self._amp = amp
        self._skipped = 0  # steps in a row
        self._model: nn.Module = self.policy if world.size == 1 else DistributedDataParallel(self.policy)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate, eps=1e-5)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=amp == "fp16")
        # Mean absolute reward, by which rewards are divided: maps differ in it by orders of magnitude.
        self._reward_scale = torch.zeros((), device=world.device)

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One optimizer step on the gradients of all ``batches``; the figures are means over them.

        All ranks must call it together, with the same number of batches.
        """
        self._optimizer.zero_grad(set_to_none=True)
        figures: list[dict[str, Tensor]] = []
        lags: list[Tensor] = []
        for i, waiting in enumerate(batches):
            batch = waiting.to(self._world.device)
            lag = self.version - batch.versions
            lags.append(lag)
            self._adapt_reward_scale(batch)
            # Gradients travel between ranks once per step: with the last batch. DDP decides so during the forward.
            with self._no_sync() if i < len(batches) - 1 else contextlib.nullcontext():
                figures.append(self._accumulate(batch, lag <= self._max_lag, len(batches)))
        self._scaler.unscale_(self._optimizer)
        norm = clip_grad_norm_(self.policy.parameters(), self._gradient_clip)
        finite = bool(torch.isfinite(norm))  # the same on all ranks, as gradients are by now
        if finite or self._scaler.is_enabled():  # the scaler skips such a step by itself, and adapts
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._check_progress(finite)
        self.version += 1
        ages = torch.cat(lags).float()
        return {
            **{name: torch.stack([f[name] for f in figures]).mean().item() for name in figures[0]},
            "gradient_norm": norm.item(),
            "skipped": float(not finite),
            "lag": ages.mean().item(),
            "lag_max": ages.max().item(),
            "stale": (ages > self._max_lag).float().mean().item(),
        }

    def _check_progress(self, finite: bool) -> None:
        """A step without finite gradients is left out; too many of them in a row are the end."""
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped >= _MOST_SKIPPED:
            raise DivergedError(
                f"the gradients of {_MOST_SKIPPED} steps in a row were no finite numbers: lower --learning-rate, "
                "or train with --amp off"
            )

    def _accumulate(self, batch: Batch, fresh: Tensor, parts: int) -> dict[str, Tensor]:
        """Forward and backward of one batch out of ``parts``."""
        with torch.autocast(
            self._world.device.type, _FORMATS.get(self._amp, torch.bfloat16), enabled=self._amp != "off"
        ):
            outputs = self._model(batch.graph)
        loss = actor_critic_loss(outputs, batch, fresh, self._reward_scale, self._weights)
        self._scaler.scale(loss.total / parts).backward()
        return {"loss": loss.total.detach(), **loss.figures}

    def _no_sync(self) -> contextlib.AbstractContextManager[None]:
        model = self._model
        return model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()

    def _adapt_reward_scale(self, batch: Batch) -> None:
        """Follow the size of a discounted return, the same on all ranks."""
        horizon = 1.0 / (1.0 - min(self._weights.discount, 0.999))
        size = batch.rewards.abs().sum() / batch.valid.sum().clamp(min=1) * horizon
        size = self._world.mean(size.clamp(min=1e-3))
        followed = torch.where(
            self._reward_scale == 0, size, _SCALE_MEMORY * self._reward_scale + (1 - _SCALE_MEMORY) * size
        )
        self._reward_scale = torch.where(followed.isfinite(), followed, self._reward_scale)

    def flat_weights(self) -> NDArray[np.float32]:
        """All weights as one vector, the way they travel to collectors."""
        return parameters_to_vector(self.policy.parameters()).detach().float().cpu().numpy()

    def digest(self) -> str:
        """A digest of all weights, equal on ranks that agree."""
        return digest(self.policy.state_dict())

    def state(self) -> dict[str, Any]:
        """Everything that learning goes on from."""
        return {
            "model": self.policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "reward_scale": self._reward_scale,
            "version": self.version,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``; raises ``CheckpointError`` when the policy has another shape."""
        check_shapes(self.policy.state_dict(), state["model"])
        self.policy.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate  # a run may go on with another one
        if state["scaler"]:  # empty where --amp was not fp16 before
            self._scaler.load_state_dict(state["scaler"])
        self._reward_scale = state["reward_scale"].to(self._world.device)
        self.version = int(state["version"])
