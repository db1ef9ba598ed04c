"""Every part is a script of its own too: flags from a record of settings, one JSON object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from pages.output import results_only

Settings = TypeVar("Settings")


def run(
    settings: type[Settings],
    measure: Callable[[Settings], dict[str, Any]],
    name: str,
    about: str | None,
    room: str = "benchmarks",
) -> None:
    """Measure with the settings that the command line asks for, and print what came of it; progress is on stderr."""
    given = tyro.cli(settings, prog=f"python -m {room}.{name}", description=about, args=sys.argv[1:])
    with results_only() as results:
        json.dump(measure(given), results, indent=1, allow_nan=False)
        results.write("\n")
