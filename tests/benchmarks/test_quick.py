"""Everything that can be measured quickly, measured on tiny sizes; nobody looks at the times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import pooled
from benchmarks.clients import CLIENTS, command
from benchmarks.vectorised import command as vectorised
from pages import ROOT, kept

LIMIT = 300.0  # s
PARTS = ("stepping", "resets", "transport", "loading", "graphs")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert run.returncode == 0, run.stderr
    return run


def sample(arguments: list[str]) -> dict[str, Any]:
    """What one measurement in a process of its own prints."""
    found: dict[str, Any] = json.loads(python(*arguments).stdout)
    return found


@pytest.mark.timeout(LIMIT)
def test_the_quick_parts_end_in_a_page(tmp_path: Path) -> None:
    python("benchmarks", "--quick", "--out", str(tmp_path), "--parts", *PARTS)
    measured = kept.read(tmp_path / "measured" / "benchmarks", PARTS)
    assert tuple(measured) == PARTS
    assert all(row["per_cpu"]["median"] > 0 for row in measured["stepping"].result["rows"])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "`platoon-traci-policy`" in page
    assert "python -m benchmarks --quick --parts graphs" in page


@pytest.fixture(scope="module")
def bare() -> dict[str, Any]:
    return sample(command("bare", "single", 10.0, 600.0, wall=0.01))


@pytest.mark.parametrize("name", sorted(CLIENTS.keys() - {"bare", "sumo-rl-traci"}))
def test_everybody_simulates_the_same_traffic(name: str, bare: dict[str, Any]) -> None:
    own = sample(command(name, "single", 10.0, 600.0, wall=0.01))
    other_seeds = name.endswith("-4")
    assert own["arrived_per_hour"] == pytest.approx(bare["arrived_per_hour"], rel=0.1 if other_seeds else 0.02)
    assert own["vehicles"] == pytest.approx(bare["vehicles"], rel=0.25)  # counted at other times
    assert own["simulated"] % 600.0 == 0.0
    assert own["decisions"] * 10.0 == own["simulated"]


def test_a_pool_collects_whole_episodes() -> None:
    found = sample(pooled.command("single", "traci", 10.0, 2, 60.0, wall=0.05, limit=10.0))
    assert found["decisions"] >= 2 * 6
    assert found["vehicles"] > 1.0
    assert not found["cut"]


def test_sumo_rl_runs_in_gymnasiums_vector_env() -> None:
    found = sample(vectorised("single", 10.0, 2, 60.0, wall=0.01, limit=10.0))
    assert found["decisions"] > 0
    assert found["decisions"] % (2 * 6) == 0
    assert found["simulated"] == 10.0 * found["decisions"]
    assert not found["cut"]
