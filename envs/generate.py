"""Scenarios that Platoon makes itself: a signalised grid, and a demand with a rush hour.

A scenario is built once, into a folder of the user's cache that is named after the recipe's content: a changed recipe
is another folder, and a half-built one is never seen.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from envs import demand, grid, sumo
from envs.errors import ScenarioError, SumoError
from envs.recipes import RECIPES, Recipe

BUILD_LIMIT = 60.0  # s that netgenerate and netconvert may take each; they need a tenth of one
STALE = 3600.0  # s after which the leftovers of a killed build are swept away


def cache_folder() -> Path:
    """Return where built scenarios are kept: platoon/scenarios in $XDG_CACHE_HOME or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "platoon" / "scenarios"


def build(name: str, cache: Path | None = None) -> Path:
    """Return the .sumocfg of the recipe called `name`, built now unless `cache` (cache_folder() if None) has it.

    Of two processes that build at once, one puts its folder into place and the other uses it. Raises SumoError when one
    of SUMO's programs fails, SumoMissingError when there is none, ScenarioError when the cache cannot be written.
    """
    cache = cache_folder() if cache is None else cache
    recipe = RECIPES[name]
    folder = cache / f"{name}-{fingerprint(name, recipe)}"
    config = folder / f"{name}.sumocfg"
    if config.is_file():
        return config
    try:
        _make(name, recipe, folder)
    except OSError as error:
        raise ScenarioError(
            f"scenario {name!r} cannot be built in {cache} ({error.strerror}): set XDG_CACHE_HOME to a writable folder"
        ) from error
    return config


def fingerprint(name: str, recipe: Recipe) -> str:
    """Return a short name for all that a recipe asks for: the same content, the same name."""
    content = repr((grid.layout(recipe), _options(recipe), _texts(name, recipe)))
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _make(name: str, recipe: Recipe, folder: Path) -> None:
    """Build in a folder beside the final one, then rename it: it appears at once and whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        for file, text in _texts(name, recipe).items():
            (draft / file).write_text(text)
        _network(name, recipe, draft)
        _put_into_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # it is gone already where it was put into place


def _put_into_place(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was quicker, and its folder is as good
            raise


def _sweep(cache: Path) -> None:
    """Remove what builds that were killed left behind."""
    for draft in cache.glob(".draft-*"):
        try:
            age = time.time() - draft.stat().st_mtime
        except FileNotFoundError:  # its builder has just finished
            continue
        if age > STALE:
            shutil.rmtree(draft, ignore_errors=True)


def _texts(name: str, recipe: Recipe) -> dict[str, str]:
    """The files that we write ourselves, all but those of the network: their names and what is in them."""
    config = f"""<configuration>
    <net-file value="{name}.net.xml"/>
    <route-files value="{name}.rou.xml"/>
    <begin value="0"/>
    <end value="{recipe.duration}"/>
    <time-to-teleport value="-1"/>
</configuration>
"""
    return {
        f"{name}.con.xml": grid.connections(recipe),
        f"{name}.rou.xml": "\n".join(demand.lines(recipe)) + "\n",
        f"{name}.sumocfg": config,
    }


def _network(name: str, recipe: Recipe, folder: Path) -> None:
    """Build the network in `folder`: netgenerate's streets, with the connections that are there already."""
    _run(folder, "netgenerate", [*grid.layout(recipe), "--plain-output-prefix=streets"])
    plain = ["--node-files=streets.nod.xml", "--edge-files=streets.edg.xml", f"--connection-files={name}.con.xml"]
    _run(folder, "netconvert", [*plain, *_options(recipe), f"--output-file={name}.net.xml"])


def _run(folder: Path, program: str, options: list[str]) -> None:
    """Run one of SUMO's programs in `folder`."""
    try:
        run = subprocess.run(
            [str(sumo.binary(program)), *options],
            cwd=folder,
            env=sumo.environment(),
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SumoError(f"{program} did not finish within {BUILD_LIMIT:g} s") from error
    if run.returncode != 0:
        last_words = " | ".join((run.stderr + run.stdout).strip().splitlines()[-3:])
        raise SumoError(f"{program} ended with code {run.returncode}: {last_words}")


def _options(recipe: Recipe) -> list[str]:
    return [
        "--no-turnarounds",
        "--tls.default-type=static",
        f"--tls.cycle.time={recipe.cycle}",
        f"--tls.left-green.time={recipe.left_green}",
        "--tls.yellow.time=3",
    ]
