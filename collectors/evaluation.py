"""Many episodes of several controllers, each in a process of its own, as many at once as there are cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collectors.episodes import Conditions, record_episode, run_episode
from collectors.measures import Episode
from collectors.policies import Policy, name_of
from collectors.side_by_side import run_all
from envs.network import Network
from envs.recording import Lens, Recording
from envs.scenarios import Scenario

__all__ = ["Conditions", "Episode", "Policy", "evaluate", "record"]


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
    _check_names(controllers)
    jobs = [_Job(scenario, network, c, seed, conditions) for c in controllers for seed in seeds]
    return run_all(jobs, processes=processes, timeout=timeout, on_result=on_episode, on_wait=on_wait)


def record(
    scenario: Scenario,
    network: Network | None,
    controllers: Sequence[str | Policy],
    seed: int,
    lens: Lens,
    conditions: Conditions = Conditions(),  # noqa: B008 - frozen
    *,
    processes: int | None = None,
    timeout: float = 600.0,
    on_recording: Callable[[Recording], None] | None = None,
) -> list[Recording]:
    """Record what every controller makes of one seed's traffic, as ``evaluate`` would run it; raises as that does."""
    _check_names(controllers)
    jobs = [_RecordingJob(_Job(scenario, network, c, seed, conditions), lens) for c in controllers]
    return run_all(jobs, processes=processes, timeout=timeout, on_result=on_recording)


def _check_names(controllers: Sequence[str | Policy]) -> None:
    names = list(map(name_of, controllers))
    if len(set(names)) < len(names):
        raise ValueError(f"controllers {', '.join(names)}: each must have a name of its own")


@dataclass(frozen=True, eq=False)
class _Job:
    """One episode to be measured."""

    scenario: Scenario
    network: Network | None
    controller: str | Policy
    seed: int
    conditions: Conditions

    def __str__(self) -> str:
        return f"{name_of(self.controller)} on scenario {self.scenario.name}, seed {self.seed}"

    def run(self) -> Episode:
        return run_episode(self.scenario, self.network, self.controller, self.seed, self.conditions)


@dataclass(frozen=True, eq=False)
class _RecordingJob:
    """One episode to be recorded."""

    episode: _Job
    lens: Lens

    def __str__(self) -> str:
        return str(self.episode)

    def run(self) -> Recording:
        one = self.episode
        return record_episode(one.scenario, one.network, one.controller, one.seed, one.conditions, self.lens)
