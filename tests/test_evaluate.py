"""The command line of evaluate.py: what it prints, what it writes, how it refuses, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evaluate
from graph.policy import PolicyShape, SignalPolicy
from learner import checkpoints
from tests.support.leftovers import bearers, marked
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[1]
QUICK = ["--scenario", "single", "--episode-seconds", "120", "--seeds", "2"]


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    shape = PolicyShape(hidden=16)
    state = {
        "model": SignalPolicy(shape).state_dict(),
        "shape": shape.as_dict(),
        "radius": 50.0,
        "env": {"decision_interval": 5.0, "yellow_time": 2.0, "min_green": 5.0, "reward": "queue"},
        **changes,
    }
    return checkpoints.save(folder, 7, {name: value for name, value in state.items() if value is not None}, keep=1)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = evaluate.main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_two_controllers_are_compared_and_written_down(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "report"
    code, text, errors = run(capsys, *QUICK, "--controller", "fixed", "--controller", "max-pressure", "--out", str(out))
    assert (code, errors) == (0, "")
    assert "vs fixed" in text
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["fixed", "max-pressure"]
    record = json.loads((out / "report.json").read_text())
    assert record["conditions"]["episode_seconds"] == 120.0
    assert [(one["controller"], one["seed"]) for one in record["episodes"]] == [
        ("fixed", 1),
        ("fixed", 2),
        ("max-pressure", 1),
        ("max-pressure", 2),
    ]
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("inner", ["", "checkpoints"])
def test_a_policy_acts_under_the_conditions_that_it_was_trained_under(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, inner: str
) -> None:
    path = write_checkpoint(tmp_path / inner)
    found = {}
    for name, flags in ((str(path), []), (str(tmp_path), []), (str(path), ["--decision-interval", "10"])):
        code, text, errors = run(capsys, *QUICK, "--controller", name, "--json", *flags)
        assert (code, errors) == (0, "")
        found[name, len(flags)] = json.loads(text)
    by_path, by_folder, by_flag = found.values()
    assert by_path["conditions"] | by_folder["conditions"] == by_path["conditions"]
    assert by_path["conditions"]["decision_interval"] == 5.0
    assert by_path["conditions"]["yellow_time"] == 2.0
    assert by_flag["conditions"]["decision_interval"] == 10.0
    assert [one["delay"] for one in by_path["episodes"]] == [one["delay"] for one in by_folder["episodes"]]


def test_policies_that_were_trained_differently_need_a_flag(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one")
    other = write_checkpoint(tmp_path / "other", env={"decision_interval": 8.0})
    both = ["--controller", str(one), "--controller", str(other)]
    code, _, errors = run(capsys, *QUICK, *both)
    assert code == 2
    assert "--decision-interval: must be given, the policies were trained with 5.0 and 8.0" in errors
    assert run(capsys, *QUICK, *both, "--decision-interval", "6", "--seeds", "1")[0] == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scenario", "nowhere", "--controller", "fixed"], "unknown scenario 'nowhere'"),
        (["--controller", "magic"], "--controller magic: must be fixed, actuated, max-pressure, random, or"),
        (["--controller", "{tmp}"], "this folder holds no checkpoint"),
        (["--controller", "{tmp}/text.pt"], "is not a checkpoint"),
        (["--controller", "{tmp}/half"], "has no 'radius'"),
        (["--controller", "{tmp}/wide"], "a checkpoint of another shape"),
        (["--controller", "{tmp}/newer"], "another version"),
        (["--controller", "fixed", "--controller", "fixed"], "is given twice"),
        (["--controller", "fixed", "--seeds", "0"], "--seeds 0: must be 1 to 65535"),
        (["--controller", "fixed", "--seeds", "few"], "--seeds"),
        (["--controller", "fixed", "--processes", "0"], "--processes 0: must be at least 1"),
        (["--controller", "fixed", "--timeout", "0"], "--timeout 0"),
        (["--controller", "fixed", "--min-green", "-1"], "--min-green"),
        (["--controller", "fixed", "--backend", "pigeon"], "--backend pigeon: must be traci or libsumo"),
        (["--controller", "fixed", "--out", "{tmp}/text.pt"], "is a file, must be a folder"),
        ([], "--controller"),
    ],
)
def test_a_users_mistake_gets_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], says: str
) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    write_checkpoint(tmp_path / "half", radius=None)
    write_checkpoint(tmp_path / "wide", model=SignalPolicy(PolicyShape(hidden=32)).state_dict())
    write_checkpoint(tmp_path / "newer", shape={"hidden": 16, "heads": 4})
    code, text, errors = run(capsys, *(flag.format(tmp=tmp_path) for flag in ["--scenario", "single", *flags]))
    assert (code, text) == (2, "")
    assert errors.count("\n") == 1
    assert says in errors


def test_an_evaluation_that_fails_has_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run(capsys, *QUICK, "--controller", "fixed", "--timeout", "0.001")
    assert code == 1
    assert "has not ended within 0.001 s" in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupted_or_killed_it_leaves_no_process_behind(number: signal.Signals, code: int) -> None:
    environment, mark = marked(os.environ)
    endless = ["--scenario", "single", "--controller", "fixed", "--seeds", "500", "--decision-interval", "0.5"]
    command = [sys.executable, "evaluate.py", *endless, "--yellow-time", "0"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    # Long after the first SUMO, which only reads the network: two of them work side by side then.
    wait_for(lambda: sum(one.name() == "sumo" for one in bearers(mark)) >= 2, "two SUMOs at work")
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    out, errors = process.communicate(timeout=20.0)
    assert process.returncode == code
    assert out + errors == b""
    wait_for(lambda: not bearers(mark), "the end of all processes", limit=10.0)
