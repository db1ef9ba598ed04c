"""A film of recordings: the network from above, every vehicle a dot coloured by its speed, without any screen."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs.network import is_road
from envs.recording import GREEN, RED, YELLOW, Ground, Recording
from report.figures import clock

FRAMES_PER_SECOND = {".gif": 10, ".mp4": 20}  # by the file's suffix

_WIDEST, _TALLEST = 1280, 720  # pixels of all panels together
_MARGIN, _HEADER = 12, 44  # pixels
_FINE = 2  # drawn so many times as large, and made smaller: smooth edges
_LANE, _VEHICLE, _STOP_LINE = 3.2, 4.0, 1.5  # m wide, across, thick
_FULL_SPEED = 50.0 / 3.6  # m/s: as fast as a colour can tell
_BACKGROUND, _ROAD, _TEXT = (24, 26, 31), (88, 91, 99), (235, 235, 235)
_LIGHTS = {RED: (230, 50, 47), YELLOW: (250, 200, 30), GREEN: (60, 190, 80)}
_SPEEDS = ((235, 64, 52), (250, 176, 40), (240, 230, 90), (130, 215, 120), (90, 200, 250))  # from standing to fast

Colour = tuple[int, int, int]


def write(path: Path, recordings: Sequence[Recording]) -> None:
    """Write a GIF or an MP4, as the suffix says: a frame per recorded instant, the recordings side by side.

    Raises ``ValueError`` for another suffix, ``OSError`` where it cannot be written.
    """
    if path.suffix not in FRAMES_PER_SECOND:
        raise ValueError(f"{path}: must end in {' or '.join(FRAMES_PER_SECOND)}")
    save = _save_gif if path.suffix == ".gif" else _save_mp4
    save(path, frames(recordings), FRAMES_PER_SECOND[path.suffix])


def frames(recordings: Sequence[Recording]) -> Iterator[Image.Image]:
    """The pictures of a film, all of one size, as many as the shortest recording has instants."""
    panels = [_Panel(recording, _WIDEST // len(recordings)) for recording in recordings]
    width, height = sum(panel.size[0] for panel in panels), max(panel.size[1] for panel in panels) + _HEADER
    width, height = width + width % 2, height + height % 2  # what MP4 asks for
    for instant in range(min(len(recording.times) for recording in recordings)):
        picture = Image.new("RGB", (width, height), _BACKGROUND)
        left = 0
        for panel in panels:
            picture.paste(panel.draw(instant), (left, _HEADER))
            panel.label(ImageDraw.Draw(picture), left, instant)
            left += panel.size[0]
        yield picture


class _Panel:
    """One recording as a part of each picture."""

    def __init__(self, recording: Recording, widest: int) -> None:
        self._recording = recording
        ground = recording.ground
        corners = np.concatenate(ground.shapes)
        low, high = corners.min(axis=0), corners.max(axis=0)
        extent = np.maximum(high - low, 1.0)  # m
        room = np.array([widest, _TALLEST - _HEADER]) - 2 * _MARGIN
        self._scale = float((room / extent).min()) * _FINE  # fine pixels per m
        self._low, self._high = low, high
        width, height = (np.ceil(extent * self._scale / _FINE) + 2 * _MARGIN).astype(int)
        self.size = int(width), int(height)
        self._roads = Image.new("RGB", (self.size[0] * _FINE, self.size[1] * _FINE), _BACKGROUND)
        draw = ImageDraw.Draw(self._roads)
        for shape in ground.shapes:
            draw.line(self._pixels(shape), _ROAD, width=self._wide(_LANE), joint="curve")
        self._stops = [(self._pixels(line), links) for line, links in stop_lines(ground)]
        self._font = ImageFont.load_default(14)

    def draw(self, instant: int) -> Image.Image:
        """The network at one instant."""
        recording = self._recording
        picture = self._roads.copy()
        draw = ImageDraw.Draw(picture)
        for line, links in self._stops:
            shown = int(recording.lights[instant, links].max())
            draw.line(line, _LIGHTS[shown], width=self._wide(_STOP_LINE, least=2))
        radius = max(self._scale * _VEHICLE / 2, 1.7 * _FINE)
        now = slice(*recording.start[instant : instant + 2])
        for (x, y), speed in zip(self._pixels(recording.place[now]), recording.speed[now], strict=True):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(float(speed)))
        return picture.reduce(_FINE)

    def label(self, draw: ImageDraw.ImageDraw, left: int, instant: int) -> None:
        """Say above the panel what it shows, and when."""
        recording = self._recording
        vehicles = int(recording.start[instant + 1] - recording.start[instant])
        moment = f"{clock(recording.times[instant])}   {vehicles} vehicles"
        draw.text((left + _MARGIN, 5), recording.controller, _TEXT, self._font)
        draw.text((left + _MARGIN, 23), moment, _TEXT, self._font)

    def _pixels(self, places: NDArray[np.float32]) -> list[tuple[float, float]]:
        """Where places [n, 2] (m) are in the fine picture; north is up."""
        x = (places[:, 0] - self._low[0]) * self._scale + _MARGIN * _FINE
        y = (self._high[1] - places[:, 1]) * self._scale + _MARGIN * _FINE
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def _wide(self, metres: float, least: int = 1) -> int:
        return max(round(metres * self._scale), least * _FINE)


def stop_lines(ground: Ground) -> list[tuple[NDArray[np.float32], list[int]]]:
    """A line across the end of each road's lane that meets lights, [2, 2] in m, and the links of these."""
    links: dict[int, list[int]] = {}
    for link, (lane, _) in enumerate(ground.links):
        if is_road(ground.lane_ids[lane]):
            links.setdefault(int(lane), []).append(link)
    found = []
    for lane, own in links.items():
        before, end = ground.shapes[lane][-2:]
        way = (end - before) / max(float(np.linalg.norm(end - before)), 1e-6)
        across = np.array([-way[1], way[0]], np.float32) * (_LANE / 2)
        found.append((np.stack([end - across, end + across]), own))
    return found


