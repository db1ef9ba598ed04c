"""Films: one frame per instant, what moves moves, and files that others can play."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from envs.recording import GREEN, RED
from report import film
from tests.report.recordings import GROUND, A, D, drive_by, make_recording


def bluish(picture: Image.Image) -> np.ndarray:
    """Where a picture shows a vehicle that drives 10 m/s, bool [H, W]."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return np.abs(pixels - np.array(film._colour(10.0))).max(axis=-1) < 12


def middle(ink: np.ndarray) -> np.ndarray:
    return np.argwhere(ink).mean(axis=0)


def test_a_vehicle_moves_to_the_right_while_the_light_turns_green() -> None:
    pictures = list(film.frames([drive_by()]))
    assert len(pictures) == 32
    places = np.array([middle(bluish(picture)) for picture in pictures])
    steps = np.diff(places[:, 1])
    assert steps.min() > 0
    assert steps == pytest.approx(np.full(31, steps.mean()), rel=0.1), "it drives at one speed"
    assert np.ptp(places[:, 0]) < 2

    def lit(picture: Image.Image, light: int) -> int:
        pixels = np.asarray(picture).astype(int)
        return int((np.abs(pixels - np.array(film._LIGHTS[light])).max(axis=-1) < 12).sum())

    assert lit(pictures[0], RED) > lit(pictures[-1], RED) > 0, "one of two turns green"
    assert lit(pictures[-1], GREEN) > lit(pictures[0], GREEN) > 0


def test_a_stop_line_lies_across_the_end_of_its_lane() -> None:
    lines = film.stop_lines(GROUND)
    (first, links), (second, _), _ = lines
    assert links == [0]
    assert first[:, 0].tolist() == [100.0, 100.0]
    assert np.ptp(first[:, 1]) == pytest.approx(3.2)
    assert second[:, 1].tolist() == [-10.0, -10.0], "of the lane that comes from below"


def test_recordings_are_side_by_side_and_as_long_as_the_shortest() -> None:
    pictures = list(film.frames([drive_by(), make_recording([[(0, D, 50.0, 10.0)], [(0, A, 50.0, 10.0)]])]))
    assert len(pictures) == 2
    assert len({picture.size for picture in pictures}) == 1
    left, right = np.array_split(bluish(pictures[0]), 2, axis=1)
    assert left.any()
    assert right.any()
    assert middle(right)[0] > middle(left)[0], "north is up"


@pytest.mark.parametrize("controllers", [1, 2, 3])
def test_a_gif_holds_every_frame_at_its_pace(tmp_path: Path, controllers: int) -> None:
    path = tmp_path / "film.gif"
    film.write(path, [drive_by() for _ in range(controllers)])
    with Image.open(path) as opened:
        assert opened.n_frames == 32  # type: ignore[attr-defined]
        assert opened.info["duration"] == 100
        opened.seek(31)
        last = middle(bluish(opened))
        opened.seek(0)
        assert last[1] > middle(bluish(opened))[1]
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("controllers", [1, 3])
def test_an_mp4_can_be_played(tmp_path: Path, controllers: int) -> None:
    path = tmp_path / "film.mp4"
    film.write(path, [drive_by() for _ in range(controllers)])
    about, *raw = imageio_ffmpeg.read_frames(str(path))
    assert len(raw) == 32
    assert about["fps"] == 20.0
    assert about["codec"] == "h264"
    width, height = about["size"]
    first = np.frombuffer(raw[0], np.uint8).reshape(height, width, 3)
    expected = np.asarray(next(film.frames([drive_by() for _ in range(controllers)])))
    assert np.abs(first.astype(int) - expected).mean() < 6


def test_another_suffix_and_a_place_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
        film.write(tmp_path / "film.avi", [drive_by()])
    for suffix in film.FRAMES_PER_SECOND:
        with pytest.raises(OSError, match="nowhere"):
            film.write(tmp_path / "nowhere" / f"film{suffix}", [drive_by()])
