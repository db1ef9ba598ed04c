"""The space–time diagram: pieces of vehicles' ways, and lights in the right colours at the right height."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from report.chains import busiest_chain
from report.space_time import space_time, tracks
from tests.report.recordings import B, C, D, drive_by, make_recording


def test_a_vehicle_is_a_line_from_instant_to_instant() -> None:
    recording = drive_by()
    pieces, speed = tracks(busiest_chain(recording), recording)
    assert pieces.shape == (31, 2, 2)
    assert pieces[:, 0, 0].tolist() == list(range(31))
    assert pieces[:, :, 1] == pytest.approx(np.stack([10.0 * np.arange(31), 10.0 * np.arange(1, 32)], axis=1))
    assert speed.tolist() == [10.0] * 31


def test_vehicles_are_not_joined_with_others_nor_over_gaps() -> None:
    recording = make_recording(
        [
            [(0, B, 10.0, 5.0), (1, B, 50.0, 7.0)],
            [(1, B, 57.0, 7.0), (0, B, 15.0, 5.0)],
            [(0, D, 1.0, 5.0)],  # 1 is gone for a moment, 0 is beside the chain
            [(0, B, 1.0, 5.0), (1, C, 3.0, 7.0)],
        ]
    )
    pieces, speed = tracks(busiest_chain(recording), recording)
    assert pieces.tolist() == [[[0.0, 120.0], [1.0, 125.0]], [[0.0, 160.0], [1.0, 167.0]]]
    assert speed.tolist() == [5.0, 7.0]


def coloured(path: Path, red: bool) -> np.ndarray:
    """Where a picture is as red or as green as a light, bool [H, W]; without the scale of colours on the right."""
    picture = imread(path)[..., :3]
    picture = picture[:, : picture.shape[1] * 4 // 5]
    wanted = np.array([0.84, 0.15, 0.16] if red else [0.17, 0.63, 0.17])
    return np.abs(picture - wanted).max(axis=-1) < 0.03


def test_a_light_is_red_and_then_green_at_its_height(tmp_path: Path) -> None:
    path = tmp_path / "diagram.png"
    space_time(path, [drive_by()], "The busiest way")
    red, green = coloured(path, red=True), coloured(path, red=False)
    rows, columns = np.nonzero(red)
    assert np.ptp(rows) < 15, "one bar is red"
    assert np.nonzero(green[rows.min() : rows.max() + 1])[1].min() > columns.max() - 5, "green comes after red"
    above = np.nonzero(green[: rows.min() - 20])[1]
    assert np.ptp(above) > 2.5 * np.ptp(columns), "the second light is green all the time"


def test_every_recording_has_a_panel(tmp_path: Path) -> None:
    path = tmp_path / "diagram.png"
    space_time(path, [drive_by(), drive_by("max-pressure"), drive_by("policy")])
    rows = np.flatnonzero(coloured(path, red=True).any(axis=1))
    assert (np.diff(rows) > 50).sum() == 2


def test_without_a_route_through_signals_there_is_no_diagram(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no vehicle's route"):
        space_time(tmp_path / "diagram.png", [make_recording([[]], routes=())])