def _colour(speed: float) -> Colour:
    """Of a vehicle at so many m/s."""
    return _SPEEDS[min(int(speed / _FULL_SPEED * len(_SPEEDS)), len(_SPEEDS) - 1)]


def _save_gif(path: Path, pictures: Iterator[Image.Image], rate: int) -> None:
    first = next(pictures)
    # One palette for all, so that only what moves differs from picture to picture.
    palette = _palette(first)
    flat = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in chain([first], pictures))
    next(flat).save(path, save_all=True, append_images=flat, duration=1000 // rate, loop=0)


def _palette(picture: Image.Image) -> Image.Image:
    """A picture with the colours of another and all those that may come up later."""
    patch = 40  # pixels: enough for a colour of its own
    colours = [*_SPEEDS, *_LIGHTS.values()]
    sample = Image.new("RGB", (max(picture.width, patch * len(colours)), picture.height + patch), _BACKGROUND)
    sample.paste(picture, (0, patch))
    for place, colour in enumerate(colours):
        sample.paste(colour, (place * patch, 0, (place + 1) * patch, patch))
    return sample.quantize(64)


def _save_mp4(path: Path, pictures: Iterator[Image.Image], rate: int) -> None:
    import imageio_ffmpeg

    path.open("wb").close()  # says better than ffmpeg why it cannot be written
    first = next(pictures)
    how = {"macro_block_size": 2, "ffmpeg_log_level": "error", "output_params": ["-movflags", "+faststart"]}
    writer = imageio_ffmpeg.write_frames(str(path), first.size, fps=rate, **how)
    try:
        writer.send(None)
        for picture in chain([first], pictures):
            writer.send(picture.tobytes())
        writer.close()
    except OSError as error:
        last = (str(error).strip().splitlines() or ["it ended early"])[-1]
        raise OSError(error.errno or errno.EIO, f"ffmpeg: {last}", str(path)) from error
    finally:
        writer.close()
