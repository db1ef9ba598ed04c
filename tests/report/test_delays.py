"""Pictures of episodes show what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from report import delays
from tests.report.trials import FIXED, POLICY, TRIALS, Trial, inked


def test_the_comparison_puts_each_mean_where_it_belongs(tmp_path: Path) -> None:
    path = tmp_path / "comparison.png"
    delays.comparison(path, TRIALS, title="Delay on single")
    blue = inked(path)
    rows = np.flatnonzero(blue.any(axis=1))
    split = rows[np.argmax(np.diff(rows))]
    first, second = (np.flatnonzero(part.any(axis=0)).mean() for part in (blue[: split + 1], blue[split + 1 :]))
    assert first > second, "fixed-time is above and waits longer"
    delays.comparison(tmp_path / "single.png", FIXED[:1])


def test_delay_over_time_draws_each_controller_where_it_has_vehicles(tmp_path: Path) -> None:
    path = tmp_path / "course.png"
    delays.over_time(path, TRIALS, 300.0, title="Delay over time")
    lines = {}
    for colour in ("blue", "orange"):
        ink = inked(path, colour)
        columns = np.flatnonzero(ink.any(axis=0))
        lines[colour] = ink[:, columns[0] : columns[np.diff(columns, append=9999) > 5][0]]  # without the legend
    heights = {name: np.flatnonzero(line.any(axis=1)).mean() for name, line in lines.items()}
    assert heights["blue"] < heights["orange"], "fixed-time is above"
    widths = {name: line.shape[1] for name, line in lines.items()}
    assert widths["blue"] > 1.8 * widths["orange"], "the policy has vehicles in two bins, fixed-time in three"


def test_one_seed_and_gaps_are_drawn_too(tmp_path: Path) -> None:
    delays.over_time(tmp_path / "one.png", [Trial("fixed", 1, 9.0, course=(3.0, None, 5.0))], 300.0)
    assert inked(tmp_path / "one.png").any()


def test_the_busiest_moment_is_that_of_the_first_controller() -> None:
    assert delays.busiest_moment(TRIALS, 300.0) == 600.0
    early = [Trial("a", 1, 9.0, course=(3.0, 1.0, None)), Trial("a", 2, 9.0, course=(1.0, 2.0, None))]
    assert delays.busiest_moment([*early, *POLICY], 300.0) == 0.0
