"""The space–time diagram: every vehicle of a chain of roads as a line, and the lights that it met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from envs.recording import GREEN, RED, YELLOW, Recording
from report.chains import Chain, busiest_chain
from report.figures import clock, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection

_BEFORE, _BEHIND = 400.0, 200.0  # m of road drawn before the first and behind the last stop line
_FULL_SPEED = 50.0  # km/h: as fast as a colour can tell
_LIGHTS = {RED: "tab:red", YELLOW: "gold", GREEN: "tab:green"}


def space_time(path: Path, recordings: Sequence[Recording], title: str = "") -> None:
    """Draw time across and the way along the busiest chain upwards as a PNG, a panel per recording.

    The chain is that of the first recording, so that all panels show the same roads. Raises ``ValueError`` where no
    vehicle's route leads through a signal.
    """
    chain = busiest_chain(recordings[0])
    figure = new_figure(height=0.8 + 2.9 * len(recordings), title=title)
    panels = figure.subplots(len(recordings), 1, sharex=True, squeeze=False)[:, 0]
    for axes, recording in zip(panels, recordings, strict=True):
        lines = _draw_vehicles(axes, chain, recording)
        for stop in range(len(chain.stops)):
            _draw_light(axes, chain, recording, stop)
        axes.set_title(recording.controller, loc="left", fontsize="small")
        axes.set_ylim(max(0.0, chain.stops[0][0] - _BEFORE), chain.stops[-1][0] + _BEHIND)
        axes.set_xlim(recording.times[0] / 60.0, recording.times[-1] / 60.0)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].xaxis.set_major_formatter(lambda minutes, _: clock(60.0 * minutes))
    panels[-1].set_xlabel("time on the simulation's clock")
    figure.supylabel(f"way along {len(chain.roads)} roads, {chain.roads[0]} to {chain.roads[-1]} (m)", fontsize="small")
    figure.colorbar(lines, ax=list(panels), label="speed (km/h)", shrink=min(1.0, 1.5 / len(panels)), extend="max")
    figure.savefig(path, format="png")


def _draw_vehicles(axes: Axes, chain: Chain, recording: Recording) -> LineCollection:
    """A line per vehicle, coloured by its speed."""
    from matplotlib.collections import LineCollection

    pieces, speed = tracks(chain, recording)
    pieces[..., 0] /= 60.0
    lines = LineCollection(list(pieces), cmap="RdYlGn", linewidths=0.8, rasterized=True)
    lines.set_array(speed * 3.6)
    lines.set_clim(0.0, _FULL_SPEED)
    axes.add_collection(lines)
    return lines


def tracks(chain: Chain, recording: Recording) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pieces of the vehicles' ways from one instant to the next, float64 [M, 2 ends, (s, m)], and speeds, m/s [M].

    A vehicle that leaves the chain and returns to it leaves a gap.
    """
    instant = np.repeat(np.arange(len(recording.times)), np.diff(recording.start))  # [N]
    order = np.lexsort((instant, recording.vehicle))
    vehicle, instant, along = recording.vehicle[order], instant[order], chain.along(recording)[order]
    joined = (vehicle[1:] == vehicle[:-1]) & (instant[1:] == instant[:-1] + 1)
    joined &= ~np.isnan(along[1:]) & ~np.isnan(along[:-1])
    points = np.stack([recording.times[instant], along], axis=1)  # [N, 2]
    return np.stack([points[:-1][joined], points[1:][joined]], axis=1), recording.speed[order][1:][joined]


def _draw_light(axes: Axes, chain: Chain, recording: Recording, stop: int) -> None:
    """A bar at a stop line, in the colours that it shows."""
    from matplotlib.collections import LineCollection

    minutes = recording.times / 60.0
    colours = chain.colours(recording, stop)
    changes = np.flatnonzero(np.diff(colours)) + 1
    begins = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [len(colours) - 1]])
    height = chain.stops[stop][0]
    bars = [[(minutes[a], height), (minutes[b], height)] for a, b in zip(begins, ends, strict=True)]
    axes.add_collection(LineCollection(bars, colors=[_LIGHTS[int(colours[a])] for a in begins], linewidths=3.0))
