"""The rival's own process: which traffic it trains on, when its model is kept, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.sumorl import environment
from collectors.episodes import run_episode
from collectors.plan import RESERVED_SEEDS
from envs.controllers import CLASSICAL, MaxPressure
from envs.errors import ScenarioError
from envs.session import Session
from envs.signals import Frame, SignalControl
from pages import ROOT
from results import rival
from results.protocol import CONDITIONS, seeds
from tests.support.plans import single

# What sumo-rl reads from the environment while it is imported stays out of this process.
FRESH = """
import gymnasium
from results.ppo_run import FreshTraffic
class Env(gymnasium.Env):
    def reset(self, *, seed=None, options=None):
        print(seed)
        return 0, {}
for number in range(2):
    env = FreshTraffic(Env(), [1, number], 65536)
    for seed in (1, None, None):
        env.reset(seed=seed)
"""
OURS = """
import sys
import results.ppo_run
rooms = {"buffers", "collectors", "envs", "graph", "learner", "numba"}
print(sorted(rooms & {name.split(".")[0] for name in sys.modules}))
"""
MOMENTS = """
import sys, time
from pathlib import Path
from results import ppo_run
class Model:
    num_timesteps = 0
    def get_env(self): return None
    def save(self, path): Path(path).touch()
now = 1000.0
ppo_run.time.time = lambda: now
snapshots = ppo_run.Snapshots([60.0, 30.0], 1000.0, Path(sys.argv[1]))
snapshots.model = Model()
for now, steps in ((1029.0, 10), (1031.0, 20), (1059.9, 30), (1075.0, 40)):
    snapshots.num_timesteps = steps
    print(snapshots._on_step(), [(one["moment"], one["decisions"]) for one in snapshots.kept])
"""

# Their court, with a policy that follows a plan instead of a network.
JUDGE = """
import json, sys
from itertools import count
from pathlib import Path
from results import ppo_run
class Plan:
    def __init__(self): self.begin()
    def begin(self): self.steps = count()
    def predict(self, observation, deterministic): return next(self.steps) // 3 % 4, None
plan = Plan()
ppo_run.PPO.load = lambda *_, **__: plan
spec = json.loads(Path(sys.argv[1]).read_text())
for trial in spec["trials"]:
    plan.begin()
    ppo_run.judge({**spec, "trials": [trial]})
"""


class Planned(MaxPressure):
    """The same plan in our court."""

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        session.install(task.programs)
        self._steps = count()

    def act(self, frame: Frame) -> NDArray[np.int64]:
        return np.array([next(self._steps) // 3 % 4])


def python(code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment("libsumo"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_episode_has_traffic_that_nobody_is_judged_by() -> None:
    seeds = list(map(int, python(FRESH)))
    assert len(seeds) == len(set(seeds)) == 6
    assert min(seeds) >= RESERVED_SEEDS


def test_nothing_of_ours_is_imported_while_their_clock_runs() -> None:
    assert python(OURS) == ["[]"]


def test_a_model_is_kept_as_soon_as_its_moment_has_come(tmp_path: Path) -> None:
    assert python(MOMENTS, str(tmp_path)) == [
        "True []",
        "True [(30.0, 20)]",
        "True [(30.0, 20)]",
        "False [(30.0, 20), (60.0, 40)]",
    ]


def test_both_are_judged_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same choices, hour, yellow, options and seeds: the same delays."""
    monkeypatch.setitem(CLASSICAL, "planned", Planned)
    place = single()
    own = [run_episode(*place, "planned", seed, CONDITIONS) for seed in seeds(2)]

    class Judge:
        def __init__(self, what: str, spec: dict[str, Any], place: Path) -> None:
            self._path = place.with_suffix(".json")
            self._path.write_text(json.dumps(spec))

        def answer(self, within: float) -> None:
            python(JUDGE, str(self._path))

        def kill(self) -> None:
            pass

    monkeypatch.setattr(rival, "_Process", Judge)
    spec = rival.environment_of(place.scenario, rival.VARIANTS["defaults"])
    theirs = rival._judge({"env": spec, "model": ""}, tmp_path, seeds(2))
    delays = [(trips.delay[trips.departed].mean(), trips.delay.mean()) for trips in theirs]
    assert delays == [pytest.approx((episode.delay, episode.full_delay), rel=1e-3) for episode in own]


def test_more_than_one_signal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> Any:
        raise AssertionError("trained before it was looked at")

    monkeypatch.setattr("results.learning.measure", nothing)
    with pytest.raises(ScenarioError, match=r"arterial: has . signals, must have one"):
        rival.measure(rival.Settings(network="arterial"))
