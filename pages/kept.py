"""Results on disk: one JSON file per part, from which the report can be written again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pages.machine import machine, versions


@dataclass(frozen=True, slots=True)
class Beginning:
    """When measuring a part began (s of the monotonic clock), and with which versions of all programs."""

    at: float
    versions: dict[str, str]

    @classmethod
    def now(cls) -> Beginning:
        """This moment."""
        return cls(time.monotonic(), versions())

    @property
    def ago(self) -> float:
        """s since then."""
        return time.monotonic() - self.at


@dataclass(frozen=True, slots=True)
class Measured:
    """What a part has found, by which command, with which settings, when (UTC), in how many s, and on what.

    ``versions`` are those that it began with; where one has changed by the end, both are named.
    """

    part: str
    result: dict[str, Any]
    command: str
    settings: dict[str, Any]
    ended: str
    took: float
    machine: dict[str, str]
    versions: dict[str, str]

    @classmethod
    def now(
        cls, part: str, result: dict[str, Any], command: str, settings: dict[str, Any], began: Beginning
    ) -> Measured:
        """A result that is there this minute."""
        took = began.ago
        ended = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        before = began.versions
        known = {name: own if own == before[name] else f"{before[name]} to {own}" for name, own in versions().items()}
        return cls(part, result, command, settings, ended, took, machine(), known)


def keep(folder: Path, measured: Measured) -> None:
    """Write a part's result."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(measured), indent=1, allow_nan=False)
    (folder / f"{measured.part}.json").write_text(text + "\n", encoding="utf-8")


def forget(folder: Path, part: str) -> None:
    """Remove what is kept of a part."""
    (folder / f"{part}.json").unlink(missing_ok=True)


def read(folder: Path, parts: Sequence[str]) -> dict[str, Measured]:
    """What is kept, by part, in their order."""
    paths = {part: folder / f"{part}.json" for part in parts}
    return {part: Measured(**json.loads(path.read_text("utf-8"))) for part, path in paths.items() if path.exists()}
