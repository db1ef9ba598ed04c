"""Learning curves show what was learned, and the band of several runs lies where all of them are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from report.curves import _common, by_scenario, learning_curve, learning_curves
from report.statistics import Summary
from tests.report.trials import inked

Rows = list[dict[str, Any]]


def rows(first: int = 6, last: int = 60, worse: float = 0.0) -> Rows:
    return [
        {"step": n, "trained": 2.0 * n, "decisions": 90 * n, "delay": 40.0 + worse + 900.0 / n}
        for n in range(first, last)
    ]


def fixed(*delays: float) -> dict[str, Summary]:
    return {"single": Summary.of(delays)}


def panels(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left half and the right one, without the legend below both."""
    above = ink[: int(0.8 * len(ink))]
    return above[:, : above.shape[1] // 2], above[:, above.shape[1] // 2 :]


def test_the_learning_curve_falls_in_both_panels(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    unfinished: dict[str, Any] = {"step": 1, "trained": 1.0, "decisions": 9, "delay": None}
    learning_curve(path, [unfinished, {"step": 2, "trained": 2.0}, *rows()], fixed(90.0, 92.0), "Learning")
    for panel in panels(inked(path)):
        columns = np.flatnonzero(panel.any(axis=0))
        heights = [np.flatnonzero(panel[:, column]).mean() for column in columns]
        assert len(columns) > 200
        assert np.corrcoef(columns, heights)[0, 1] > 0.7, "pixels count from the top: the line must go down"


def test_a_run_without_an_ended_episode_has_a_picture_too(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    learning_curve(path, [], {})
    assert not inked(path).any()
    assert imread(path).min() < 0.5, "nothing is written in it"


def test_one_evaluation_of_the_baseline_is_a_line_without_a_band(tmp_path: Path) -> None:
    def pale(name: str, *delays: float) -> int:
        learning_curve(tmp_path / name, [], fixed(*delays))
        left = imread(tmp_path / name)[..., :3].max(axis=-1)
        return int(((left > 0.85) & (left < 0.95)).sum())

    assert pale("band.png", 80.0, 100.0) > 10 * pale("line.png", 90.0)
    assert (imread(tmp_path / "line.png")[..., :3].max(axis=-1) < 0.6).any()


def test_several_runs_are_a_mean_within_a_band(tmp_path: Path) -> None:
    narrow, wide = tmp_path / "narrow.png", tmp_path / "wide.png"
    learning_curves(narrow, {"a": [rows(), rows(worse=1.0)]}, {})
    learning_curves(wide, {"a": [rows(), rows(worse=60.0), rows(worse=30.0)]}, {})

    def pale(path: Path) -> int:
        red, _, blue = np.moveaxis(imread(path)[..., :3], -1, 0)
        return int(((blue - red > 0.05) & (red > 0.5)).sum())

    assert pale(wide) > 3 * pale(narrow)
    assert all(panel.any() for panel in panels(inked(wide)))


def test_two_groups_have_their_own_colours_and_a_group_that_has_not_ended_an_episode_has_none(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    learning_curves(path, {"a": [rows(), rows(worse=9.0)], "b": [rows(worse=20.0)], "c": [[], []]}, {})
    assert all(panel.any() for colour in ("blue", "orange") for panel in panels(inked(path, colour)))


def test_each_of_several_scenarios_has_a_curve_and_a_baseline_in_its_colour(tmp_path: Path) -> None:
    """The second one's curve lies above, and its baseline below, all that belongs to the first."""
    path = tmp_path / "curve.png"
    metrics = [{**row, "delay/a": row["delay"], "delay/b": row["delay"] + 300.0, "delay": None} for row in rows()]
    learning_curve(path, metrics, {"a": Summary.of([220.0]), "b": Summary.of([20.0])})
    blue, orange = (np.flatnonzero(panels(inked(path, colour))[0].any(axis=1)) for colour in ("blue", "orange"))
    assert orange.min() < blue.min()
    assert orange.max() > blue.max()


def test_a_scenario_of_which_no_episode_has_ended_has_its_baseline_alone(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    learning_curve(
        path, [{**row, "delay/a": row["delay"]} for row in rows()], {"a": Summary.of([90.0]), "b": Summary.of([60.0])}
    )
    assert inked(path, "orange").any()


@pytest.mark.parametrize(
    ("spans", "expected"),
    [([(1, 5), (2, 9)], (2, 5)), ([(1, 2), (3, 4)], None), ([], None), ([(3, 3), (1, 4)], (3, 3))],
)
def test_a_mean_is_drawn_where_all_curves_are(
    spans: list[tuple[float, float]], expected: tuple[float, float] | None
) -> None:
    across = _common([np.array([[first, 9.0], [last, 8.0]]) for first, last in spans])
    assert (tuple(across[[0, -1]]) if len(across) else None) == expected


def test_what_a_dead_run_had_learned_beyond_its_checkpoint_is_left_out(tmp_path: Path) -> None:
    resumed, straight = tmp_path / "resumed.png", tmp_path / "straight.png"
    learning_curve(resumed, [*rows(6, 40), *rows(30, 60)], {})
    learning_curve(straight, rows(6, 60), {})
    assert resumed.read_bytes() == straight.read_bytes()


def test_episodes_that_were_cut_are_shown_above_and_judged_policies_as_dots(tmp_path: Path) -> None:
    plain, cut, dots = (tmp_path / f"{name}.png" for name in ("plain", "cut", "dots"))
    fluent = [{**row, "gridlocked": 0.0} for row in rows()]
    learning_curves(plain, {"a": [fluent]}, {})
    learning_curves(cut, {"a": [[{**row, "gridlocked": 0.5} for row in fluent]]}, {})
    learning_curves(dots, {"a": [fluent]}, {}, judged={"a": [[{"trained": 60.0, "decisions": 2700, "delay": 300.0}]]})
    drawn = {path: panels(inked(path, "blue")) for path in (plain, cut, dots)}
    gaps = {path: np.diff(np.flatnonzero(left.any(axis=1))).max() for path, (left, _) in drawn.items()}
    assert gaps[cut] > 5 > gaps[plain], "a line in a panel of its own"
    highest = {path: left[left.any(axis=1)][0] for path, (left, _) in drawn.items()}  # row of pixels with ink
    at = {path: np.flatnonzero(row).mean() / len(row) for path, row in highest.items()}
    assert at[plain] < 0.3, "a curve begins at its highest"
    assert 0.4 < at[dots] < 0.7, "the dot, half-way through and above all of the curve"


def test_runs_on_several_scenarios_are_taken_apart() -> None:
    row = {"trained": 1.0, "decisions": 9, "delay": 40.0, "gridlocked": 0.5}
    found = by_scenario([[row], [row, {**row, "delay/x": 30.0, "delay/y": 50.0}]])
    assert [[[row["delay"] for row in rows] for rows in runs] for runs in found.values()] == [
        [[None], [None, 30.0]],
        [[None], [None, 50.0]],
    ]
    assert found.keys() == {"x", "y"}
    assert by_scenario([[row]]) == {}
