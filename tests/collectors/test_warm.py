"""What the forkserver compiles beforehand is what a collector needs: nothing is compiled twice, for other types."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In an interpreter of its own: what other tests have compiled would count as well.
PROGRAM = """
import sys
from collectors import warm
from envs import codec, signals
from graph import ExperienceDataset, Topology, inference
from tests.support.plans import Rig, make_plan

build = sys.modules["graph.build"]  # the package has a function of the module's name
kernels = [
    codec._decode, codec._fill, signals._sum_by_signal, signals._since, signals._to_command,
    signals._give_turns, signals._hold,
    build._build, inference._log_probs, inference.choose,
]
warm.warm_up()
before = [len(kernel.signatures) for kernel in kernels]
with Rig(make_plan(), num_envs=int(sys.argv[1])) as rig:
    found = []
    while len(found) < 4:
        rig.collector.round()
        found += rig.read()
    dataset = ExperienceDataset(rig.slots, [Topology.of(rig.plan.place(0).network)], batch_fragments=2, radius=50.0)
    dataset.batch(found[:2])
print(before, [len(kernel.signatures) for kernel in kernels])
"""


@pytest.mark.parametrize("num_envs", [1, 2])
def test_collecting_and_learning_compile_nothing_else(num_envs: int) -> None:
    command = [sys.executable, "-c", PROGRAM, str(num_envs)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"{[1] * 10} {[1] * 10}"


def test_torch_is_not_loaded_by_those_who_only_collect() -> None:
    program = "import collectors.preload, collectors.evaluation, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert (run.stdout.strip(), run.stderr) == ("False", "")
