"""Scenarios by name: generated ones, the RESCO networks of the sumo-rl package, and the user's own `.sumocfg`."""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from envs import generate, sumocfg
from envs.errors import ScenarioError
from envs.recipes import RECIPES

RESCO = {
    "grid4x4": "16 signals on a synthetic grid, an hour",
    "arterial4x4": "16 signals, arterials crossed by side streets, an hour",
    "cologne1": "1 signal in Cologne, 7 to 8 a.m.",
    "cologne3": "3 signals of a corridor in Cologne, 7 to 8 a.m.",
    "cologne8": "8 signals of a district of Cologne, 7 to 8 a.m.",
    "ingolstadt1": "1 signal in Ingolstadt, 4 to 5 p.m.",
    "ingolstadt7": "7 signals of a corridor in Ingolstadt, 4 to 5 p.m.",
    "ingolstadt21": "21 signals of a district of Ingolstadt, 4 to 5 p.m.",
}
RESCO_PREFIX = "resco:"
RESCO_INSTALL = "pip install sumo-rl (or Platoon's `bench` extra)"


@dataclass(frozen=True)
class Scenario:
    """A network with its demand (`config`, a .sumocfg) and its time window in seconds of the simulation's clock.

    `name` is what `find` finds it by. `scale` is the configuration's own factor on its demand, and `departure_jitter`
    by how many seconds it delays departures at most, at random.
    """

    name: str
    config: Path
    begin: float
    end: float
    scale: float = 1.0
    departure_jitter: float = 0.0


class Entry(NamedTuple):
    """One line of `python -m envs list`; `present` is false where a package would have to be installed first."""

    name: str
    description: str
    present: bool


def find(name: str, cache: Path | None = None) -> Scenario:
    """Return the scenario called `grid4x4`, `single`, `arterial`, `resco:NAME`, or at the path of a .sumocfg.

    A generated one is built on first use in `cache` (generate.cache_folder() if None). Raises ScenarioError, and where
    it cannot be built SumoError or SumoMissingError.
    """
    if name in RECIPES:
        config = generate.build(name, cache)
    elif name.startswith(RESCO_PREFIX):
        config = _resco(name.removeprefix(RESCO_PREFIX))
    else:
        config = _path(name)
    content = sumocfg.read(config)
    return Scenario(name, config, content.begin, content.end, content.scale, content.departure_jitter)


def available() -> list[Entry]:
    """List the scenarios that have a name, generated ones first."""
    generated = [Entry(name, recipe.description, True) for name, recipe in RECIPES.items()]
    folder = _resco_folder()
    resco = [
        Entry(RESCO_PREFIX + name, text, folder is not None and _resco_config(folder, name).is_file())
        for name, text in RESCO.items()
    ]
    return generated + resco


def _resco(name: str) -> Path:
    folder = _resco_folder()
    if folder is None:
        raise ScenarioError(f"scenario 'resco:{name}' needs the sumo-rl package: {RESCO_INSTALL}")
    config = _resco_config(folder, name)
    if name not in RESCO or not config.is_file():
        raise _unknown(RESCO_PREFIX + name)
    return config


def _resco_folder() -> Path | None:
    """The networks of the sumo-rl package, found without importing it: its import pulls in half a world."""
    spec = importlib.util.find_spec("sumo_rl")
    return Path(spec.origin).parent / "nets" / "RESCO" if spec is not None and spec.origin is not None else None


def _resco_config(folder: Path, name: str) -> Path:
    return folder / name / f"{name}.sumocfg"


def _path(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path.absolute()
    if path.is_dir() and name:
        raise ScenarioError(f"scenario {name!r} is a folder, must be a SUMO configuration (.sumocfg)")
    if path.suffix or len(path.parts) > 1:
        raise ScenarioError(f"scenario {name!r}: there is no such file (looked for {path.absolute()})")
    raise _unknown(name)


def _unknown(name: str) -> ScenarioError:
    known = [entry.name for entry in available()]
    close = difflib.get_close_matches(name, known, n=2)
    guess = f" (did you mean {' or '.join(close)}?)" if close else ""
    return ScenarioError(f"unknown scenario {name!r}{guess}: must be a path to a .sumocfg or one of {', '.join(known)}")
