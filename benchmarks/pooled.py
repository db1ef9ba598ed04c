"""Collectors alone: this project's pool as a run has it, and a parent that only takes fragments and gives them back.

``python -m benchmarks.pooled --network N --envs 4`` prints one line of JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from benchmarks.acting import initial_weights
from benchmarks.contest import Sample, add_turn_flag, take_turns
from benchmarks.networks import extent
from benchmarks.usage import Meter
from buffers import Slots, WeightsChannel
from buffers.children import end_helpers
from collectors.places import Place
from collectors.plan import CollectionPlan
from collectors.processes import ProcessPool
from config import Settings
from envs import find, probe
from graph.shape import PolicyShape
from machine import cores
from pages.output import results_only

_PATIENCE = 0.02  # s that the parent waits for a fragment before it looks at the clock
_WARM_UP = 20  # decisions of each env before anything is measured
_SEED = 1


class Collectors:
    """A pool with the default settings of a run; ``weights`` is a run's checkpoint, none for an untrained policy."""

    def __init__(
        self, network: str, backend: str, interval: float, envs: int, seconds: float, weights: Path | None
    ) -> None:
        self._whole = envs * -(-int(seconds) // int(interval))  # decisions of one episode of every env
        defaults = Settings()
        scenario = find(network)
        shape = PolicyShape(history=defaults.graph.history, **defaults.policy.model_dump())
        plan = CollectionPlan(
            places=(Place(scenario, probe(scenario)),),
            backend=backend,
            simulation=defaults.env.model_dump(exclude={"scenario", "task", "backend"})
            | {"decision_interval": interval, "episode_seconds": seconds, "gridlock": "stays"},  # whole ones
            fragment_length=defaults.collection.fragment_length,
            shape=shape,
            radius=defaults.graph.radius,
            seed=_SEED,
        )
        with ExitStack() as parts:
            vector = initial_weights(shape, weights)
            slots_per_env = -(-defaults.collection.queue_size // envs)
            count = envs if backend == "libsumo" else min(envs, cores())  # as train_rl.py has it
            self._slots = parts.enter_context(closing(Slots(plan.layouts(), envs, slots_per_env, collectors=count)))
            channel = parts.enter_context(closing(WeightsChannel(len(vector))))
            channel.publish(vector, 1)
            self._pool = parts.enter_context(closing(ProcessPool(plan, self._slots, channel, envs)))
            self._views: dict[int, dict[str, NDArray[Any]]] = {}
            self._rows = self._frames = 0
            self._pool.start()
            while self._counted()[0] < _WARM_UP * envs:  # what is loaded on first use now is
                self._take_one()
            self._pool.pause()
            self._parts = parts.pop_all()

    def measure(self, wall: float, limit: float) -> Sample:
        """Collect whole episodes, so many that it takes ``wall`` s at least; cut at ``limit`` s.

        Resets are part of it, as they are of any collection.
        """
        self._rows = self._frames = 0
        self._pool.resume()
        meter = Meter()
        with meter:
            decisions, simulated = self._counted()
            goal = self._whole
            while (done := self._counted()[0] - decisions) < goal and meter.elapsed() < limit:
                self._take_one()
                if done >= goal and meter.elapsed() < wall:
                    goal += self._whole
            after = self._counted()
        self._pool.pause()
        self._pool.check()
        return {
            "wall": meter.total.wall,
            "cpu": meter.total.cpu,
            "decisions": int(after[0] - decisions),
            "simulated": float(after[1] - simulated),
            "vehicles": self._rows / max(self._frames, 1),
            "cut": bool(after[0] - decisions < goal),
        }

    def _counted(self) -> tuple[int, float]:
        """Decisions and simulated seconds so far."""
        rows = self._pool.board.rows
        return int(rows["decisions"].sum()), float(rows["seconds"].sum())

    def _take_one(self) -> None:
        """Take a fragment where one is ready, look how many vehicles are in it, and give it back."""
        announcement = self._slots.take(0, _PATIENCE)
        if announcement is None:
            return
        slot = announcement.slot
        if slot not in self._views:
            self._views[slot] = self._slots.views(slot)
        frames = int(self._views[slot]["head"]["length"][0]) + 1
        self._rows += int(self._views[slot]["offsets"][frames])
        self._frames += frames
        self._slots.release(slot)

    def close(self) -> None:
        """End all collectors."""
        self._parts.close()
        end_helpers()


def command(
    network: str,
    backend: str,
    interval: float,
    envs: int,
    seconds: float,
    wall: float,
    limit: float,
    weights: Path | None = None,
) -> list[str]:
    """The arguments of ``python -m`` that measure a pool."""
    numbers = {"--interval": interval, "--envs": envs, "--seconds": seconds, "--wall": wall, "--limit": limit}
    flags = [text for flag, number in numbers.items() for text in (flag, f"{number:g}")]
    flags += ["--weights", str(weights)] if weights is not None else []
    return ["benchmarks.pooled", "--network", network, "--backend", backend, *flags]


def main(argv: Sequence[str]) -> None:
    """Measure one pool."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pooled", description=__doc__)
    parser.add_argument("--network", default="resco:cologne8", help="a scenario's name (default: %(default)s)")
    parser.add_argument("--backend", choices=("traci", "libsumo"), default="traci")
    parser.add_argument("--interval", type=float, default=10.0, help="s between decisions (%(default)g)")
    parser.add_argument("--envs", type=int, default=4, help="simulations (%(default)d)")
    parser.add_argument("--seconds", type=float, help="simulated s of each episode (default: as the report has it)")
    parser.add_argument("--wall", type=float, default=2.0, help="s to measure at least (%(default)g)")
    parser.add_argument("--limit", type=float, default=60.0, help="s after which it is cut (%(default)g)")
    parser.add_argument("--weights", type=Path, help="checkpoint of the policy that acts (default: untrained)")
    add_turn_flag(parser)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    with results_only() as results:
        seconds = given.seconds or extent(given.network).scaling
        with closing(
            Collectors(given.network, given.backend, given.interval, given.envs, seconds, given.weights)
        ) as collectors:
            take_turns(results, lambda: collectors.measure(given.wall, given.limit), given.in_turn)


if __name__ == "__main__":
    main(sys.argv[1:])
