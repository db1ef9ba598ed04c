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

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import config
from buffers import SharedMemoryError, Slots, WeightsChannel
from buffers.children import cores, end_helpers
from collectors.control import ControlServer, lock_run_folder
from collectors.errors import CollectorError, EvaluationError, RunInUseError
from collectors.evaluation import Conditions, Policy, evaluate
from collectors.plan import CollectionPlan
from collectors.pool import Pool
from collectors.processes import ProcessPool
from collectors.serial import SerialPool
from collectors.wire import socket_name
from config import LearnerSettings, RunSettings, Settings, SettingsError
from envs import ScenarioError, SumoError, SumoMissingError, find, probe
from graph import ExperienceDataset, PolicyShape, SignalPolicy, Topology, make_loader
from learner import checkpoints, metrics, report
from learner.display import Display, Target
from learner.errors import CheckpointError, DivergedError, LearnerError
from learner.losses import LossWeights
from learner.progress import Progress
from learner.steps import agreed_steps
from learner.update import Learner
from learner.world import World, join_world

_METRICS_EVERY = 1.0  # s between two rows of metrics
_PATIENCE = 0.5  # s without experience until the learner looks after other things
_WRONG = (SettingsError, ScenarioError, SumoMissingError, RunInUseError, SharedMemoryError, LearnerError)


