"""Train a graph policy on many SUMO simulations at once: ``python train_rl.py --num-envs 4``.

Settings, scenario, collectors, dataset, learner, one after the other; ``--help`` lists the flags. Exit code 0: done, or
stopped on request; 1: the run failed; 2: a setting or a file is wrong.
"""
# ruff: noqa: E402 - signals are listened for before the imports, which take a second or two

from __future__ import annotations

from learner.stopping import StopRequest, StopRequestedError

stop = StopRequest()
if __name__ == "__main__":
    stop.install()

import gc
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import config
from buffers import BrokenOrderError, SharedMemoryError, Slots, WeightsChannel
from buffers.children import end_helpers
from closing import ClosingTable
from collectors.control import lock_run_folder
from collectors.errors import CollectorError, EvaluationError, RunInUseError
from collectors.evaluation import Conditions, Policy
from collectors.holds import SUSPENDED
from collectors.places import find_places, names_in
from collectors.plan import CollectionPlan
from collectors.pool import Pool
from collectors.processes import ProcessPool, prepare, sumo_limits
from collectors.serial import SerialPool
from config import LearnerSettings, RunSettings, Settings, SettingsError
from dashboard import DashboardError
from envs import ScenarioError, SumoError, SumoMissingError
from graph import Batches, ExperienceDataset, LoaderError, PolicyShape, SignalPolicy, Topology
from learner import checkpoints, metrics
from learner.display import Display, Target
from learner.errors import (
    CheckpointError,
    DivergedError,
    LearnerError,
    OutOfMemoryError,
    RankLostError,
    UnwritableError,
)
from learner.files import write_atomically, writing
from learner.losses import LossSettings
from learner.progress import Progress
from learner.steps import agreed_steps
from learner.update import Learner
from learner.world import World, end_process, join_world
from machine import Level, LimitError, MemoryGuard, cores
from operations import MemoryKeeper, Station, check_limits, memory_budget, memory_of

_LEAST_PATIENCE = 60.0  # s for another rank: it may have torch to import, or a slow disk to write a checkpoint to
_METRICS_EVERY = 1.0  # s between two rows of metrics
_SLOW_START = 20.0  # s after which people are told why
_PATIENCE = 0.5  # s without experience until the learner looks after other things
_WRONG = (
    *(SettingsError, ScenarioError, SumoMissingError, RunInUseError, SharedMemoryError),
    *(LearnerError, LimitError, DashboardError),
)
_FAILED = (
    *(CollectorError, EvaluationError, SumoError, BrokenOrderError, LoaderError),
    *(DivergedError, OutOfMemoryError, RankLostError, UnwritableError, MemoryError, torch.OutOfMemoryError),
)


def main(argv: Sequence[str]) -> int:
    """One run, from its settings to its exit code."""
    try:
        settings = config.load(argv)
        if "TORCHELASTIC_RUN_ID" in os.environ:
            stop.follow_parent()  # torchrun: killed, it would leave its ranks to themselves
        limit = max(_LEAST_PATIENCE, 2 * settings.collection.stall_limit)  # s that a rank may be waited for
        with (
            closing(join_world(os.environ, settings.learner.device, limit)) as world,
            closing(Run(settings, world)) as this_run,
        ):
            this_run.train()
            this_run.report()
        return 0
    except StopRequestedError:
        print("stopped on request, before anything had begun")
        return 0
    except _FAILED as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except _WRONG as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        end_helpers()


