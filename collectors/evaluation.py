"""Many episodes of several controllers, each in a process of its own, as many at once as there are cores."""

from __future__ import annotations

import multiprocessing
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from buffers.children import follow_parent, start_forkserver
from collectors.episodes import Conditions, Episode, Policy, run_episode
from collectors.errors import EvaluationError
from envs.errors import ScenarioError
from envs.network import Network
from envs.scenarios import Scenario
from machine import cores

__all__ = ["Conditions", "Episode", "Policy", "evaluate"]

_LOOK = 0.5  # s until it looks whether somebody wants it to end
_PRELOAD = ["collectors.preload", "collectors.evaluation"]  # torch and our rooms, imported once for all processes


def evaluate(
    scenario: Scenario,
    network: Network | None,
    controllers: Sequence[str | Policy],
    seeds: Sequence[int],
    conditions: Conditions = Conditions(),  # noqa: B008 - frozen
    *,
    processes: int | None = None,
    timeout: float = 600.0,
    on_episode: Callable[[Episode], None] | None = None,
    on_wait: Callable[[], object] | None = None,
) -> list[Episode]:
    """Run every controller on every seed; episodes come back controller by controller, seeds in the order given.

    ``controllers`` are names of ``envs.controllers.CLASSICAL`` or policies; seeds below 2**16 are never trained on.
    ``network`` saves reading it again. At most ``processes`` run at once, by default one per core, and ``timeout`` (s)
    bounds each episode. ``on_episode`` hears of each that ends, ``on_wait`` is called twice a second; both
    may raise to end it all. No process is left behind, whatever happens.

    Raises ``ScenarioError`` where there is nothing to control or no vehicle, and ``EvaluationError`` with the traceback
    of an episode that failed, or with what befell one that died or took too long.
    """
    names = [controller if isinstance(controller, str) else controller.name for controller in controllers]
    if len(set(names)) < len(names):
        raise ValueError(f"controllers {', '.join(names)}: each must have a name of its own")
    jobs = [
        _Job(scenario, network, controller, seed, conditions, number)
        for number, (controller, seed) in enumerate((c, s) for c in controllers for s in seeds)
    ]
    done: dict[int, Episode] = {}
    waiting, running = deque(jobs), list[_Running]()
    most = processes or cores()
    try:
        while waiting or running:
            while waiting and len(running) < most:
                running.append(_Running(waiting.popleft(), timeout))
            if on_wait is not None:
                on_wait()
            for ended in _next_ended(running):
                episode = ended.result()
                running.remove(ended)
                done[ended.job.number] = episode
                if on_episode is not None:
                    on_episode(episode)
    finally:
        for still in running:
            still.kill()
    return [done[job.number] for job in jobs]


@dataclass(frozen=True, eq=False)
class _Job:
    scenario: Scenario
    network: Network | None
    controller: str | Policy
    seed: int
    conditions: Conditions
    number: int

    def __str__(self) -> str:
        name = self.controller if isinstance(self.controller, str) else self.controller.name
        return f"{name} on scenario {self.scenario.name}, seed {self.seed}"


class _Running:
    """An episode under way in its own process."""

    def __init__(self, job: _Job, timeout: float) -> None:
        context = multiprocessing.get_context("forkserver")
        start_forkserver(_PRELOAD)
        self.job = job
        self.timeout = timeout
        self.connection, theirs = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_run, args=(job, theirs), name=f"episode-{job.number}", daemon=True
        )
        self.process.start()
        theirs.close()
        self.deadline = time.monotonic() + timeout

    def result(self) -> Episode:
        """What has come out of it; raises what went wrong."""
        if not self.connection.poll():
            raise EvaluationError(f"{self.job} has not ended within {self.timeout:g} s")
        try:
            outcome: Episode | ScenarioError | str = self.connection.recv()
        except EOFError:
            self.process.join(1.0)
            raise EvaluationError(
                f"{self.job}: its process died with exit code {self.process.exitcode} and left no traceback: "
                "it was killed, or the machine ran out of memory"
            ) from None
        if isinstance(outcome, ScenarioError):
            raise outcome
        if isinstance(outcome, str):
            raise EvaluationError(f"{self.job} failed:\n{outcome}")
        self.process.join(1.0)
        self.kill()
        return outcome

    def kill(self) -> None:
        """End it at once, and its SUMO with it; harmless where it has ended."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _next_ended(running: Sequence[_Running]) -> list[_Running]:
    """Those that have ended or exceed their time, after a wait for them of at most ``_LOOK``."""
    patience = min(_LOOK, max(0.0, min(one.deadline for one in running) - time.monotonic()))
    ready = wait([one.connection for one in running], timeout=patience)
    now = time.monotonic()
    return [one for one in running if one.connection in ready or now >= one.deadline]


def _run(job: _Job, connection: Connection) -> None:
    """The process of one episode, from start to end."""
    follow_parent()
    torch.set_num_threads(1)
    try:
        connection.send(run_episode(job.scenario, job.network, job.controller, job.seed, job.conditions))
    except ScenarioError as error:
        connection.send(error)
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        connection.send(traceback.format_exc())
        sys.exit(1)
