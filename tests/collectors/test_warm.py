"""What the forkserver compiles beforehand is what a collector needs: nothing is compiled twice, for other types."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from buffers import Fragment
from collectors import warm
from envs import codec, signals
from graph import ExperienceDataset, Topology, inference
from tests.support.plans import Rig, make_plan

KERNELS = {
    "decode": codec._decode,
    "sum by signal": signals._sum_by_signal,
    "since": signals._since,
    "to command": signals._to_command,
    "build": sys.modules["graph.build"]._build,  # the package has a function of the module's name
    "log probs": inference._log_probs,
    "choose": inference.choose,
}


def signatures() -> dict[str, int]:
    return {name: len(kernel.signatures) for name, kernel in KERNELS.items()}


@pytest.mark.parametrize("num_envs", [1, 2])
def test_collecting_and_learning_compile_nothing_else(num_envs: int) -> None:
    warm.warm_up()
    before = signatures()
    assert all(before.values())
    with Rig(make_plan(), num_envs=num_envs) as rig:
        found: list[Fragment] = []
        while len(found) < 4:
            rig.collector.round()
            found += rig.read()
        dataset = ExperienceDataset(rig.slots, Topology.of(rig.plan.network), batch_fragments=2, radius=50.0)
        assert np.isfinite(dataset.batch(found[:2]).rewards.numpy()).all()
    assert signatures() == before
