"""The command line of evaluate.py: what it prints, what it writes, how it refuses, and that nothing stays behind."""

from __future__ import annotations

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image

import config
import evaluate
from collectors.episodes import Conditions
from collectors.errors import EvaluationError
from envs import sumo
from envs.controllers import CLASSICAL, FixedTime
from envs.session import Session
from envs.signals import Frame, SignalControl
from envs.simulation import Simulation
from graph.policy import SignalPolicy
from graph.schema import COLUMNS
from graph.shape import PolicyShape
from learner import checkpoints
from results.protocol import CONDITIONS
from tests.support.leftovers import bearers, marked
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[1]
QUICK = ["--scenario", "single", "--episode-seconds", "120", "--seeds", "2"]


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    shape = PolicyShape(hidden=16)
    state = {
        "average": SignalPolicy(shape).state_dict(),
        "shape": shape.as_dict(),
        "columns": COLUMNS,
        "radius": 50.0,
        "env": {"decision_interval": 5.0, "yellow_time": 2.0, "min_green": 5.0, "max_red": 60.0, "reward": "queue"},
        **changes,
    }
    return checkpoints.save(folder, 7, {name: value for name, value in state.items() if value is not None}, keep=1)


def write_run(folder: Path, *flags: str) -> Path:
    """What a training run with these flags leaves first of all."""
    folder.mkdir()
    (folder / "config.yaml").write_text(config.to_yaml(config.load(flags)))
    return folder


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
    assert record["controllers"]["fixed"]["gridlocked"] == 0
    rows = list(csv.DictReader((out / "report.csv").open()))
    assert [(row["controller"], int(row["seed"]), float(row["delay"])) for row in rows] == [
        (one["controller"], one["seed"], round(one["delay"], 6)) for one in record["episodes"]
    ]
    assert set(rows[0]) >= {"queue", "stops", "co2", "throughput", "worst_waiting", "gridlocked", "teleports"}
    for name in ("report.png", "delay-over-time.png", "space-time.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_other_seeds_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, *QUICK, "--controller", "fixed", "--first-seed", "7", "--json")
    assert code == 0
    assert [one["seed"] for one in json.loads(text)["episodes"]] == [7, 8]


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
    assert by_path["conditions"]["max_red"] == 60.0
    assert by_flag["conditions"]["decision_interval"] == 10.0
    assert [one["delay"] for one in by_path["episodes"]] == [one["delay"] for one in by_folder["episodes"]]


def test_demand_varies_only_where_it_is_asked_for_and_alike_for_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    env = {"decision_interval": 5.0, "demand_scale": "0.1", "departure_jitter": 60.0}
    both = ["--controller", "fixed", "--controller", str(write_checkpoint(tmp_path, env=env))]
    code, text, _ = run(capsys, *QUICK, *both, "--json")
    assert code == 0
    as_it_is = json.loads(text)
    code, text, _ = run(capsys, *QUICK, *both, "--json", "--demand-scale", "0.5:0.6", "--departure-jitter", "20")
    assert code == 0
    fewer = json.loads(text)
    assert as_it_is["conditions"] | {"demand_scale": "1", "departure_jitter": 0.0} == as_it_is["conditions"]
    assert fewer["conditions"] | {"demand_scale": "0.5:0.6", "departure_jitter": 20.0} == fewer["conditions"]

    def departed(record: dict[str, Any]) -> list[int]:
        return [one["departed"] + one["never_departed"] for one in record["episodes"]]

    assert departed(as_it_is)[:2] == departed(as_it_is)[2:], "a checkpoint's own demand has leaked in"
    assert departed(fewer)[:2] == departed(fewer)[2:], "controllers met different traffic"
    assert all(some < 0.7 * all_ for some, all_ in zip(departed(fewer), departed(as_it_is), strict=True))


def test_by_default_everybody_is_judged_as_policies_are_trained() -> None:
    env, judged = config.load([]).env, asdict(Conditions())
    simulated = inspect.signature(Simulation).parameters
    of_settings = judged.keys() & simulated.keys() - {"demand_scale"}
    assert {name: simulated[name].default for name in of_settings} == {name: judged[name] for name in of_settings}
    only_in_training = {"departure_jitter"}
    assert {name: getattr(env, name) for name in judged.keys() - only_in_training} == {
        name: value for name, value in judged.items() if name not in only_in_training
    }
    assert asdict(CONDITIONS) == judged, "the protocol of docs/results.md"


def test_policies_that_were_trained_differently_need_a_flag(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "one")
    other = write_checkpoint(tmp_path / "other", env={"decision_interval": 8.0})
    both = ["--controller", str(one), "--controller", str(other)]
    code, _, errors = run(capsys, *QUICK, *both)
    assert code == 2
    assert "--decision-interval: must be given, the policies were trained with 5.0 and 8.0" in errors
    hour = write_checkpoint(tmp_path / "hour", env={"episode_seconds": None})
    short = write_checkpoint(tmp_path / "short", env={"episode_seconds": 600.0})
    code, _, errors = run(capsys, "--scenario", "single", "--controller", str(hour), "--controller", str(short))
    assert code == 2
    assert "--episode-seconds: must be given, the policies were trained with none and 600.0" in errors
    assert run(capsys, *QUICK, *both, "--decision-interval", "6", "--seeds", "1")[0] == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scenario", "nowhere", "--controller", "fixed"], "unknown scenario 'nowhere'"),
        (["--controller", "magic"], "--controller magic: must be fixed, webster, actuated, max-pressure,"),
        (["--controller", "{tmp}"], "this folder holds no checkpoint"),
        (["--controller", "{tmp}/text.pt"], "is not a checkpoint"),
        (["--controller", "{tmp}/half"], "has no 'radius'"),
        (["--controller", "{tmp}/wide"], "a checkpoint of another shape"),
        (["--controller", "{tmp}/newer"], "another version"),
        (["--controller", "{tmp}/older"], "another version of this program, whose policies see other features"),
        (["--controller", "fixed", "--controller", "fixed"], "is given twice"),
        (["--controller", "fixed", "--seeds", "0"], "--seeds 0: must be 1 to 65535"),
        (["--controller", "fixed", "--seeds", "few"], "--seeds"),
        (["--controller", "fixed", "--processes", "0"], "--processes 0: must be at least 1"),
        (["--controller", "fixed", "--timeout", "0"], "--timeout 0"),
        (["--controller", "fixed", "--min-green", "-1"], "--min-green"),
        (["--controller", "fixed", "--demand-scale", "1.2:0.8"], "--demand-scale 1.2:0.8: must be above 0"),
        (["--controller", "fixed", "--departure-jitter", "much"], "--departure-jitter much: must be a number"),
        (["--controller", "fixed", "--backend", "pigeon"], "--backend pigeon: must be traci or libsumo"),
        (["--controller", "fixed", "--out", "{tmp}/text.pt"], "is a file, must be a folder"),
        (["--controller", "fixed", "--first-seed", "65535"], "--first-seed 65535: must be 1 to 65531 with --seeds 5"),
        (["--controller", "fixed", "--video", "film.avi"], "--video film.avi: must end in .gif or .mp4"),
        (["--controller", "fixed", "--video", "{tmp}/text.pt/film.gif"], "text.pt: cannot be written"),
        (["--controller", "fixed", "--video", "film.gif", "--video-seconds", "0"], "--video-seconds 0: must be more"),
        (["--controller", "fixed", "--gui", "--video", "film.gif"], "--gui and --video: give one of them"),
        (["--controller", "fixed", "--controller", "random", "--gui"], "--gui: shows one controller, 2 are given"),
        (["--controller", "fixed", "--gui", "--gui-delay", "-1"], "--gui-delay -1: must be 0 or more"),
        (["--curves", "{tmp}/half"], "--curves: needs --out FOLDER"),
        (["--curves", "{tmp}/half", "--out", "{tmp}"], "--curves {tmp}/half: is no run's folder (config.yaml: No such"),
        (
            ["--curves", "{tmp}/run", "--out", "{tmp}", "--controller", "fixed"],
            "--controller: acts on single, and the runs of --curves were trained on grid4x4",
        ),
        (["--curves", "{tmp}/run", "--curves", "{tmp}/run", "--out", "{tmp}"], "begins and ends two groups"),
        (["--curves", "{tmp}/run", "--out", "{tmp}"], "cannot read metrics {tmp}/run/metrics.jsonl: No such file"),
        (["--curves", "{tmp}/run", "{tmp}/other", "--out", "{tmp}"], "they differ in env.reward, learner.reuse, and a"),
        (["--controller", "fixed", "--out", "{tmp}/run"], "--out {tmp}/run: holds a training run, whose report would"),
        (["--controller", "fixed", "--sampled"], "--sampled: only policies draw phases, and none is given"),
        (["--controller", "fixed", "--video", "film.gif", "--json"], "--video and --json: one shows traffic, the"),
        (["--controller", "fixed", "--gui", "--out", "{tmp}"], "--gui and --out: one shows traffic, the other"),
        ([], "--controller C or --curves RUN: one of them must be given"),
    ],
)
def test_a_users_mistake_gets_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], says: str
) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    write_checkpoint(tmp_path / "half", radius=None)
    write_checkpoint(tmp_path / "wide", average=SignalPolicy(PolicyShape(hidden=32)).state_dict())
    write_checkpoint(tmp_path / "older", columns=COLUMNS[:-1])
    write_checkpoint(tmp_path / "newer", shape={"hidden": 16, "heads": 4})
    write_run(tmp_path / "run")
    write_run(tmp_path / "other", "--reward", "queue", "--reuse", "2")
    code, text, errors = run(capsys, *(flag.format(tmp=tmp_path) for flag in ["--scenario", "single", *flags]))
    assert (code, text) == (2, "")
    assert errors.count("\n") == 1
    assert says.format(tmp=tmp_path) in errors


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_of_two_controllers_is_written_without_a_screen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "films" / f"two{suffix}"
    both = ["--controller", "fixed", "--controller", "max-pressure"]
    code, text, errors = run(capsys, *QUICK, *both, "--video", str(path), "--video-seconds", "2")
    assert (code, errors) == (0, "")
    assert text.startswith(f"{path}: ")
    if suffix == ".gif":
        with Image.open(path) as film:
            frames, size = film.n_frames, film.size  # type: ignore[attr-defined]
        assert frames in (20, 21)
    else:
        about, *raw = imageio_ffmpeg.read_frames(str(path))
        frames, size = len(raw), about["size"]
        assert frames in (40, 41)
    assert size[0] > 1.5 * size[1], "two square networks side by side"


