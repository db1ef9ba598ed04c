"""Side by side with sumo-rl and Stable-Baselines3's PPO: the same machine, the same wall time, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks import script
from benchmarks.contest import ROOT, say
from results import learning


@dataclass(frozen=True)
class Settings:
    """Where, and at which moments they are compared."""

    network: str = "resco:cologne1"
    """A scenario with one signal."""
    moments: tuple[float, ...] = (30.0, 60.0, 120.0, 300.0)
    """Seconds after the start of the process."""
    variants: tuple[str, ...] = ("defaults", "queue", "short", "short-queue")
    """Settings of theirs; at each moment the best of them counts."""
    runs: int = 1
    """Training runs of ours."""
    seeds: int = 20
    """Episodes that a policy is judged by."""


def measure(settings: Settings) -> dict[str, Any]:
    """``own`` and ``theirs``: a row for each moment, theirs for each variant as well."""
    own = learning.measure(
        learning.Settings(
            scenario=settings.network,
            minutes=max(settings.moments) / 60.0,
            moments=settings.moments,
            runs=settings.runs,
            seeds=settings.seeds,
        )
    )
    theirs = [row for variant in settings.variants for row in _theirs(settings, variant)]
    return {"own": [row for row in own["rows"] if row["moment"] is not None], "theirs": theirs}


def _theirs(settings: Settings, variant: str) -> list[dict[str, Any]]:
    command = ["results.ppo", "--network", settings.network, "--variant", variant, "--seeds", str(settings.seeds)]
    command += ["--moments", *map(str, settings.moments)]
    say(f"python -m {' '.join(command)}")
    limit = max(settings.moments) + 60.0 + 20.0 * settings.seeds * len(settings.moments)  # s
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=limit, check=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


if __name__ == "__main__":
    script.run(Settings, measure, "rival", __doc__, room="results")
