"""Where the installed SUMO is: the `sumo` folder of the eclipse-sumo package, so that the user sets nothing."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from envs.errors import SumoMissingError

INSTALL = "pip install 'eclipse-sumo==1.28.*'"


@cache
def home() -> Path:
    """Return SUMO's folder, the one that SUMO_HOME stands for; raises SumoMissingError."""
    spec = importlib.util.find_spec("sumo")
    if spec is None or spec.origin is None:  # no origin: some other folder that happens to be called "sumo"
        raise SumoMissingError(f"SUMO is not installed: {INSTALL}")
    return Path(spec.origin).parent


def binary(name: str) -> Path:
    """Return the real program `name`, such as "sumo"; raises SumoMissingError.

    The program of the same name that pip puts on PATH is a Python launcher: killing it would orphan the real one.
    """
    path = home() / "bin" / name
    if not os.access(path, os.X_OK):
        raise SumoMissingError(f"SUMO's program {name!r} is not at {path}: {INSTALL}")
    return path


def environment() -> dict[str, str]:
    """Return the environment for SUMO's programs: ours, with SUMO_HOME set to the installed package.

    PROJ_LIB leads to the map projections that come with it. Without them, a network with real-world coordinates makes
    SUMO complain so often that its real last words are lost.
    """
    return {**os.environ, "SUMO_HOME": str(home()), "PROJ_LIB": str(home() / "data" / "proj")}
