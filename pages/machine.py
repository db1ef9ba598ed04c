"""On what was measured: the machine, and the versions of everything that matters."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from machine import cores

_PACKAGES = (
    "eclipse-sumo",
    "traci",
    "libsumo",
    "sumo-rl",
    "gymnasium",
    "stable-baselines3",
    "torch",
    "torch-geometric",
    "numpy",
    "scipy",
    "numba",
)


def machine() -> dict[str, str]:
    """The machine in words."""
    usable, present = cores(), psutil.cpu_count() or 0
    return {
        "processor": _cpu_model(),
        "cores": str(usable) if usable == present else f"{usable} of {present}",
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",  # the rest names a build
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str:
    """Of the source, with a plus where it was changed since; pages and what they are written from are no source."""
    try:
        return _git("describe", "--always") + "+" * bool(_git("status", "--porcelain", "--", ":/", ":!/docs"))
    except (OSError, subprocess.SubprocessError):  # no git, or no repository
        return "unknown"


def _git(*command: str) -> str:
    git = ["git", "-C", str(Path(__file__).parent), *command]
    return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def versions() -> dict[str, str]:
    """This checkout's commit, Python and the packages that are installed, by name."""
    found = {"platoon": _commit(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
