"""Results on disk: one JSON file per harm, from which the page can be written again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chaos.harm import Result
from pages import kept
from pages.kept import Beginning, Measured

PARTS = (
    *("kills", "stalls", "steering", "starvation", "signals", "parents"),
    *("disks", "shared_memory", "memory", "wrong", "strangers", "episodes"),
)


def keep(folder: Path, part: str, result: Result, command: str, settings: dict[str, Any], began: Beginning) -> None:
    """Write what came of a harm."""
    kept.keep(folder, Measured.now(part, asdict(result), command, settings, began))


def without_folder(result: Result, folder: Path) -> Result:
    """The same with paths in this folder made relative: it is gone when somebody reads of them."""
    found = json.loads(json.dumps(asdict(result), allow_nan=False).replace(f"{folder}/", ""))
    again = Result(found["harm"], found["about"], figures=found["figures"], series=found["series"])
    for check in found["checks"]:
        again.check(**check)
    return again
