"""What goes on around learning: limits before the start, memory while it lasts, and whoever watches and steers.

Known to ``train_rl.py`` alone.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from collectors.commands import AllRanks, commands_of
from collectors.control import ControlServer, forget_ranks
from collectors.holds import MEMORY
from collectors.pool import Pool
from collectors.wire import socket_name
from config import Settings, SettingsError
from dashboard import Dashboard, parse_address
from graph import Batches
from learner.stopping import StopRequest
from learner.update import Learner
from learner.world import World
from machine import (
    Level,
    MemoryGuard,
    ProcessMemory,
    Verdict,
    check_descriptors,
    check_disk,
    check_processes,
    cores,
    give_back,
    parse_size,
    size_text,
    tree_memory,
    tree_memory_by_process,
)

_HISTORY = 900  # rows of metrics that the web page draws
_HANGING = 4.0  # stall limits without a step until the run counts as hanging
_MEMORY_PATIENCE = 600.0  # s that collectors rest for want of memory until the run ends
# What a run takes at most.
_THREADS_OF_A_RANK, _THREADS_OF_A_CORE, _THREADS_OF_A_PROCESS = 60, 2, 4
_DESCRIPTORS_OF_A_RUN, _DESCRIPTORS_OF_AN_ENV = 256, 4
_DISK_OF_A_RUN = 16 * 2**20  # bytes of metrics and pictures


def check_limits(settings: Settings, collectors: int, folder: Path | None, checkpoint: int, ranks: int = 1) -> None:
    """See before anything is started that the machine allows it; raises ``LimitError``.

    ``checkpoint`` is the size of one in bytes; ``folder`` is the run's, None where this rank writes no files; ``ranks``
    share the machine.
    """
    envs, loaders = settings.collection.num_envs, settings.graph.loader_workers
    processes = min(envs, collectors) + envs * (settings.env.backend == "traci") + loaders
    threads = _THREADS_OF_A_RANK + _THREADS_OF_A_CORE * cores() + _THREADS_OF_A_PROCESS * processes
    check_processes(ranks * threads)
    descriptors = _DESCRIPTORS_OF_A_RUN + _DESCRIPTORS_OF_AN_ENV * settings.collection.capacity
    check_descriptors(descriptors, settings.collection.capacity_flag)
    if folder is not None:
        check_disk(folder, (settings.run.keep_checkpoints + 1) * checkpoint + _DISK_OF_A_RUN)


def memory_budget(text: str, ranks: int) -> int:
    """Bytes of ``--memory-budget`` for each of the ranks that share a machine; raises ``SettingsError``."""
    try:
        budget = parse_size(text) // ranks
    except ValueError as error:
        raise SettingsError(f"--memory-budget {text}: {error}") from error
    used = tree_memory(os.getpid())
    if budget < 2 * used:
        raise SettingsError(
            f"--memory-budget {text}: must be at least {size_text(2 * used * ranks)}; "
            f"{size_text(used * ranks)} are in use before anything is started"
        )
    return budget


def memory_of(pool: Pool) -> list[ProcessMemory]:
    """What each process of a run holds, biggest first.

    Collectors and SUMOs by their numbers, too: they are nobody's children once the forkserver between has died.
    """
    rows = pool.status()["collectors"]
    return tree_memory_by_process(
        os.getpid(), *(pid for row in rows for pid in (row.get("pid"), *row["sumo"]) if pid is not None)
    )


class MemoryKeeper:
    """Keeps a rank within its memory: warns, then empties caches and lets collectors rest until there is room again."""

    def __init__(
        self,
        guard: MemoryGuard,
        pool: Pool,
        batches: Batches,
        learner: Learner,
        on_cuda: bool,
        say: Callable[[str], None],
        patience: float = _MEMORY_PATIENCE,
    ) -> None:
        self._guard = guard
        self._pool = pool
        self._batches = batches
        self._learner = learner
        self._on_cuda = on_cuda
        self._say = say
        self._patience = patience
        self._rests = False

    def look(self) -> Verdict:
        """See how things stand and act on it; raises ``MemoryError`` when resting has not helped for too long."""
        verdict = self._guard.look()
        if verdict.changed and verdict.level is not Level.FINE:
            self._say(verdict.text)
        if verdict.level is Level.OVER:
            if not self._rests:
                self._make_room()
            if verdict.over_since is not None and time.monotonic() - verdict.over_since > self._patience:
                raise MemoryError(f"{verdict.text}; resting for {self._patience:g} s has not helped")
        elif self._rests:
            self._rests = False
            self._pool.resume(why=MEMORY)
            self._say(f"collectors go on: {verdict.text}")
        return verdict

    def _make_room(self) -> None:
        self._rests = True
        self._pool.pause(why=MEMORY)
        self._batches.shrink()
        self._learner.forget_experience()
        give_back()
        if self._on_cuda:
            torch.cuda.empty_cache()
        self._say("caches were emptied, and collectors rest until memory is free again")


class Station:
    """Where a run is watched and steered from: its control socket, signals, and on the first rank its web page.

    A context manager; ``note`` is told how it goes.
    """

    def __init__(self, settings: Settings, world: World, pool: Pool, folder: Path, stop: StopRequest) -> None:
        self._pool = pool
        self._patience = _HANGING * settings.collection.stall_limit
        self._figures: dict[str, float | None] = {}  # the latest
        self._history: deque[dict[str, float | None]] = deque(maxlen=_HISTORY)
        self._progressed_at = time.monotonic()
        commands = commands_of(pool, world.rank, lambda: self._figures, self.health, stop.request)
        everyone = AllRanks(commands, world.rank, world.size, folder)
        self.page: str | None = None  # the web page's address for whoever may steer
        if world.is_first:
            forget_ranks(folder, world.size)
        with ExitStack() as parts:
            self._control = parts.enter_context(ControlServer(folder, socket_name(world.rank), commands))
            if settings.run.dashboard is not None and world.is_first:
                self.page = self._serve(settings.run.dashboard, everyone, parts)
            self._parts = parts.pop_all()
        stop.steer(pause=lambda: everyone.ask({"command": "pause"}), resume=lambda: everyone.ask({"command": "resume"}))

    def _serve(self, address: str, everyone: AllRanks, parts: ExitStack) -> str:
        try:
            parse_address(address)
        except ValueError as error:
            raise SettingsError(f"--dashboard {address}: {error}") from error
        token = secrets.token_urlsafe(24)
        page = Dashboard(
            address,
            token,
            status=lambda: everyone.ask({"command": "status"}),
            command=everyone.ask,
            history=lambda: list(self._history),
            health=self.health,
        )
        return f"{parts.enter_context(page).url}#token={token}"

    def health(self) -> dict[str, Any]:
        """Whether it is learning, starting, paused, stopped (its closing table is made), or hangs."""
        since = time.monotonic() - self._progressed_at
        state = self._pool.status()["state"]
        if state in ("running", "pausing", "paused") and since >= self._patience:  # at rest, the loop still turns
            state = "hanging"
        elif state == "running":
            state = "learning"
        return {"healthy": state != "hanging", "state": state, "seconds_since_progress": round(since, 1)}

    def note(self, values: Mapping[str, float], progress: bool) -> None:
        """The latest figures; ``progress`` when there was some, or none is expected."""
        self._figures = {name: value if math.isfinite(value) else None for name, value in values.items()}
        if progress:
            self._progressed_at = time.monotonic()

    def remember(self) -> str | None:
        """Keep the latest figures for curves, and see that the socket is still there; returns what is wrong."""
        self._history.append({"time": time.time(), **self._figures})
        return self._control.renew()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()
