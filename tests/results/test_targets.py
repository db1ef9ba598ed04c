"""What was aimed at, held against rows that somebody made up."""

from __future__ import annotations

from typing import Any

import pytest

from pages.judgement import Judgement
from results import learning
from results.parts import PARTS
from results.reasons import REASONS, why
from results.targets import judge


def snapshot(network: str, delay: float, moment: float | None = None, seed: int = 1, gridlocked: int = 0) -> Any:
    figures = {"n": 20, "mean": delay, "median": delay, "low": delay, "high": delay}
    about = {"network": f"resco:{network}", "seed": seed, "moment": moment, "wall": moment or 1200.0}
    return {**about, "delay": figures, "gridlocked": gridlocked}


def yardstick(network: str, controller: str, delay: float, median: float | None = None) -> Any:
    figures = {"n": 20, "mean": delay, "median": median or delay}
    return {"network": f"resco:{network}", "controller": controller, "delay": figures}


def verdicts(**found: Any) -> dict[str, Judgement]:
    return {one.about: one for one in judge(found)}


def test_without_anything_nothing_is_met_or_missed() -> None:
    found = verdicts()
    assert len(found) > 15
    assert all(one.met is None for one in found.values())


def test_what_make_results_measures_leaves_no_target_open() -> None:
    """Parts and targets agree on networks, moments and numbers of runs."""
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        if isinstance(part.settings, learning.Settings):
            networks = part.settings.judged_on or part.settings.scenario.split(",")
            found[name] = {
                "rows": [
                    snapshot(network.removeprefix("resco:"), 20.0, moment, seed)
                    for network in networks
                    for seed in range(1, part.settings.runs + 1)
                    for moment in (*part.settings.moments, None)
                ]
            }
    yardsticks = PARTS["yardsticks"].settings
    found["yardsticks"] = {
        "rows": [
            yardstick(network.removeprefix("resco:"), controller, 20.0)
            for network in yardsticks.networks
            for controller in yardsticks.controllers
        ]
    }
    rival = PARTS["rival"].settings
    own, theirs = (
        [snapshot("cologne1", 20.0, moment, seed) for moment in rival.moments for seed in range(1, runs + 1)]
        for runs in (rival.own_runs, rival.their_runs)
    )
    found["rival"] = {
        "own": own,
        "theirs": [{**row, "variant": "defaults"} for row in theirs],
        "runs": {"own": rival.own_runs, "theirs": rival.their_runs},
    }
    open_targets = [one.about for one in judge(found) if one.met is None]
    assert not open_targets
    assert set(REASONS) <= {one.about for one in judge(found)}, "a reason for no target"


@pytest.mark.parametrize(("worst", "met"), [(17.6, True), (17.7, False)])
def test_the_worst_training_run_is_held_against_the_median(worst: float, met: bool) -> None:
    delays = (15.9, 16.0, 16.0, 16.1, worst)
    rows = [snapshot("cologne1", delay, seed=seed) for seed, delay in enumerate(delays, 1)]
    about = "cologne1, last checkpoint, the worst of 5 training runs, 1.1 times their median"
    found = verdicts(cologne1={"rows": rows})
    assert found[about].met is met
    assert found["cologne1, last checkpoint"].value == 16.0
    assert verdicts(cologne1={"rows": rows[:4]})[about].met is None, "four are not five"


def test_a_single_gridlocked_episode_of_any_run_is_a_miss() -> None:
    rows = [snapshot("cologne1", 16.0, seed=seed, gridlocked=int(seed == 3)) for seed in (1, 2, 3)]
    found = verdicts(cologne1={"rows": rows})
    assert found["cologne1, last checkpoint, gridlocked episodes"].met is False


def test_moments_are_not_the_last_checkpoint() -> None:
    rows = [snapshot("cologne1", 20.0, 60.0), snapshot("cologne1", 17.5, 300.0), snapshot("cologne1", 16.0)]
    found = verdicts(cologne1={"rows": rows})
    assert found["cologne1, 60 s after the start"].met is False, "20 is not below 20"
    assert found["cologne1, 5 minutes after the start"].met is False
    assert found["cologne1, last checkpoint"].met is True


