"""The ranks of a run, and how they agree; a single rank needs no process group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from learner.errors import DeviceError


@dataclass(frozen=True, slots=True)
class World:
    """This rank among all ranks; ``device`` is where its policy lives."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and talks to people."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over ranks of a few numbers, by which ranks agree; every rank must take part."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def mean(self, tensor: Tensor) -> Tensor:
        """Element-wise mean over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
            tensor /= self.size
        return tensor

    def gather(self, text: str) -> list[str]:
        """One text per rank, by rank."""
        if self.size == 1:
            return [text]
        texts: list[str] = [""] * self.size
        dist.all_gather_object(texts, text)
        return texts

    def close(self) -> None:
        """Leave the process group."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join_world(environment: Mapping[str, str], device: str, timeout: float) -> World:
    """Join the ranks that ``torchrun`` started, or stand alone without it.

    ``environment`` holds torchrun's RANK, WORLD_SIZE and LOCAL_RANK where there are several ranks. ``device`` is
    ``"auto"``, ``"cpu"`` or ``"cuda"``. No rank waits longer than ``timeout`` s for another. Raises ``DeviceError``
    when CUDA is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: this machine has no CUDA device that torch can use; must be auto or cpu")
    on_cuda = device != "cpu" and torch.cuda.is_available()
    on_this_machine = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    if on_cuda and on_this_machine > torch.cuda.device_count():
        raise DeviceError(
            f"{on_this_machine} ranks cannot share {torch.cuda.device_count()} CUDA devices: start as many "
            "ranks as there are devices, or add --device cpu"
        )
    size = int(environment.get("WORLD_SIZE", "1"))
    rank = int(environment.get("RANK", "0"))
    index = int(environment.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", index % torch.cuda.device_count()) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(chosen)
    if size > 1:
        # The few numbers by which ranks agree travel on the CPU in both cases.
        backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout), rank=rank, world_size=size)
    return World(rank, size, chosen)
