"""A policy that acts: graphs of live frames in, sampled phases out, on one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.signals import Frame
from graph.build import Frames, build
from graph.graphs import Graphs
from graph.history import history_rows
from graph.inference import ActingPolicy, choose
from graph.ragged import offsets_of
from graph.shape import PolicyShape
from graph.topology import Topology


def stack(frames: Sequence[Frame]) -> Frames:
    """Frames of one network as one table."""
    if len(frames) == 1:
        (frame,) = frames  # nothing need be copied
        return Frames(
            time=np.array([frame.time]),
            vehicles=frame.vehicles,
            lanes=frame.lanes,
            offsets=np.array([0, len(frame.lanes)]),
            shown=frame.shown[None],
            elapsed=frame.elapsed[None],
            allowed=frame.allowed[None],
        )
    return Frames(
        time=np.array([frame.time for frame in frames]),
        vehicles=np.concatenate([frame.vehicles for frame in frames]),
        lanes=np.concatenate([frame.lanes for frame in frames]),
        offsets=offsets_of([len(frame.lanes) for frame in frames]),
        shown=np.array([frame.shown for frame in frames]),
        elapsed=np.array([frame.elapsed for frame in frames]),
        allowed=np.array([frame.allowed for frame in frames]),
    )


_NO_HISTORY = np.empty((0, 0), np.int64)


class Actor:
    """Chooses phases for several envs of one network at once.

    With ``history`` > 1 it remembers the last graphs of each env; ``forget`` begins an episode. The old frames are
    read again at each decision with the present weights, just as the learner will read them. Actors of several networks
    may share a ``policy``, so that its weights are loaded once.
    """

    def __init__(
        self, topology: Topology, shape: PolicyShape, radius: float, policy: ActingPolicy | None = None
    ) -> None:
        self.policy = policy or ActingPolicy(shape)
        self._topology = topology
        self._radius = radius if shape.vehicle_rounds else 0.0
        self._history = shape.history
        self._past: dict[int, deque[Graphs]] = {}

    def forget(self, env: int) -> None:
        """An episode of this env begins."""
        self._past[env] = deque(maxlen=self._history - 1)

    def act(
        self, envs: Sequence[int], frames: Sequence[Frame], generators: Sequence[np.random.Generator] | None
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Phases and their log-probabilities, both [len(envs), S].

        Sampled with one generator per env; without generators the likeliest phase is chosen.
        """
        log_probs = self._log_probs(envs, frames)  # [len(envs), P]
        signals = self._topology.num_signals
        draws = np.empty((0, signals))
        if generators is not None:
            if len(generators) != len(envs):
                raise ValueError(f"{len(generators)} generators were given for {len(envs)} envs")
            draws = np.array([generator.random(signals) for generator in generators])
        return choose(log_probs, self._topology.phase_start, draws)

    def _log_probs(self, envs: Sequence[int], frames: Sequence[Frame]) -> NDArray[np.float32]:
        graphs = build(stack(frames), self._topology, self._radius)
        if self._history == 1:
            return self.policy.log_probs(graphs, _NO_HISTORY).reshape(len(envs), -1)
        graphs, earlier, present = self._with_past(envs, graphs)
        history = history_rows(graphs, self._history, earlier)
        return self.policy.log_probs(graphs, history).reshape(len(graphs), -1)[present]

    def _with_past(self, envs: Sequence[int], graphs: Graphs) -> tuple[Graphs, NDArray[np.int64], NDArray[np.int64]]:
        """The graphs with those before them, how many earlier frames each has, and where the present ones are."""
        parts: list[Graphs] = []
        earlier: list[int] = []
        present = []
        for row, env in enumerate(envs):
            past = self._past.setdefault(env, deque(maxlen=self._history - 1))
            now = graphs.take([row])
            parts += [*past, now]
            earlier += range(len(past) + 1)
            present.append(len(earlier) - 1)
            past.append(now)
        return Graphs.join(parts), np.array(earlier), np.array(present)


class Actors:
    """Chooses phases for envs of several networks, which are known by numbers, with one copy of the policy."""

    def __init__(self, topologies: Sequence[Topology], shape: PolicyShape, radius: float) -> None:
        self._policy = ActingPolicy(shape)
        self._actors = [Actor(topology, shape, radius, self._policy) for topology in topologies]

    def load(self, vector: NDArray[np.float32]) -> None:
        """Take over all parameters of a policy."""
        self._policy.load(vector)

    def forget(self, network: int, env: int) -> None:
        """An episode of this env begins."""
        self._actors[network].forget(env)

    def act(
        self,
        networks: Sequence[int],
        envs: Sequence[int],
        frames: Sequence[Frame],
        generators: Sequence[np.random.Generator],
    ) -> list[tuple[NDArray[np.int16], NDArray[np.float32]]]:
        """Phases of each env and their log-probabilities, both [S]; one forward pass for all of one network."""
        choices: dict[int, tuple[NDArray[np.int16], NDArray[np.float32]]] = {}
        for number in sorted(set(networks)):
            own = [row for row, network in enumerate(networks) if network == number]
            phases, log_probs = self._actors[number].act(
                [envs[row] for row in own], [frames[row] for row in own], [generators[row] for row in own]
            )
            choices |= zip(own, zip(phases, log_probs, strict=True), strict=True)
        return [choices[row] for row in range(len(envs))]