def test_a_run_without_a_checkpoint_by_then_has_not_got_there() -> None:
    rows = [snapshot("cologne1", 16.0, seed=seed) for seed in (1, 2, 3)]
    early = [snapshot("cologne1", 19.0, 60.0)]
    found = verdicts(cologne1={"rows": [*rows, *early]})["cologne1, 60 s after the start"]
    assert (found.met, found.value_text) == (False, "no checkpoint")


def test_a_run_that_failed_has_not_got_anywhere() -> None:
    rows = [snapshot("cologne1", 16.0, moment, seed) for seed in (1, 2) for moment in (60.0, 300.0, None)]
    found = verdicts(cologne1={"rows": rows, "failed": ["out of memory"] * 3})
    assert {one.met for about, one in found.items() if one.value is not None} == {False}
    assert found["cologne1, last checkpoint"].value_text == "no checkpoint"
    assert found["cologne1, last checkpoint, gridlocked episodes"].value_text == "a run failed"
    most = verdicts(cologne1={"rows": rows, "failed": ["out of memory"]})
    assert most["cologne1, last checkpoint"].met is True, "two of three have got there"


def test_rows_of_another_network_do_not_count() -> None:
    rows = [{**snapshot("cologne1", 1.0), "network": "single"}]
    assert verdicts(cologne1={"rows": rows})["cologne1, last checkpoint"].met is None


@pytest.mark.parametrize(
    ("delay", "all_met", "fixed_met"), [(27.0, True, True), (30.0, False, True), (46.0, False, False)]
)
def test_ingolstadt_must_be_better_than_the_best_controller(delay: float, all_met: bool, fixed_met: bool) -> None:
    yardsticks = [yardstick("ingolstadt21", "fixed", 100.0), yardstick("ingolstadt21", "max-wave", 30.0)]
    rows = [snapshot("ingolstadt21", delay)]
    found = verdicts(yardsticks={"rows": yardsticks}, ingolstadt21={"rows": rows})
    assert found["ingolstadt21, last checkpoint, against every classical controller"].met is all_met
    assert found["ingolstadt21, last checkpoint, 0.45 times fixed time"].met is fixed_met


@pytest.mark.parametrize(("median", "goal"), [(25.0, 25.0), (40.0, 25.5)])
def test_transfer_is_held_against_the_median_of_the_better_max_pressure(median: float, goal: float) -> None:
    yardsticks = [yardstick("cologne8", "max-pressure", 80.0, median=median)]
    rows = [snapshot("cologne8", 26.0), snapshot("cologne1", 16.0)]
    found = verdicts(yardsticks={"rows": yardsticks}, transfer={"rows": rows})
    (transfer,) = [one for about, one in found.items() if "unseen" in about]
    assert (transfer.goal, transfer.met) == (goal, False)


def test_the_best_variant_of_the_rival_counts() -> None:
    own = [snapshot("cologne1", 18.0, 60.0)]
    theirs = [
        {**snapshot("cologne1", delay, 60.0, seed), "variant": variant}
        for variant, delays in (("a", (25.0, 25.0, 10.0)), ("b", (17.0, 17.0, 90.0)))
        for seed, delay in enumerate(delays)
    ]
    found = verdicts(rival={"own": own * 3, "theirs": theirs, "runs": {"own": 3, "theirs": 3}})
    side = found["cologne1, 60 s after the start, against the best of sumo-rl with PPO"]
    assert (side.goal, side.met) == (17.0, False), "the best median, not the best run"


def test_who_has_no_policy_yet_is_behind() -> None:
    theirs = [{**snapshot("cologne1", 100.0, 30.0), "variant": "a"}]
    found = verdicts(rival={"own": [], "theirs": theirs, "runs": {"own": 1, "theirs": 1}})
    assert found["cologne1, 30 s after the start, against the best of sumo-rl with PPO"].met is False


def test_a_reason_has_the_figures_of_those_who_missed() -> None:
    rows = [
        {"moment": None, "gridlocked": 2, "delays": [50.0, 60.0, 400.0]},
        {"moment": 60.0, "gridlocked": 3, "delays": [900.0, 900.0, 900.0]},
    ]
    words = why("ingolstadt21, last checkpoint, 0.45 times fixed time", {"ingolstadt21": {"rows": rows}})
    assert words == "the jams of 2 of its 3 episodes; the median episode has 60 s."
    assert why("cologne9, last checkpoint", {}) == "not looked into"
