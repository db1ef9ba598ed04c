"""The page, from results that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.report import text
from benchmarks.sections import SECTIONS
from pages import kept
from pages.tables import paragraph

PNG = b"\x89PNG\r\n"


def figure(median: float) -> dict[str, float]:
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median, "n": 3}


def step(client: str, network: str, interval: float, rate: float) -> dict[str, Any]:
    return {
        "network": network,
        "interval": interval,
        "client": client,
        "per_cpu": figure(1000 * rate),
        "per_wall": figure(900 * rate),
        "cpu_vs_bare": figure(rate),
        "wall_vs_bare": figure(rate),
        "vehicles": 30.0,
        "arrived_per_hour": 2000.0,
        "cut": client == "traci-getters",
    }


def pool(contender: str, envs: int, rate: float) -> dict[str, Any]:
    return {
        "network": "resco:cologne8",
        "interval": 5.0,
        "envs": envs,
        "contender": contender,
        "per_wall": figure(rate),
        "per_cpu": figure(rate / 2),
        "wall_vs_sumo_rl": figure(1.5),
        "vehicles": 100.0,
        "cut": False,
    }


RESULTS: dict[str, dict[str, Any]] = {
    "stepping": {
        "rows": [
            step("bare", "resco:cologne1", 5.0, 1.0),
            step("platoon-traci-policy", "resco:cologne1", 5.0, 0.5),
            step("platoon-libsumo-policy", "resco:cologne1", 5.0, 0.8),
            step("traci-getters", "resco:cologne1", 1.0, 0.01),
        ],
        "skipped": [{"network": "resco:cologne1", "interval": 1.0, "client": "sumo-rl-traci", "why": "of its yellow"}],
    },
    "scaling": {"rows": [pool("platoon-traci", 1, 300.0), pool("platoon-traci", 4, 900.0)]},
    "training": {
        "rows": [
            {
                "network": "resco:cologne1",
                "interval": 10.0,
                "system": "platoon",
                "per_wall": figure(800.0),
                "cpu_per_decision": 0.001,
                "wait_share": 0.25,
                "delay": 20.0,
                "command": "python train_rl.py --num-envs 4",
            }
        ]
    },
    "resets": {"rows": [{"network": "resco:cologne8", "client": "platoon-traci", "wall": figure(0.025)}]},
    "transport": {
        "rows": [
            {
                "way": "slots",
                "per_second": figure(9000.0),
                "cpu_per_fragment": figure(0.0002),
                "vs_pickling": figure(12.0),
            }
        ]
    },
    "loading": {
        "network": "resco:cologne8",
        "bytes": 1_400_000,
        "rows": [
            {"way": "pipe", "per_second": figure(300.0), "cpu": figure(0.002), "cheaper": figure(6.0)},
            {"way": "DataLoader", "per_second": figure(50.0), "cpu": figure(0.012), "cheaper": figure(1.0)},
        ],
    },
    "graphs": {
        "rows": [
            {
                "network": "resco:cologne8",
                "frames": 64,
                "vehicles": 4000,
                "edges": 19000,
                "ours": figure(0.001),
                "pyg": figure(0.025),
                "faster": figure(25.0),
            }
        ]
    },
    "memory": {
        "network": "resco:cologne8",
        "rows": [{"envs": 4, "bytes": figure(1e9)}, {"envs": 8, "bytes": figure(1.2e9)}],
        "per_env": 5e7,
        "long": {
            "envs": 4,
            "episode_seconds": 300.0,
            "curve": [[1.0, 1e9], [300.0, 1.05e9]],
            "first_third": 1e9,
            "last_third": 1.05e9,
        },
    },
}


def measured_in(folder: Path) -> Path:
    """Where what a page in a folder is written from lies."""
    return folder / "measured" / "benchmarks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of all parts, kept."""
    for part, result in RESULTS.items():
        measured = kept.Measured.now(part, result, f"python -m benchmarks.{part}", {}, kept.Beginning.now())
        kept.keep(measured_in(tmp_path), measured)
    return tmp_path


def line(page: str, *words: str) -> str:
    """The one line of a section's tables that has all these words."""
    (found,) = {one for one in page.splitlines() if all(word in one for word in words)}
    return found


def test_what_is_kept_is_read_again(folder: Path) -> None:
    measured = kept.read(measured_in(folder), tuple(SECTIONS))
    assert list(measured) == list(SECTIONS)
    assert {part: one.result for part, one in measured.items()} == RESULTS
    kept.forget(measured_in(folder), "graphs")
    kept.forget(measured_in(folder), "graphs")
    assert "graphs" not in kept.read(measured_in(folder), tuple(SECTIONS))


def test_the_report_is_written_from_what_is_kept(folder: Path) -> None:
    assert main(["report", "--out", str(folder)]) == 0
    page = (folder / "benchmarks.md").read_text(encoding="utf-8")
    for name in ("stepping", "scaling", "memory"):
        assert f"(pictures/benchmarks-{name}.png)" in page
        assert (folder / "pictures" / f"benchmarks-{name}.png").read_bytes().startswith(PNG)
    assert all(len(one) <= 120 for one in page.splitlines() if not one.startswith(("|", "!", "- ")))


def test_every_target_has_its_figure_and_its_verdict(folder: Path) -> None:
    page = text(kept.read(measured_in(folder), tuple(SECTIONS)))
    assert line(page, "cologne1, every 5 s with the policy, better").endswith("| ≥ 0.70 × | 0.80 × | met |")
    assert line(page, "cologne1, every 5 s with the policy, TraCI").endswith("| ≥ 0.55 × | 0.50 × | **missed** |")
    assert line(page, "cologne8, every 5 s with the policy, TraCI").endswith("| not measured | – |")
    assert line(page, "processor time of the reader").endswith("| ≤ 0.1 ms | 0.2 ms | **missed** |")
    assert line(page, "cologne8, reset").endswith("| ≤ 30 ms | 25 ms | met |")
    assert line(page, "the last third").endswith("| ≤ 1.020 × | 1.050 × | **missed** |")


def test_misses_are_shown_first(folder: Path) -> None:
    overview, _, _ = text(kept.read(measured_in(folder), tuple(SECTIONS))).partition("## On what")
    assert "8 of 11 targets are met." in overview
    assert overview.count("**missed**") == 3


def test_the_page_names_machine_versions_and_commands(folder: Path) -> None:
    page = text(kept.read(measured_in(folder), tuple(SECTIONS)))
    for words in ("| processor |", "| kernel | Linux", "| torch | 2.", "`python -m benchmarks.stepping`"):
        assert words in page
    assert "`python train_rl.py --num-envs 4`" in page
    assert "`sumo-rl-traci` every 1 s: not measured, of its yellow" in page
    assert "`traci-getters` (cut)" in page


def test_nothing_kept_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--out", str(tmp_path)]) == 1
    assert "holds no results" in capsys.readouterr().err


def test_paragraphs_stay_apart() -> None:
    assert paragraph("\n    one\n    two\n\n    three\n") == "one two\n\nthree"
