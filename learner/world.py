"""The ranks of a run, and how they agree; a single rank needs no process group."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from learner.errors import DeviceError, RankLostError

_LOG = logging.getLogger(__name__)
_LEAVING = 10.0  # s
# gloo and nccl raise plain RuntimeErrors; these words are in those that another rank has caused, and in no others.
_FROM_AFAR = re.compile(r"gloo|nccl|pair closure|connection|by peer|timed out|broken pipe", re.IGNORECASE)
_SOURCE_LINE = re.compile(r"^\[[^]]*:\d+] ")  # "[/a/b/pair.cc:553] "


@dataclass(slots=True)
class World:
    """This rank among all ranks; ``device`` is where its policy lives.

    Where ranks have to meet and one does not come within ``timeout`` s, ``RankLostError`` is raised; from then on this
    world is ``lost``.
    """

    rank: int
    size: int
    device: torch.device
    timeout: float = field(default=0.0, compare=False)
    local_size: int = 1  # ranks on this machine, this one included
    lost: bool = field(default=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and talks to people."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over ranks of a few numbers, by which ranks agree; every rank must take part."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self.meeting():
            dist.all_reduce(total)
        return total.tolist()

    def mean(self, tensor: Tensor) -> Tensor:
        """Element-wise mean over ranks, in place."""
        if self.size > 1:
            with self.meeting():
                dist.all_reduce(tensor)
            tensor /= self.size
        return tensor

    def of_first(self, tensor: Tensor) -> Tensor:
        """The first rank's values, in place."""
        if self.size > 1:
            with self.meeting():
                dist.broadcast(tensor, src=0)
        return tensor

    def gather(self, text: str) -> list[str]:
        """One text per rank, by rank."""
        if self.size == 1:
            return [text]
        texts: list[str] = [""] * self.size
        with self.meeting():
            dist.all_gather_object(texts, text)
        return texts

    @contextlib.contextmanager
    def meeting(self) -> Iterator[None]:
        """Around what needs all ranks: an error that another rank has caused becomes ``RankLostError``."""
        try:
            yield
        except RuntimeError as error:
            reason = _SOURCE_LINE.sub("", str(error).strip().partition("\n")[0])
            if self.size == 1 or not (isinstance(error, dist.DistError) or _FROM_AFAR.search(str(error))):
                raise
            self.lost = True
            raise RankLostError(
                f"another rank has ended or has not answered within {self.timeout:g} s: {reason}"
            ) from error

    def close(self) -> None:
        """Leave the process group, within ``_LEAVING`` s.

        A group that has lost a rank is left alone: to end it may take for ever, and an end of it that the backend is
        not prepared for aborts the process on its way out.
        """
        if self.size == 1 or self.lost or not dist.is_initialized():
            return
        leaving = threading.Thread(target=dist.destroy_process_group, name="leaving", daemon=True)
        leaving.start()
        leaving.join(_LEAVING)
        if leaving.is_alive():
            _LOG.warning("rank %d could not leave the others within %g s", self.rank, _LEAVING)


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
    world = World(rank, size, chosen, timeout, on_this_machine)
    if size > 1:
        # The few numbers by which ranks agree travel on the CPU in both cases.
        backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
        with world.meeting():
            dist.init_process_group(backend, timeout=timedelta(seconds=timeout), rank=rank, world_size=size)
    return world


def end_process(code: int) -> NoReturn:
    """End this process as ``sys.exit`` does, also where a process group has been left alone.

    Its threads would make the backend abort the process while Python and the libraries take themselves apart, so that
    nobody learns of ``code``: then the process ends before that, as soon as Python's own exit functions have run.
    """
    if dist.is_initialized():
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # whoever listened may be gone
                print(end="", file=stream, flush=True)  # nothing where there is none
        os._exit(code)
    sys.exit(code)
