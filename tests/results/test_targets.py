"""What was aimed at, held against rows that somebody made up."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.targets import Judgement
from results.targets import judge


def snapshot(network: str, delay: float, moment: float | None = None, seed: int = 1, gridlocked: int = 0) -> Any:
    figures = {"n": 20, "mean": delay, "median": delay, "low": delay, "high": delay}
    return {"network": f"resco:{network}", "seed": seed, "moment": moment, "delay": figures, "gridlocked": gridlocked}


def yardstick(network: str, controller: str, delay: float, median: float | None = None) -> Any:
    figures = {"n": 20, "mean": delay, "median": median or delay}
    return {"network": f"resco:{network}", "controller": controller, "delay": figures}


def verdicts(**found: Any) -> dict[str, Judgement]:
    return {one.about: one for one in judge(found)}


def test_without_anything_nothing_is_met_or_missed() -> None:
    found = verdicts()
    assert found
    assert all(one.met is None for one in found.values())


@pytest.mark.parametrize(("worst", "met"), [(17.6, True), (17.7, False)])
def test_the_worst_training_run_is_held_against_the_median(worst: float, met: bool) -> None:
    delays = (15.9, 16.0, 16.0, 16.1, worst)
    rows = [snapshot("cologne1", delay, seed=seed) for seed, delay in enumerate(delays, 1)]
    found = verdicts(cologne1={"rows": rows})
    assert found["cologne1, worst of 5 training runs"].met is met
    assert found["cologne1, last checkpoint, median of training runs"].value == 16.0


def test_a_single_gridlocked_episode_of_any_run_is_a_miss() -> None:
    rows = [snapshot("cologne1", 16.0, seed=seed, gridlocked=int(seed == 3)) for seed in (1, 2, 3)]
    found = verdicts(cologne1={"rows": rows})
    assert found["cologne1, last checkpoints, gridlocked episodes"].met is False


def test_moments_are_not_the_last_checkpoint() -> None:
    rows = [snapshot("cologne1", 19.0, 60.0), snapshot("cologne1", 17.5, 300.0), snapshot("cologne1", 16.0)]
    found = verdicts(cologne1={"rows": rows})
    assert found["cologne1, 60 s after the start, median of training runs"].met is True
    assert found["cologne1, 300 s after the start, median of training runs"].met is False
    assert found["cologne1, last checkpoint, median of training runs"].met is True


@pytest.mark.parametrize(
    ("delay", "all_met", "fixed_met"), [(27.0, True, True), (30.0, False, True), (46.0, False, False)]
)
def test_ingolstadt_must_be_better_than_the_best_controller(delay: float, all_met: bool, fixed_met: bool) -> None:
    yardsticks = [yardstick("ingolstadt21", "fixed", 100.0), yardstick("ingolstadt21", "max-wave", 30.0)]
    found = verdicts(yardsticks={"rows": yardsticks}, ingolstadt21={"rows": [snapshot("ingolstadt21", delay, 2700.0)]})
    assert found["ingolstadt21, within 45 minutes, against every classical controller"].met is all_met
    assert found["ingolstadt21, within 45 minutes, 0.45 times fixed time"].met is fixed_met


def test_transfer_is_held_against_the_median() -> None:
    yardsticks = [yardstick("cologne8", "max-pressure", 80.0, median=25.0)]
    rows = [snapshot("cologne8", 26.0), snapshot("cologne1", 16.0)]
    found = verdicts(yardsticks={"rows": yardsticks}, transfer={"rows": rows})
    assert found["cologne8 unseen, trained on cologne1 and grid4x4, against max-pressure's median"].met is False


def test_the_best_variant_of_the_rival_counts() -> None:
    own = [snapshot("cologne1", 18.0, 60.0)]
    theirs = [snapshot("cologne1", 25.0, 60.0), snapshot("cologne1", 17.0, 60.0)]
    found = verdicts(rival={"own": own, "theirs": theirs})
    (side,) = [one for about, one in found.items() if "sumo-rl with PPO" in about]
    assert (side.goal, side.met) == (17.0, False)