def test_learning_curves_of_runs_are_drawn_beside_a_controller(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"run-{seed}", "--seed", f"{seed}", "--scenario", "single")
        rows = [{"trained": 2.0 * n, "decisions": 90 * n, "delay": 40.0 + seed + 90.0 / n} for n in range(1, 30)]
        (tmp_path / f"run-{seed}" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = [str(tmp_path / f"run-{seed}") for seed in (1, 2)]
    code, text, errors = run(capsys, "--curves", *runs, "--out", str(tmp_path / "alone"))
    assert (code, errors) == (0, "")
    alone = tmp_path / "alone" / "learning-curves.png"
    assert text == f"{alone}\n"
    beside = tmp_path / "beside" / "learning-curves.png"
    assert run(capsys, *QUICK, "--controller", "fixed", "--curves", *runs, "--out", str(beside.parent))[0] == 0
    assert alone.read_bytes() != beside.read_bytes()
    assert (beside.parent / "report.csv").exists()


def test_groups_of_runs_of_one_name_are_told_apart_by_their_paths(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr("report.curves.learning_curves", lambda path, groups, *_: drawn.append(groups))
    flags = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        folder = write_run(tmp_path / name / "s1", "--scenario", "grid4x4,single")
        row = {"trained": 2.0, "decisions": 9, "delay": 40.0, "delay/grid4x4": 30.0, "delay/single": 50.0}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        flags += ["--curves", str(folder)]
    code, _, errors = run(capsys, *flags, "--out", str(tmp_path))
    assert (code, errors) == (0, "")
    names = [f"{tmp_path}/{name}/s1: {scenario}" for name in "ab" for scenario in ("grid4x4", "single")]
    assert list(drawn[0]) == names
    assert [rows[0]["delay"] for (rows,) in drawn[0].values()] == [30.0, 50.0, 30.0, 50.0]


def test_figures_are_printed_and_written_before_anybody_looks_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EvaluationError("the recording has come to nothing")

    monkeypatch.setattr(evaluate, "record", fail)
    code, text, errors = run(capsys, *QUICK, "--controller", "fixed", "--out", str(tmp_path))
    assert (code, errors) == (1, "error: the recording has come to nothing\n")
    assert "fixed" in text
    assert (tmp_path / "report.csv").exists()
    assert not (tmp_path / "space-time.png").exists()


GUI = ["--scenario", "single", "--episode-seconds", "60", "--gui", "--gui-delay", "0", "--controller"]


@pytest.mark.parametrize("display", ["", ":4711"])
def test_without_a_display_a_window_is_refused_and_films_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, display: str
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    code, text, errors = run(capsys, *GUI, "fixed")
    assert (code, text) == (2, "")
    assert errors.count("\n") == 1
    assert errors.startswith("error: --gui: ")
    assert "--video FILE films it without" in errors


class Closing(FixedTime):
    """Somebody closes the window after half a minute."""

    number = signal.SIGTERM

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        self._session = session

    def act(self, frame: Frame) -> None:
        if frame.time >= 30.0:
            os.kill(self._session.pids[0], self.number)


class Crashing(Closing):
    """SUMO crashes after half a minute."""

    number = signal.SIGSEGV


@pytest.mark.parametrize(
    ("controller", "code", "says"),
    [
        ("max-pressure", 0, ""),
        ("closing", 0, "the window was closed before"),
        ("crashing", 1, "error: SUMO was ended by SIGSEGV"),
    ],
)
def test_a_window_shows_the_episode_until_it_is_over_or_closed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, controller: str, code: int, says: str
) -> None:
    """With SUMO itself in the place of its window, which it takes all options of."""
    real = sumo.binary
    asked: list[str] = []

    def stand_in(name: str) -> Path:
        asked.append(name)
        return real(name.removesuffix("-gui"))

    monkeypatch.setattr(sumo, "binary", stand_in)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(CLASSICAL, "closing", Closing)
    monkeypatch.setitem(CLASSICAL, "crashing", Crashing)
    found, text, errors = run(capsys, *GUI, controller)
    assert (found, text) == (code, "")
    assert errors.startswith(says)
    assert bool(errors) == bool(says)
    assert "sumo-gui" in asked


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
