"""Everything about an evaluation in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from envs.recording import Recording
from report import delays, records
from report.space_time import space_time
from report.statistics import Trial


class Episode(Trial, delays.Course, Protocol):
    """An episode with its course."""


def write(
    folder: Path,
    record: dict[str, Any],
    episodes: Sequence[Episode],
    bin_seconds: float,
    title: str,
) -> None:
    """Write ``record`` as report.json, the episodes as report.csv, and pictures of delays.

    ``bin_seconds`` is that of the episodes' courses. Raises ``OSError``.
    """
    (folder / "report.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "report.csv").write_text(records.as_csv(episodes), encoding="utf-8")
    delays.comparison(folder / "report.png", episodes, f"Delay on {title}")
    delays.over_time(folder / "delay-over-time.png", episodes, bin_seconds, f"Delay over time on {title}")


def draw_recordings(folder: Path, recordings: Sequence[Recording], title: str) -> str:
    """Draw what cameras have seen as space-time.png; returns why it is left out where it is. Raises ``OSError``."""
    try:
        space_time(folder / "space-time.png", recordings, f"The busiest way through {title}")
    except ValueError as error:
        return f"space-time.png is left out: {error}"
    return ""