class Run:
    """The parts of a run, wired in the order in which an observation passes through them."""

    def __init__(self, settings: Settings, world: World) -> None:
        self.settings = settings
        self.world = world
        self._stop_early()
        torch.manual_seed(settings.run.seed)
        self.collectors = num_collectors(settings, world)
        busy = min(self.collectors, settings.collection.num_envs)
        torch.set_num_threads(max(1, cores() // world.local_size - busy))
        check_shares(settings, world)
        if self.collectors:
            loader = ("graph.loader",) if settings.graph.loader_workers else ()  # with torch, which collectors lack
            prepare(*loader)
        self.places = find_places(settings.env.scenario, sumo_limits(settings.collection.stall_limit)["start_limit"])
        self.maps = [place.name for place in self.places]
        self._stop_early()
        self.shape = PolicyShape(history=settings.graph.history, **settings.policy.model_dump())
        self.learner = make_learner(settings.learner, world, self.shape, self.maps)
        self.folder, is_new = agree_on_folder(settings.run, world)
        with ExitStack() as parts:  # ends those that are there when one cannot be made
            if is_new:
                parts.callback(remove_if_empty, self.folder)
            if world.is_first:
                parts.callback(os.close, claim_folder(settings.run, self.folder))
            self.progress = Progress(maps=self.maps)
            self.resumed_from: Path | None = None
            self._reseeded = ""  # what is to be said of the seed
            if settings.run.resume:
                self._restore()
            size = 3 * checkpoints.size_of(self._learned())  # Adam's moments come with its first step
            folder = self.folder if world.is_first else None
            check_limits(settings, self.collectors, folder, size, world.local_size)
            budget = memory_budget(settings.run.memory_budget, world.local_size)
            self.plan = self._plan()
            self.slots = parts.enter_context(closing(self._slots()))
            self.weights = parts.enter_context(closing(WeightsChannel(len(self.learner.flat_weights()))))
            self.weights.publish(self.learner.flat_weights(), self.learner.version)
            self.pool = parts.enter_context(closing(self._pool()))
            self.batches = self._batches()
            self.display = Display(
                Target(settings.run.total_decisions, settings.run.time_limit), Console(quiet=not world.is_first)
            )
            self.station = parts.enter_context(Station(settings, world, self.pool, self.folder, stop))
            on_cuda = world.device.type == "cuda"
            guard = MemoryGuard(budget, measure=lambda: memory_of(self.pool))
            self.memory = MemoryKeeper(guard, self.pool, self.batches, self.learner, on_cuda, self._say)
            self.metrics: metrics.MetricsWriter | None = None
            if world.is_first:
                self.metrics = parts.enter_context(metrics.MetricsWriter(self.folder, settings.run.resume))
                if settings.run.resume:
                    self._write_settings()
                else:
                    self._save()  # a run that has settings can be resumed, however early it dies
            self._parts = parts.pop_all()
        self._written_at = self._saved_at = time.monotonic()
        self._paused = False

    def _stop_early(self) -> None:
        """Leave where nothing has begun yet and a stop is wanted; several ranks meet first, or one would be missed."""
        if self.world.size == 1:
            stop.raise_if_requested()

    def _plan(self) -> CollectionPlan:
        """What collectors are told."""
        env, collection = self.settings.env, self.settings.collection
        return CollectionPlan(
            places=self.places,
            backend=env.backend,
            simulation=env.model_dump(exclude={"scenario", "task", "backend"}) | sumo_limits(collection.stall_limit),
            fragment_length=collection.fragment_length,
            slot_vehicles=collection.slot_vehicles,
            shape=self.shape,
            radius=self.settings.graph.radius if self.shape.vehicle_rounds else 0.0,
            seed=self.settings.run.seed,
            first_env=self.world.rank,
            env_stride=self.world.size,
            first_episode=self.progress.first_episode,
            restart_limit=collection.restart_limit,
        )

    def _slots(self) -> Slots:
        """Shared memory for fragments: as many slots per env as it may have unread fragments."""
        collection = self.settings.collection
        slots_per_env = -(-collection.queue_size // collection.num_envs)
        return Slots(
            self.plan.layouts(),
            collection.num_envs,
            slots_per_env=slots_per_env,
            readers=max(1, self.settings.graph.loader_workers),
            collectors=max(1, self.collectors),
            capacity=collection.capacity,
            poison=collection.poison,
        )

    def _pool(self) -> Pool:
        """Collectors in processes of their own, or in this one."""
        collection = self.settings.collection
        if self.collectors == 0:
            return SerialPool(self.plan, self.slots, self.weights, collection.num_envs)
        return ProcessPool(self.plan, self.slots, self.weights, collection.num_envs, stall_limit=collection.stall_limit)

    def _batches(self) -> Batches:
        """Fragments in, batches of graphs out."""
        graph = self.settings.graph
        dataset = ExperienceDataset(
            self.slots,
            [Topology.of(place.network) for place in self.places],
            batch_fragments=self.settings.learner.batch_fragments,
            radius=self.plan.radius,
            history=graph.history,
            cache_frames=graph.cache_frames,
            patience=_PATIENCE,
            work=self.pool.work,
        )
        return Batches(
            dataset,
            graph.loader_workers,
            pin_memory=self.world.device.type == "cuda",
            silence_limit=self.settings.collection.stall_limit,
        )

    def train(self) -> None:
        """Learn from what the collectors bring until a limit is reached or somebody asks for a stop."""
        with self.display:
            self.display.message(self._headline())
            try:
                with suppress(StopRequestedError):
                    self._start_collectors()
                self.progress.begin()
                self._learn()
            except Exception:
                self._save_if_possible("what has been learned is lost")
                raise
            self._save()  # before anything is printed: the terminal may be gone
            self._look_after(state="stopping")
            self._say_digests()
            if stop.requested:
                self.display.message(f"stopped on request; --resume --run-dir {self.folder} goes on")

    def _start_collectors(self) -> None:
        """Start them; ranks meet while they do, so that none waits longer for another than it takes to start."""

        def meet(starting: bool) -> bool:
            """Whether some rank is still starting; raises ``StopRequestedError`` on all when one has to stop."""
            self.memory.look()
            others, stopping = self.world.sum([float(starting), float(stop.requested)])
            if stopping:
                raise StopRequestedError("stopped on request")
            return others > 0

        slow = time.monotonic() + _SLOW_START

        def wait() -> None:
            nonlocal slow
            meet(True)
            if time.monotonic() > slow:
                slow = float("inf")
                self.display.message("collectors are still starting: after an update, loops are compiled first")

        meet(True)
        self.pool.start(on_wait=wait)
        while meet(False):
            pass

    def _learn(self) -> None:
        """The loop: batches, steps on which all ranks agree, new weights."""
        accumulate = self.settings.learner.accumulate
        with self.batches as batches:
            steps = agreed_steps(batches, self.world, self.progress, accumulate, self._finished, lambda: self._paused)
            for batches_of_step in steps:
                self.pool.check()
                if batches_of_step:
                    self.progress.updated(self.learner.update(batches_of_step))
                    self.weights.publish(self.learner.flat_weights(), self.learner.version)
                self._look_after(progress=bool(batches_of_step))

    def _finished(self) -> bool:
        """Whether this rank wants to stop."""
        limits = self.settings.run
        enough = limits.total_decisions is not None and self.progress.decisions >= limits.total_decisions
        late = limits.time_limit is not None and self.progress.elapsed >= limits.time_limit
        return stop.requested or enough or late

    def _look_after(self, state: str | None = None, progress: bool = False) -> None:
        """Show and write down how it goes, and save it from time to time."""
        for line in self.pool.news():
            self._say(line)
        if stop.suspend_requested:
            self._suspend()
        memory = self.memory.look()
        status = self.pool.status()
        self._paused = status["state"] == "paused"
        self.progress.tick(paused=self._paused)
        values = {
            **self.progress.values(status),
            "fragments": self.batches.delivered,
            "memory_bytes": memory.used,
            "memory_budget": memory.budget,
        }
        self.station.note(values, progress or self._paused or self.progress.at_rest)
        state = state or ("memory" if memory.level is Level.OVER else None)
        self.display.update({**values, "state": state or status["state"]})
        now = time.monotonic()
        if state == "stopping" or now - self._written_at >= _METRICS_EVERY:
            self._written_at = now
            self._say(self.station.remember())
            if self.metrics is not None:
                self._say(self.metrics.write(self.progress.decisions, values))
        if now - self._saved_at >= self.settings.run.checkpoint_every:
            self._save_if_possible("training goes on without a checkpoint")

    def _say(self, trouble: str | None) -> None:
        """Tell people of something that the run survives; the display is the first rank's alone."""
        if trouble is None:
            return
        if self.world.is_first:
            self.display.message(trouble)
        else:
            print(f"rank {self.world.rank}: {trouble}", file=sys.stderr, flush=True)

    def _suspend(self) -> None:
        """Ctrl-Z: let the collectors rest, and stop until somebody continues this process."""
        self.progress.tick(paused=False)
        self.pool.pause(why=SUSPENDED)
        if self.world.size > 1:  # the others would wait for a process that stands
            stop.suspend_requested = False
            self._say("this rank's collectors rest until SIGUSR2, or python -m collectors resume")
            self.pool.pause()
        else:
            with self.display.suspended():
                stop.suspend()
        self.pool.resume(why=SUSPENDED)
        self.progress.tick(paused=True)

    def _save_if_possible(self, otherwise: str) -> None:
        """Write a checkpoint; a full disk may have room again next time."""
        try:
            self._save()
        except CheckpointError as error:
            self._say(f"{otherwise}: {error}")

    def _save(self) -> None:
        """Write a checkpoint."""
        self._saved_at = time.monotonic()
        if self.world.is_first:
            checkpoints.save(
                self.folder / "checkpoints", self.progress.decisions, self._state(), self.settings.run.keep_checkpoints
            )
            if not (self.folder / "config.yaml").exists():  # not yet, or somebody has deleted the folder
                self._write_settings()

    def _write_settings(self) -> None:
        """Write down what a resumed run needs beside a checkpoint; raises ``UnwritableError``."""
        with writing(self.folder / "config.yaml") as path:
            write_atomically(path, config.to_yaml(as_recipe(self.settings)).encode())

    def _state(self) -> dict[str, Any]:
        """All that a resumed run goes on from, and all that acting with the policy needs."""
        env = self.settings.env
        return {
            **self._learned(),
            "radius": self.plan.radius,
            "env": env.model_dump(exclude={"scenario", "task"}),
            "counters": self.progress.counters(),
            "windows": self.progress.windows(),
            "seed": self.settings.run.seed,
        }

    def _learned(self) -> dict[str, Any]:
        """The part of a checkpoint that takes room."""
        return {**self.learner.state(), "shape": self.shape.as_dict(), "random": torch.get_rng_state()}

    def _restore(self) -> None:
        """Go on where the newest intact checkpoint of the run stands."""
        path = checkpoints.latest(self.folder / "checkpoints")
        if path is None:
            raise SettingsError(
                f"--resume: {self.folder} holds no checkpoint to go on from; begin anew in another folder"
            )
        state = checkpoints.load(path)
        try:
            self.learner.restore(state)
        except CheckpointError as error:
            raise SettingsError(f"--resume: {path}: {error}") from error
        seed = self.settings.run.seed
        self._reseeded = "" if state["seed"] == seed else f", made with seed {state['seed']}; from now on {seed}"
        self.progress = Progress(state["counters"], state.get("windows"), self.maps)
        torch.set_rng_state(state["random"])
        self.resumed_from = path

    def _headline(self) -> str:
        """What is about to happen, for people."""
        collection = self.settings.collection
        processes = min(self.collectors, collection.num_envs)
        lines = [
            *map(str, self.places),
            f"{collection.num_envs} simulations over {self.settings.env.backend} in "
            f"{processes or 'this'} process{'es' if processes > 1 else ''}",
            f"run folder {self.folder}; from another terminal: python -m collectors status --run-dir {self.folder}",
        ]
        if self.resumed_from is not None:
            lines.append(f"goes on from {self.resumed_from}: {self.progress.decisions:,} decisions{self._reseeded}")
        if self.station.page is not None:
            lines.append(f"web page {self.station.page}")
        return "\n".join(lines)

    def _say_digests(self) -> None:
        """Show what has been learned in a few letters, and that all ranks hold the same."""
        digests = self.world.gather(self.learner.digest())
        same = "the same on every rank" if len(set(digests)) == 1 else "DIFFERENT BETWEEN RANKS"
        words = f"{', '.join(digests)} ({same})" if len(digests) > 1 else digests[0]
        self.display.message(f"weights after version {self.learner.version}: {words}")

    def report(self) -> None:
        """Hold the policy against the networks' own programs, on seeds that nobody was trained on."""
        self.pool.close()  # its cores are needed now
        if not self.world.is_first or not self.settings.run.eval_seeds or stop.requested:
            return
        env = self.settings.env
        in_training = {"demand_scale", "departure_jitter", "gridlock"}  # what is evaluated is the scenario as it is
        table = ClosingTable(
            Policy.of("policy", self.learner.average, self.plan.radius),
            Conditions(**env.model_dump(exclude={"scenario", "task", "reward", *in_training})),
            range(1, self.settings.run.eval_seeds + 1),
            on_wait=stop.raise_if_requested,
        )
        about = {"decisions": self.progress.decisions, **env.model_dump(exclude=in_training)}
        try:
            table.fill(self.places)
            table.write(self.folder, about)
        except StopRequestedError:
            again = f"--controller fixed --controller {self.folder}"
            print(f"stopped before it was done: python evaluate.py --scenario {self.places[0].name} {again} does it")

    def close(self) -> None:
        """End everything that this run has started."""
        self._parts.close()


def check_shares(settings: Settings, world: World) -> None:
    """See that every scenario has a simulation; raises ``SettingsError``."""
    scenarios, envs = len(names_in(settings.env.scenario)), settings.collection.num_envs
    if scenarios > envs * world.size:
        least = -(-scenarios // world.size)
        raise SettingsError(
            f"--num-envs {envs}: must be at least {least}, so that each of {scenarios} scenarios has a simulation"
        )


def make_learner(settings: LearnerSettings, world: World, shape: PolicyShape, maps: Sequence[str]) -> Learner:
    """A policy with fresh weights, and what teaches it."""
    loss = LossSettings(
        discount=settings.discount,
        value=settings.value_weight,
        exploration=settings.exploration,
        rho_clip=settings.rho_clip,
        c_clip=settings.c_clip,
        trace=settings.trace,
        ratio_clip=settings.ratio_clip,
    )
    return Learner(
        SignalPolicy(shape),
        world,
        loss,
        learning_rate=settings.learning_rate,
        gradient_clip=settings.gradient_clip,
        amp=settings.amp,
        max_lag=settings.max_lag,
        reuse=settings.reuse,
        replay=settings.replay,
        averaging=settings.averaging,
        maps=maps,
    )


def agree_on_folder(settings: RunSettings, world: World) -> tuple[Path, bool]:
    """The run's folder, the same on all ranks, and whether it was not there before."""
    named = settings.run_dir or Path("runs") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(world.gather(str(named))[0])
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--run-dir {folder}: cannot be a folder for the run ({error.strerror})") from error
    return folder, is_new


def remove_if_empty(folder: Path) -> None:
    """A run that comes to nothing leaves no folder."""
    with suppress(OSError):
        folder.rmdir()


def claim_folder(settings: RunSettings, folder: Path) -> int:
    """Make the run's folder ours alone; returns the lock, a descriptor."""
    lock = lock_run_folder(folder)
    if not settings.resume and (folder / "config.yaml").exists():
        os.close(lock)
        raise SettingsError(
            f"--run-dir {folder}: holds another run; add --resume to go on with it, or name a new folder"
        )
    return lock


def as_recipe(settings: Settings) -> Settings:
    """The settings without the folder they were used in, so that ``--config`` can begin another run with them."""
    return settings.model_copy(update={"run": settings.run.model_copy(update={"run_dir": None, "resume": False})})


def num_collectors(settings: Settings, world: World) -> int:
    """Collector processes that this rank may have: as asked for, or as many as there are cores for it."""
    collection = settings.collection
    if collection.num_collectors == 0:
        return 0
    if settings.env.backend == "libsumo":
        return collection.capacity
    return collection.num_collectors or max(1, min(collection.capacity, cores() // world.local_size))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    stop.retire()  # what is left is Python's own end, which a signal must not turn into a failure
    gc.freeze()  # else it would look through all of torch for garbage first, a second and more
    end_process(code)
