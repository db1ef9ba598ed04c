"""The learner: batches in, new weights out."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parameters_to_vector

from graph.batch import Batch
from graph.policy import SignalPolicy
from graph.schema import COLUMNS
from graph.tensors import GraphTensors
from learner.checkpoints import check_columns, check_shapes, digest
from learner.errors import CheckpointError, DivergedError, OutOfMemoryError, RankLostError
from learner.losses import LossSettings, actor_critic_loss
from learner.reward_scales import RewardScales
from learner.world import World

_MOST_SKIPPED = 50  # steps in a row; a gradient scaler needs some 16 of them to find its scale
_LEAST_SCALE = 1.0  # of a gradient scaler that learning goes on with
_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
# What allocators say that raise a plain RuntimeError: of the CPU, of C++, of CUDA and of cuBLAS.
_NO_ROOM = ("can't allocate memory", "bad_alloc", "out of memory", "ALLOC_FAILED")


class Learner:
    """Adam on the actor–critic loss, under autocast and data-parallel over ranks where asked for.

    Every update is ``reuse`` steps: one on new experience, the others on that of one of the ``replay`` latest updates,
    drawn at random. ``average`` follows the weights as a running mean over some 1 / (1 - ``averaging``) steps: it is
    the better policy, since what single steps do to the weights cancels out (Polyak and Juditsky 1992, "Acceleration
    of Stochastic Approximation by Averaging").

    ``amp`` is ``"off"``, ``"bf16"`` or ``"fp16"``. Experience older than ``max_lag`` versions counts nothing.
    ``maps`` are the names of the networks that batches know by numbers.
    ``version`` counts updates from 1, the weights that nobody has learned. A step that runs out of memory is done again
    with batches in parts, and so are all that follow.

    Gradients travel between ranks all at once when each rank has all of its own. ``DistributedDataParallel`` would send
    the first of them while the last are still computed, and a step that runs out of memory then could not be repeated.
    """

    def __init__(
        self,
        policy: SignalPolicy,
        world: World,
        loss: LossSettings,
        *,
        learning_rate: float,
        gradient_clip: float,
        amp: str = "off",
        max_lag: int = 20,
        reuse: int = 1,
        replay: int = 1,
        averaging: float = 0.0,
        maps: Sequence[str] = ("",),
    ) -> None:
        self.policy = policy.to(world.device)
        self.version = 1
        self._world = world
        self._loss = loss
        self._learning_rate = learning_rate
        self._gradient_clip = gradient_clip
        self._max_lag = max_lag
        self._amp = amp
        self._reuse = reuse
        self._recent: deque[Sequence[Batch]] = deque(maxlen=replay if reuse > 1 else 1)
        self._averaging = averaging
        self._steps = 0
        self._skipped = 0  # steps in a row
        self._parts = 1  # that batches go through the network in
        for parameter in self.policy.parameters():
            world.of_first(parameter.detach())
        self.average = copy.deepcopy(self.policy).requires_grad_(False)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate, eps=1e-5)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=amp == "fp16")
        self._reward_scales = RewardScales(maps, world, loss.discount)

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Steps on the gradients of all ``batches`` and of earlier ones; the figures are those of the first.

        All ranks must call it together, with the same number of batches. Raises ``OutOfMemoryError`` when not even a
        single fragment fits, ``RankLostError`` when another rank is gone, ``DivergedError`` when learning is.
        """
        self._recent.append(batches)
        figures = self._step(batches)
        for _ in range(self._reuse - 1):
            self._step(self._recent[int(torch.randint(len(self._recent), ()))])
        self.version += 1
        return figures

    def _step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One optimizer step on the gradients of all ``batches``; the figures are means over them."""
        scales = self._reward_scales.follow(batches)
        while (figures := self._try_gradients(batches, scales)) is None:
            torch.cuda.empty_cache()  # what is free in blocks of other sizes
        self._average_gradients()
        lags = self.version - torch.cat([batch.versions for batch in batches])
        self._scaler.unscale_(self._optimizer)
        norm = clip_grad_norm_(self.policy.parameters(), self._gradient_clip)
        finite = bool(torch.isfinite(norm))  # the same on all ranks, as gradients are by now
        if finite or self._scaler.is_enabled():  # the scaler skips such a step by itself, and adapts
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._check_progress(finite)
        self._follow_weights()
        ages = lags.float()
        return {
            **{name: torch.stack([f[name] for f in figures]).mean().item() for name in figures[0]},
            "gradient_norm": norm.item(),
            "skipped": float(not finite),
            "lag": ages.mean().item(),
            "lag_max": ages.max().item(),
            "stale": (ages > self._max_lag).float().mean().item(),
            "parts": float(self._parts),
        }

    def _try_gradients(self, batches: Sequence[Batch], scales: Tensor) -> list[dict[str, Tensor]] | None:
        """Gradients of all batches and the figures of each; None when memory ran out, but may not in smaller parts."""
        self._optimizer.zero_grad(set_to_none=True)
        figures: list[dict[str, Tensor]] = []
        try:
            for i, waiting in enumerate(batches):
                batch = waiting.to(self._world.device)
                figures.append(self._accumulate(batch, scales[i], 1 / len(batches)))
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            most = max(len(batch.sources) for batch in batches)
            if self._parts >= most:
                raise OutOfMemoryError(_too_large("a single fragment does not fit into memory")) from error
            self._parts = min(2 * self._parts, most)
            return None
        return figures

    def _accumulate(self, batch: Batch, scales: Tensor, share: float) -> dict[str, Tensor]:
        """Add ``share`` of a batch's gradients to what is there; rewards are divided by ``scales`` [M], by map."""
        scale = scales[batch.maps]
        fresh = self.version - batch.versions <= self._max_lag
        if self._parts == 1:
            loss = actor_critic_loss(self._forward(batch.graph), batch, fresh, scale, self._loss)
            self._scaler.scale(loss.total * share).backward()
            return {"loss": loss.total.detach(), **loss.figures}
        # The loss is no sum over fragments: its advantages are normalised over the batch. So it is differentiated by
        # the outputs for all of them, and then the outputs by the weights, part by part: the same gradients, for one
        # more forward pass that keeps nothing.
        with torch.no_grad():
            parts = [self._forward(graph) for graph in batch.graphs(self._parts)]
        log_probs, values = (torch.cat(tensors).requires_grad_() for tensors in zip(*parts, strict=True))
        loss = actor_critic_loss((log_probs, values), batch, fresh, scale, self._loss)
        by_outputs = torch.autograd.grad(self._scaler.scale(loss.total * share), (log_probs, values))
        phases, signals = ([len(tensor) for tensor in tensors] for tensors in zip(*parts, strict=True))
        gradients = zip(by_outputs[0].split(phases), by_outputs[1].split(signals), strict=True)
        for graph, gradient in zip(batch.graphs(self._parts), gradients, strict=True):
            torch.autograd.backward(self._forward(graph), gradient)
        return {"loss": loss.total.detach(), **loss.figures}

    def _forward(self, graph: GraphTensors) -> tuple[Tensor, Tensor]:
        with torch.autocast(
            self._world.device.type, _FORMATS.get(self._amp, torch.bfloat16), enabled=self._amp != "off"
        ):
            return self.policy(graph)

    def _average_gradients(self) -> None:
        """The mean over ranks of all gradients, in one all-reduce."""
        if self._world.size == 1:
            return
        parameters = list(self.policy.parameters())
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        mean = self._world.mean(parameters_to_vector(own))
        for parameter, gradient in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def _follow_weights(self) -> None:
        """Take the present weights into their average, which is over all steps as long as these are few."""
        self._steps += 1
        share = max(1.0 - self._averaging, 1.0 / self._steps)
        for mean, present in zip(self.average.parameters(), self.policy.parameters(), strict=True):
            mean.lerp_(present.detach(), share)

    def _check_progress(self, finite: bool) -> None:
        """A step without finite gradients is left out; too many of them in a row are the end."""
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped >= _MOST_SKIPPED:
            raise DivergedError(
                f"the gradients of {_MOST_SKIPPED} steps in a row were no finite numbers: lower --learning-rate, "
                "or train with --amp off"
            )

    def forget_experience(self) -> None:
        """Let go of what was to be used again; steps use what comes anew."""
        self._recent.clear()

    def flat_weights(self) -> NDArray[np.float32]:
        """All weights as one vector, the way they travel to collectors."""
        return self.policy.flat_weights()

    def digest(self) -> str:
        """A digest of all weights, equal on ranks that agree."""
        return digest(self.policy.state_dict())

    def state(self) -> dict[str, Any]:
        """Everything that learning goes on from."""
        return {
            "columns": COLUMNS,
            "model": self.policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "reward_scales": self._reward_scales.state(),
            "average": self.average.state_dict(),
            "steps": self._steps,
            "version": self.version,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``; raises ``CheckpointError`` for one of another shape, or of other parts."""
        if missing := self.state().keys() - state.keys():
            raise CheckpointError(f"was written by another version of this program: it has no {', '.join(missing)}")
        check_columns(state)
        try:
            check_shapes(self.policy.state_dict(), state["model"])
        except CheckpointError as error:
            flags = "--hidden, --vehicle-rounds, --phase-rounds and --history must be as they were"
            raise CheckpointError(f"{error}; {flags}") from None
        self.policy.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate  # a run may go on with another one
        if state["scaler"]:  # empty where --amp was not fp16 before
            # A run that diverged has halved its scale until every gradient is zero.
            self._scaler.load_state_dict(state["scaler"] | {"scale": max(_LEAST_SCALE, state["scaler"]["scale"])})
        self._reward_scales.restore(state["reward_scales"])
        self.average.load_state_dict(state["average"])
        self._steps = int(state["steps"])
        self.version = int(state["version"])


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error says, which may come from PyTorch, CUDA, NumPy or C++."""
    if isinstance(error, OutOfMemoryError | RankLostError):
        return False  # ours: it has been seen to, or another rank's
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)


def _too_large(what: str) -> str:
    return f"{what}: lower --fragment-length, --batch-fragments or --hidden, or train with --amp bf16"
