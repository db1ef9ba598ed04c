"""Memory that runs out: where a test says so, and for real.

``python -m tests.learner.shortage NEED SHARE FILE`` makes three steps in a process that may have only this share of the
bytes that they need, writes the weights to a file, and prints what it has seen; with a share of 0 it measures the need.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graph.acting import stack
from graph.batch import Batch, make_batch
from graph.build import build
from graph.graphs import Graphs
from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from graph.tensors import GraphTensors
from graph.topology import Topology
from learner.update import Learner
from tests.graph.examples import make_decision, make_frames, write_fragment
from tests.learner.examples import ALONE, LOSS, NETWORK

FRAGMENTS = 8
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to")


@contextlib.contextmanager
def failing(policy: SignalPolicy, where: str, calls: Collection[int], error: Exception = CPU) -> Iterator[None]:
    """Raise in these calls, counted from 1: in the ``"forward"`` with gradients, or near the end of ``"backward"``."""
    seen = {"forward": 0, "backward": 0}
    forward = policy.forward

    def count(name: str) -> None:
        seen[name] += 1
        if name == where and seen[name] in calls:
            raise error

    def counted(graph: GraphTensors) -> tuple[Tensor, Tensor]:
        outputs = forward(graph)
        if torch.is_grad_enabled():
            count("forward")
        return outputs

    policy.forward = counted  # type: ignore[method-assign]
    hook = policy.vehicle.weight.register_hook(lambda gradient: count("backward"))
    try:
        yield
    finally:
        hook.remove()
        del policy.forward


def large_batch(seed: int) -> Batch:
    """Fragments with hundreds of vehicles in every frame."""
    generator = np.random.default_rng(seed)
    fragments, graphs = [], []
    for env in range(FRAGMENTS):
        frames = make_frames(seed + env, NETWORK, [400] * 5)
        decisions = [make_decision(generator, NETWORK, frame) for frame in frames[:-1]]
        fragments.append(write_fragment(NETWORK, frames, decisions, env=env))
        graphs.append(build(stack(frames), Topology.of(NETWORK), 0.0))
    return make_batch(fragments, Graphs.join(graphs), [0] * FRAGMENTS, 1, [0] * FRAGMENTS)


def memory(name: str) -> int:
    """VmSize or VmPeak of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(need: int, share: float, path: str) -> None:
    """Three steps, with ``share`` of the ``need`` in bytes beyond what there is before; 0: with all there is."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy = SignalPolicy(PolicyShape(hidden=256))
    learner = Learner(policy, ALONE, LOSS, learning_rate=1e-3, gradient_clip=1.0)
    batches = [large_batch(100 * step) for step in range(3)]
    before = memory("VmSize")
    if share:
        limit = before + int(share * need)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    parts = [learner.update([batch])["parts"] for batch in batches]
    np.save(path, learner.flat_weights())
    print(json.dumps({"parts": parts, "need": memory("VmPeak") - before}))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
