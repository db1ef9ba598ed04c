"""Everything once, with tiny sizes, to its page; nobody looks at the figures."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pages import ROOT, kept
from tests.support.leftovers import bearers, marked
from tests.support.waiting import wait_for

PNG = b"\x89PNG\r\n"


# Each begins several programs that import torch.
pytestmark = pytest.mark.timeout(240)


def results(folder: Path, *parts: str) -> str:
    """The page that these parts become."""
    run = subprocess.run(
        [sys.executable, "-m", "results", "--quick", "--out", str(folder), "--parts", *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert all((folder / "pictures" / f"results-{part}.png").read_bytes().startswith(PNG) for part in parts)
    return (folder / "results.md").read_text(encoding="utf-8")


def test_yardsticks_and_a_training_run(tmp_path: Path) -> None:
    page = results(tmp_path, "yardsticks", "cologne1")
    found = kept.read(tmp_path / "measured" / "results", ("yardsticks", "cologne1"))
    assert [row["controller"] for row in found["yardsticks"].result["rows"]] == ["fixed", "max-pressure"]
    last = found["cologne1"].result["rows"][-1]
    assert last["moment"] is None
    assert last["decisions"] > 0
    assert len(last["delays"]) == 2
    assert "| `max-pressure` |" in page
    assert "its figures mean nothing" in page
    assert (tmp_path / re.findall(r"\]\((measured/.*?)\)", page)[0]).is_dir(), "a dead link"
    assert "- `python train_rl.py --scenario single --num-envs 2 --time-limit 6" in page


def test_several_runs_on_several_scenarios_are_judged_where_it_is_asked_for(tmp_path: Path) -> None:
    results(tmp_path, "transfer")
    result = kept.read(tmp_path / "measured" / "results", ("transfer",))["transfer"].result
    assert [(row["network"], row["seed"], row["moment"]) for row in result["rows"]] == [
        ("single", 1, None),
        ("single", 2, None),
    ]
    assert result["rows"][0]["delays"] != result["rows"][1]["delays"]
    assert not result["failed"]


def test_variants_of_the_learner(tmp_path: Path) -> None:
    page = results(tmp_path, "ablation")
    rows = kept.read(tmp_path / "measured" / "results", ("ablation",))["ablation"].result["rows"]
    assert [row["variant"] for row in rows] == ["as it is", "one step per update"]
    assert rows[0]["delays"] != rows[1]["delays"], "a setting that changes nothing was not passed on"
    assert "`--reuse 1`" in page


def test_side_by_side_with_ppo(tmp_path: Path) -> None:
    page = results(tmp_path, "rival")
    result = kept.read(tmp_path / "measured" / "results", ("rival",))["rival"].result
    assert [(row["variant"], row["moment"]) for row in result["theirs"]] == [("short", 25.0)]
    assert result["own"][-1]["moment"] == 25.0
    for row in (*result["own"], *result["theirs"]):
        assert row["decisions"] > 0
        assert len(row["delays"]) == 1
        assert row["delays"][0] > 0
        assert row["full_delay"]["mean"] > 0
    assert "- `short`: 2 environments, reward diff-waiting-time, gamma 0.95" in page


@pytest.mark.parametrize(
    ("part", "number", "code"),
    [("ablation", signal.SIGTERM, 130), ("rival", signal.SIGTERM, 130), ("ablation", signal.SIGKILL, -signal.SIGKILL)],
)
def test_who_is_ended_leaves_no_process_behind(tmp_path: Path, part: str, number: int, code: int) -> None:
    """In the middle of training, in a thread of several or with processes of others."""
    environment, mark = marked({**os.environ, "TMPDIR": str(tmp_path)})
    command = [sys.executable, "-m", "results", "--parts", part, "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as measuring:
        assert measuring.stderr is not None
        for line in measuring.stderr:
            if "train_rl.py" in line:
                break
        measuring.send_signal(number)
        measuring.stderr.read()
        assert measuring.wait(60.0) == code
    wait_for(lambda: not bearers(mark), "the end of all that was started")