def main(argv: Sequence[str]) -> int:
    """One run, from its settings to its exit code."""
    try:
        settings = config.load(argv)
        limit = 2 * settings.collection.stall_limit  # s that a rank may be waited for
        with (
            closing(join_world(os.environ, settings.learner.device, limit)) as world,
            closing(Run(settings, world)) as this_run,
        ):
            this_run.train()
            this_run.report()
        return 0
    except _WRONG as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (CollectorError, EvaluationError, SumoError, DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


class Run:
    """The parts of a run, wired in the order in which an observation passes through them."""

    def __init__(self, settings: Settings, world: World) -> None:
        self.settings = settings
        self.world = world
        torch.manual_seed(settings.run.seed)
        self.collectors = num_collectors(settings, world)
        torch.set_num_threads(max(1, cores() // world.size - self.collectors))
        self.scenario = find(settings.env.scenario)
        self.network = probe(self.scenario)
        self.shape = PolicyShape(history=settings.graph.history, **settings.policy.model_dump())
        self.learner = make_learner(settings.learner, world, self.shape)
        self.folder = agree_on_folder(settings.run, world)
        with ExitStack() as parts:  # ends those that are there when one cannot be made
            if world.is_first:
                parts.callback(os.close, claim_folder(settings.run, self.folder))
            self.progress = Progress()
            if settings.run.resume:
                self._restore()
            self.plan = self._plan()
            self.slots = parts.enter_context(closing(self._slots()))
            self.weights = parts.enter_context(closing(WeightsChannel(len(self.learner.flat_weights()))))
            self.weights.publish(self.learner.flat_weights(), self.learner.version)
            self.pool = parts.enter_context(closing(self._pool()))
            self.dataset = self._dataset()
            self.control = parts.enter_context(ControlServer(self.folder, socket_name(world.rank), self._commands()))
            self.display = Display(
                Target(settings.run.total_decisions, settings.run.time_limit), Console(quiet=not world.is_first)
            )
            self.metrics: metrics.MetricsWriter | None = None
            if world.is_first:
                self.metrics = parts.enter_context(metrics.MetricsWriter(self.folder, settings.run.resume))
                (self.folder / "config.yaml").write_text(config.to_yaml(as_recipe(settings)), encoding="utf-8")
            self._parts = parts.pop_all()
        self._written_at = self._saved_at = time.monotonic()

    def _plan(self) -> CollectionPlan:
        """What collectors are told."""
        env, collection = self.settings.env, self.settings.collection
        return CollectionPlan(
            scenario=self.scenario,
            network=self.network,
            backend=env.backend,
            simulation=env.model_dump(exclude={"scenario", "task", "backend"}),
            fragment_length=collection.fragment_length,
            slot_vehicles=collection.slot_vehicles,
            shape=self.shape,
            radius=self.settings.graph.radius if self.shape.vehicle_rounds else 0.0,
            seed=self.settings.run.seed,
            first_env=self.world.rank,
            env_stride=self.world.size,
            first_episode=self.progress.first_episode,
        )

    def _slots(self) -> Slots:
        """Shared memory for fragments: as many slots per env as it may have unread fragments."""
        envs, queue = self.settings.collection.num_envs, self.settings.collection.queue_size
        readers = max(1, self.settings.graph.loader_workers)
        return Slots(self.plan.layout(), envs, slots_per_env=-(-queue // envs), readers=readers)

    def _pool(self) -> Pool:
        """Collectors in processes of their own, or in this one."""
        if self.collectors == 0:
            return SerialPool(self.plan, self.slots, self.weights)
        limit = self.settings.collection.stall_limit
        return ProcessPool(self.plan, self.collectors, self.slots, self.weights, stall_limit=limit)

    def _dataset(self) -> ExperienceDataset:
        """Fragments in, batches of graphs out."""
        graph = self.settings.graph
        return ExperienceDataset(
            self.slots,
            Topology.of(self.network),
            batch_fragments=self.settings.learner.batch_fragments,
            radius=self.plan.radius,
            history=graph.history,
            cache_frames=graph.cache_frames,
            patience=_PATIENCE,
            work=self.pool.work,
        )

    def train(self) -> None:
        """Learn from what the collectors bring until a limit is reached or somebody asks for a stop."""
        with self.display:
            self.display.message(self._headline())
            if not stop.requested:
                self.pool.start()
            self.progress.begin()
            on_cuda = self.world.device.type == "cuda"
            batches = iter(make_loader(self.dataset, self.settings.graph.loader_workers, pin_memory=on_cuda))
            accumulate = self.settings.learner.accumulate
            for batches_of_step in agreed_steps(batches, self.world, self.progress, accumulate, self._finished):
                self.pool.check()
                if batches_of_step:
                    self.progress.updated(self.learner.update(batches_of_step))
                    self.weights.publish(self.learner.flat_weights(), self.learner.version)
                self._look_after()
            self._save()  # before anything is printed: the terminal may be gone
            self._look_after(state="stopping")
            self._say_digests()

    def _finished(self) -> bool:
        """Whether this rank wants to stop."""
        limits = self.settings.run
        enough = limits.total_decisions is not None and self.progress.decisions >= limits.total_decisions
        late = limits.time_limit is not None and self.progress.elapsed >= limits.time_limit
        return stop.requested or enough or late

    def _look_after(self, state: str | None = None) -> None:
        """Show and write down how it goes, and save it from time to time."""
        status = self.pool.status()
        self.progress.tick(paused=status["state"] == "paused")
        if self.metrics is None:
            return  # another rank does the rest
        values = self.progress.values(status)
        self.display.update({**values, "state": state or status["state"]})
        now = time.monotonic()
        if state is not None or now - self._written_at >= _METRICS_EVERY:
            self._written_at = now
            self.metrics.write(self.progress.decisions, values)
        if now - self._saved_at >= self.settings.run.checkpoint_every:
            try:
                self._save()
            except CheckpointError as error:  # a full disk may have room again next time
                self.display.message(f"training goes on without a checkpoint: {error}")

    def _save(self) -> None:
        """Write a checkpoint."""
        self._saved_at = time.monotonic()
        if self.world.is_first:
            checkpoints.save(
                self.folder / "checkpoints", self.progress.decisions, self._state(), self.settings.run.keep_checkpoints
            )

    def _state(self) -> dict[str, Any]:
        """All that a resumed run goes on from, and all that acting with the policy needs."""
        env = self.settings.env
        return {
            **self.learner.state(),
            "shape": self.shape.as_dict(),
            "radius": self.plan.radius,
            "env": env.model_dump(exclude={"scenario", "task"}),
            "counters": self.progress.counters(),
            "seed": self.settings.run.seed,
            "random": torch.get_rng_state(),
        }

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
            flags = "--hidden, --vehicle-rounds, --phase-rounds and --history must be as they were"
            raise SettingsError(f"--resume: {path}: {error}; {flags}") from error
        self.progress = Progress(state["counters"])
        torch.set_rng_state(state["random"])

    def _commands(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """What can be asked of this run from another terminal."""

        def status(request: dict[str, Any]) -> dict[str, Any]:
            return {"rank": self.world.rank, **self.pool.status()}

        def pause(request: dict[str, Any]) -> dict[str, Any]:
            self.pool.pause(request.get("collectors"))
            return status(request)

        def resume(request: dict[str, Any]) -> dict[str, Any]:
            self.pool.resume(request.get("collectors"))
            return status(request)

        def end(request: dict[str, Any]) -> dict[str, Any]:
            stop.request()
            return status(request)

        return {"status": status, "pause": pause, "resume": resume, "stop": end}

    def _headline(self) -> str:
        """What is about to happen, for people."""
        network, collection = self.network, self.settings.collection
        lines = [
            f"{self.scenario.name}: {len(network.signals)} signals with {network.num_phases} green phases, "
            f"{network.road_lanes} lanes; {collection.num_envs} simulations over {self.settings.env.backend} in "
            f"{self.collectors or 'this'} process{'es' if self.collectors > 1 else ''}",
            f"run folder {self.folder}; from another terminal: python -m collectors status --run-dir {self.folder}",
        ]
        fixed = [f"{signal.id} ({signal.why_fixed})" for signal in network.fixed_signals]
        if fixed:
            lines.insert(1, f"{len(fixed)} signals run their own program: {', '.join(fixed[:5])}")
        return "\n".join(lines)

    def _say_digests(self) -> None:
        """Show that all ranks hold the same weights."""
        digests = self.world.gather(self.learner.digest())
        same = "the same on every rank" if len(set(digests)) == 1 else "DIFFERENT BETWEEN RANKS"
        self.display.message(f"weights after version {self.learner.version}: {', '.join(digests)} ({same})")

    def report(self) -> None:
        """Hold the policy against the network's own programs, on seeds that nobody was trained on."""
        seeds = range(1, self.settings.run.eval_seeds + 1)
        self.pool.close()  # its cores are needed now
        if not self.world.is_first or not seeds or stop.requested:
            return
        env = self.settings.env
        policy = Policy.of("policy", self.learner.policy, self.plan.radius)
        conditions = Conditions(**env.model_dump(exclude={"scenario", "task", "reward"}))
        print(f"evaluating the policy against the network's own programs, unseen seeds 1 to {len(seeds)} …", flush=True)
        try:
            episodes = evaluate(
                self.scenario, self.network, ["fixed", policy], seeds, conditions, on_wait=stop.raise_if_requested
            )
        except StopRequestedError:
            return
        about = {"scenario": self.scenario.name, "decisions": self.progress.decisions, **env.model_dump()}
        summary = report.as_dict(episodes, "fixed", **about)
        (self.folder / "report.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
        rows = metrics.read(self.folder / metrics.FILE_NAME)
        fixed = report.Summary.of(episode.delay for episode in episodes if episode.controller == "fixed")
        report.learning_curve(self.folder / "report.png", rows, fixed, title=f"{self.scenario.name}, run {self.folder}")
        report.show(episodes, Console(), "fixed", title=f"{self.scenario.name}, unseen seeds")
        print(f"learning curve: {self.folder / 'report.png'}; all figures: {self.folder / 'report.json'}")

    def close(self) -> None:
        """End everything that this run has started."""
        self._parts.close()
        end_helpers()


def make_learner(settings: LearnerSettings, world: World, shape: PolicyShape) -> Learner:
    """A policy with fresh weights, and what teaches it."""
    weights = LossWeights(
        discount=settings.discount,
        value=settings.value_weight,
        entropy=settings.entropy,
        rho_clip=settings.rho_clip,
        c_clip=settings.c_clip,
    )
    return Learner(
        SignalPolicy(shape),
        world,
        weights,
        learning_rate=settings.learning_rate,
        gradient_clip=settings.gradient_clip,
        amp=settings.amp,
        max_lag=settings.max_lag,
    )


def agree_on_folder(settings: RunSettings, world: World) -> Path:
    """The run's folder, the same on all ranks."""
    named = settings.run_dir or Path("runs") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(world.gather(str(named))[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--run-dir {folder}: cannot be a folder for the run ({error.strerror})") from error
    return folder


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
    """Collector processes of this rank: as asked for, or as many as there are cores for it."""
    collection = settings.collection
    if collection.num_collectors is not None:
        return collection.num_collectors
    if settings.env.backend == "libsumo":
        return collection.num_envs
    return min(collection.num_envs, max(1, cores() // world.size))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
