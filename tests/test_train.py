"""``train_rl.py`` from its command line to its exit code, on real simulations."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

import closing
import config
import evaluate
import train_rl
from envs import sumo
from learner import checkpoints
from tests.learner.full_disk import PRIVATE, may_mount
from tests.report.trials import inked
from tests.support.leftovers import assert_nothing_new, shared_names
from tests.support.runs import QUICK, ROOT, SCRIPT, TrainRun
from tests.support.waiting import wait_for

DIGESTS = re.compile(
    r"weights after version (\d+): ([0-9a-f]+(?=$)|[0-9a-f, ]+(?= \(the same on every rank\)$))", re.MULTILINE
)


def digests(output: str) -> list[str]:
    """The digests of all ranks' weights that a run has said at its end."""
    found = DIGESTS.search(output)
    assert found is not None, output
    return found[2].split(", ")


def newest(folder: Path) -> dict[str, Any]:
    """The state in a run's newest checkpoint."""
    path = checkpoints.latest(folder / "checkpoints")
    assert path is not None
    return checkpoints.load(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainRun]:
    """A run that has come to its end by itself."""
    with TrainRun(tmp_path_factory.mktemp("finished"), "--total-decisions", "300") as run:
        run.finish()
        yield run


@pytest.fixture
def copy(finished: TrainRun, tmp_path: Path) -> Path:
    """A copy of the finished run, in the place where another ``TrainRun`` looks for its own."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


# A whole run


def test_a_run_leaves_settings_metrics_events_and_a_checkpoint(finished: TrainRun) -> None:
    settings = config.from_yaml((finished.folder / "config.yaml").read_text())
    assert settings.env.scenario == "single"
    assert settings.run.total_decisions == 300
    rows = finished.metrics()
    assert [row["decisions"] for row in rows] == sorted(row["decisions"] for row in rows)
    last = rows[-1]
    assert last["decisions"] >= 300
    assert last["simulated_seconds"] == 10 * last["decisions"]
    assert {"loss", "entropy", "return", "delay", "lag", "queue_fill", "wait_share", "memory_bytes"} <= last.keys()
    events = EventAccumulator(str(finished.folder)).Reload()
    assert [event.step for event in events.Scalars("decisions")] == [row["step"] for row in rows]


def test_the_checkpoint_holds_what_was_said(finished: TrainRun) -> None:
    state = newest(finished.folder)
    assert state["counters"]["decisions"] == finished.metrics()[-1]["decisions"]
    assert [checkpoints.digest(state["model"])] == digests(finished.output)
    assert state["shape"]["hidden"] == 64


@pytest.mark.parametrize(
    "flags",
    [
        "--loader-workers 1 --history 3 --amp bf16",
        "--loader-workers 2 --accumulate 2 --num-collectors 1",
        "--backend libsumo --vehicle-rounds 1",
        "--num-collectors 0 --amp fp16 --queue-size 1 --history 2 --hidden 16",
    ],
)
def test_other_settings_run_to_their_end_too(tmp_path: Path, flags: str) -> None:
    with TrainRun(tmp_path, "--total-decisions", "200", *flags.split()) as run:
        run.finish()
        assert run.metrics()[-1]["decisions"] >= 200
        assert len(digests(run.output)) == 1


def test_two_ranks_end_with_the_same_weights(tmp_path: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", SCRIPT)
    flags = "--total-decisions 500 --num-collectors 1 --batch-fragments 4 --amp bf16 --accumulate 2"
    with TrainRun(tmp_path, *flags.split(), program=torchrun, environment={"OMP_NUM_THREADS": "1"}) as run:
        run.finish()
        one, other = digests(run.output)
        assert one == other
        assert run.metrics()[-1]["decisions"] >= 500
        assert run.output.count("run folder") == 1, "both ranks talk"


# Several scenarios

TWO = ("--scenario", "single,arterial")


def of_map(values: dict[str, Any], name: str) -> dict[str, Any]:
    """What a record says of one of several scenarios, by that scenario."""
    return {key.removeprefix(f"{name}/"): value for key, value in values.items() if key.startswith(f"{name}/")}


@pytest.fixture(scope="module")
def on_two_maps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainRun]:
    """A run on two scenarios with a loader worker, and its closing table."""
    flags = (*TWO, "--total-decisions", "400", "--loader-workers", "1", "--poison", "--eval-seeds", "1")
    with TrainRun(tmp_path_factory.mktemp("maps"), *flags, "--demand-scale", "0.8:1.2") as run:
        run.finish()
        yield run


def test_a_run_on_two_scenarios_says_how_each_does(on_two_maps: TrainRun) -> None:
    assert re.search(r"single: 1 signal with \d+ green phases, .*\narterial: 5 signals with ", on_two_maps.output)
    for name in ("single", "arterial"):
        assert re.search(rf"{name}, unseen seeds\ncontroller .*\nfixed .*\npolicy ", on_two_maps.output)
    last = on_two_maps.metrics()[-1]
    delays = of_map(last, "delay")
    assert delays.keys() == {"single", "arterial"}
    assert last["delay"] == pytest.approx(sum(delays.values()) / 2)
    assert all(inked(on_two_maps.folder / "report.png", colour).any() for colour in ("blue", "orange"))


def test_its_report_is_of_each_scenario_as_it_is(on_two_maps: TrainRun) -> None:
    record = json.loads((on_two_maps.folder / "report.json").read_text())
    assert record["scenario"] == "single,arterial"
    assert "demand_scale" not in record
    assert record["scenarios"].keys() == {"single", "arterial"}
    for own in record["scenarios"].values():
        assert [one["controller"] for one in own["episodes"]] == ["fixed", "policy"]


def test_its_checkpoint_knows_the_rewards_of_each_scenario(on_two_maps: TrainRun) -> None:
    assert newest(on_two_maps.folder)["reward_scales"].keys() == {"single", "arterial"}


def test_a_run_goes_on_with_another_scenario_beside_its_own(finished: TrainRun, copy: Path, tmp_path: Path) -> None:
    before = newest(finished.folder)["reward_scales"]
    with TrainRun(tmp_path, "--resume", "--scenario", "arterial,single", "--total-decisions", "500") as run:
        run.finish()
        after = newest(copy)["reward_scales"]
        assert after.keys() == {"single", "arterial"}
        assert after["single"] == pytest.approx(before["single"], rel=0.5)
        assert of_map(run.metrics()[-1], "delay").keys() == {"single", "arterial"}


def test_two_ranks_with_a_scenario_each_learn_as_one(tmp_path: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", SCRIPT)
    flags = (*TWO, "--total-decisions", "400", "--num-envs", "1", "--batch-fragments", "2")
    with TrainRun(tmp_path, *flags, program=torchrun, environment={"OMP_NUM_THREADS": "1"}) as run:
        run.finish()
        one, other = digests(run.output)
        assert one == other
        assert of_map(run.metrics()[-1], "delay").keys() == {"single", "arterial"}, "only its own"
        assert newest(run.folder)["reward_scales"].keys() == {"single", "arterial"}


def test_a_run_on_two_scenarios_is_scaled(tmp_path: Path) -> None:
    with TrainRun(tmp_path, *TWO, "--num-collectors", "1", "--time-limit", "none", "--max-envs", "4") as run:
        run.wait_for_learning()
        for count in (4, 1, 3):
            assert steer(run.folder, "scale", str(count))[0]["num_envs"] == count
            rows = lambda: steer(run.folder, "status")[0]["collectors"]  # noqa: E731
            wait_for(lambda: sum(len(row["sumo"]) for row in rows()) == count, f"{count} simulations")  # noqa: B023
        decisions = run.metrics()[-1]["decisions"]
        run.wait_for(lambda: run.metrics()[-1]["decisions"] > decisions + 100, "learning after all that")
        run.press_ctrl_c()
        run.finish()


def test_a_checkpoint_acts_on_a_network_that_it_has_never_seen(
    finished: TrainRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on one signal; five signals with other numbers of phases. Nor does its own demand leak into that."""
    flags = ("--scenario", "arterial", "--seeds", "1", "--episode-seconds", "300", "--json")
    assert evaluate.main([*flags, "--controller", str(finished.folder), "--controller", "random"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert newest(finished.folder)["env"]["departure_jitter"] > 0
    assert (record["conditions"]["departure_jitter"], record["conditions"]["demand_scale"]) == (0.0, "1")
    policy, chance = record["episodes"]
    assert policy["departed"] > 20
    assert policy["delay"] != chance["delay"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process do not fight over cores with whatever else is going on."""
    monkeypatch.setattr(train_rl, "cores", lambda: 1)


def quick(folder: Path, *flags: str) -> list[str]:
    """A command line for ``train_rl.main``, whose run is in ``folder``."""
    return [*QUICK, "--run-dir", str(folder), *flags]


def test_the_same_seed_in_serial_mode_gives_the_same_weights_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(name: str, seed: int) -> tuple[list[str], dict[str, Any]]:
        flags = f"--num-collectors 0 --total-decisions 200 --fragment-length 8 --batch-fragments 4 --seed {seed}"
        assert train_rl.main(quick(tmp_path / name, *flags.split())) == 0
        return digests(capsys.readouterr().out), newest(tmp_path / name)

    (one, first), (again, second), (other, third) = train("one", 1), train("again", 1), train("other", 2)
    assert one == again
    assert one != other
    assert first["version"] == second["version"] > 3
    for name in ("decisions", "episodes", "seconds", "starts"):
        assert first["counters"][name] == second["counters"][name]
    assert first["reward_scales"] == second["reward_scales"] != third["reward_scales"]
    assert first["reward_scales"].keys() == {"single"}


# Ctrl-C

MOMENTS: dict[str, Callable[[TrainRun], None]] = {
    "while it imports": TrainRun.wait_until_it_listens,
    "while collectors start": lambda run: run.wait_for_output("run folder"),
    "while it learns": TrainRun.wait_for_learning,
}


@pytest.mark.parametrize(
    ("moment", "flags"),
    [
        ("while it imports", ""),
        ("while it imports", "--num-collectors 0"),
        ("while collectors start", ""),
        ("while collectors start", "--loader-workers 1"),
        ("while it learns", "--loader-workers 1"),
        ("while it learns", "--num-collectors 0"),
    ],
)
def test_ctrl_c_ends_with_a_checkpoint(tmp_path: Path, moment: str, flags: str) -> None:
    with TrainRun(tmp_path, *flags.split()) as run:
        MOMENTS[moment](run)
        run.press_ctrl_c()
        run.finish()
        if moment == "while it imports":
            assert "stopped on request, before anything had begun" in run.output
            assert not run.folder.exists()
            return
        assert f"stopped on request; --resume --run-dir {run.folder} goes on" in run.output.replace("\n", "")
        state = newest(run.folder)
        assert [checkpoints.digest(state["model"])] == digests(run.output)
        assert state["counters"]["decisions"] > 0 or moment != "while it learns"


def test_sigterm_ends_with_a_checkpoint_whoever_it_reaches(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--loader-workers", "1") as run:
        run.wait_for_learning()
        os.killpg(run.process.pid, signal.SIGTERM)
        run.finish()
        assert newest(run.folder)["counters"]["decisions"] > 0


def test_a_service_that_is_stopped_whole_ends_with_a_checkpoint(tmp_path: Path) -> None:
    """Every process is told to end, torchrun too, and that one tells its ranks once more."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", SCRIPT)
    flags = "--num-collectors 1 --time-limit none"
    with TrainRun(tmp_path, *flags.split(), program=torchrun, environment={"OMP_NUM_THREADS": "1"}) as run:
        run.wait_for_learning()
        for process in run.processes():
            process.terminate()
        run.process.wait(30)
        assert len(digests(run.output)) == 2
        assert newest(run.folder)["counters"]["decisions"] > 0
        run.assert_nothing_left()


@pytest.mark.parametrize("file", ["checkpoint", "report.json", "report.png"])
def test_a_disk_that_is_full_at_the_end_is_a_failure_and_no_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    def refuse(path: Path, *content: Any, **_: object) -> None:
        if path.name in (file, f"{file}s"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *content)

    write = closing.write_atomically
    monkeypatch.setattr(closing, "write_atomically", refuse)
    monkeypatch.setattr(closing, "learning_curve", refuse)
    if file == "checkpoint":
        monkeypatch.setattr("learner.checkpoints.write_atomically", lambda path, *_: refuse(path.parent))
    flags = ("--num-collectors", "0", "--total-decisions", "20", "--eval-seeds", "1")
    assert train_rl.main(quick(tmp_path / "run", *flags)) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"error: cannot write (checkpoint )?\S*{file}\S*: No space left on device.*\n", said)


def test_other_ranks_are_heard_too(capsys: pytest.CaptureFixture[str]) -> None:
    rank = SimpleNamespace(world=SimpleNamespace(is_first=False, rank=3))
    train_rl.Run._say(rank, "memory is short")  # type: ignore[arg-type]
    assert capsys.readouterr().err == "rank 3: memory is short\n"


def test_a_folder_for_temporary_files_may_have_a_long_name(tmp_path: Path) -> None:
    """Longer than the name of a socket may be."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with TrainRun(tmp_path, "--total-decisions", "50", environment={"TMPDIR": str(folder)}) as run:
        run.finish()
    assert not list(folder.iterdir())


def insist(run: TrainRun) -> None:
    """Press Ctrl-C until it ends; what comes within half a second of the first is the same request."""

    def ended() -> bool:
        run.press_ctrl_c()
        return run.process.poll() is not None

    wait_for(ended, "the end", 10.0)
    assert run.process.returncode == 130


def test_the_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    with TrainRun(tmp_path) as run:
        run.wait_until_it_listens()
        insist(run)
        assert "Traceback" not in run.errors
        run.assert_nothing_left()


def test_the_second_ctrl_c_takes_everything_along(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--loader-workers", "1") as run:
        run.wait_for_learning()
        collector = steer(run.folder, "status")[0]["collectors"][0]["pid"]
        os.kill(collector, signal.SIGSTOP)  # it would take its time
        insist(run)
        (run.folder / "control.sock").unlink(missing_ok=True)  # where it had no time for that
        run.assert_nothing_left()


def test_when_it_is_killed_everything_goes_and_the_folder_can_be_used_again(copy: Path, tmp_path: Path) -> None:
    flags = ("--resume", "--total-decisions", "100000", "--loader-workers", "1")
    with TrainRun(tmp_path, *flags) as run:
        run.wait_for(lambda: len(run.metrics()) > 4, "metrics")
        assert len(run.processes()) >= 6, "this, a forkserver, two collectors, two SUMOs, a loader"
        run.process.kill()
        run.process.wait(10)
        # Only what a path has to be given for stays: the socket in the run's folder.
        assert [path.name for path in run.folder.rglob("*") if path.is_socket()] == ["control.sock"]
        (run.folder / "control.sock").rename(tmp_path / "control.sock")
        run.assert_nothing_left()
    (tmp_path / "control.sock").rename(copy / "control.sock")
    with TrainRun(tmp_path, "--resume", "--total-decisions", "301") as again:
        again.finish()


# Resuming


def test_resume_goes_on_counting_where_it_stood(finished: TrainRun, copy: Path, tmp_path: Path) -> None:
    before = newest(finished.folder)
    with TrainRun(tmp_path, "--resume", "--total-decisions", "700") as run:
        run.finish()
        after = newest(copy)
        rows = run.metrics()
    old = len(finished.metrics())
    assert rows[:old] == finished.metrics()
    assert rows[old]["decisions"] >= before["counters"]["decisions"]
    assert after["counters"]["decisions"] >= 700
    assert after["version"] > before["version"]
    for name in ("episodes", "seconds", "trained", "starts"):
        assert after["counters"][name] > before["counters"][name]
    assert after["counters"]["seconds"] == 10 * after["counters"]["decisions"]
    assert config.from_yaml((copy / "config.yaml").read_text()).run.total_decisions == 700


def test_a_resumed_run_that_has_nothing_left_to_do_changes_nothing(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = newest(copy)
    assert train_rl.main(["--resume", "--run-dir", str(copy)]) == 0
    assert digests(capsys.readouterr().out) == [checkpoints.digest(before["model"])]
    assert newest(copy)["counters"]["decisions"] == before["counters"]["decisions"]


# Bad input: one line that names the setting or the file, exit code 2, and nothing in the way of the next attempt


def refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one line with which a run is refused."""
    capsys.readouterr()
    before = shared_names()
    assert train_rl.main(flags) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1, line
    assert_nothing_new(before)
    return line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--num-envs 0", "--num-envs 0: must be at least 1"),
        ("--num-envs four", "--num-envs four: must be a whole number"),
        ("--num-env 4", "did you mean --num-envs"),
        ("--scenario grid5x5", "did you mean grid4x4"),
        ("--scenario resco:cologne2", "cologne"),
        ("--scenario nowhere/a.sumocfg", "there is no such file"),
        ("--scenario .", "must be a SUMO configuration"),
        ("--config fastest", "unknown profile"),
        ("--num-envs 2 --num-collectors 3", "must be at most --num-envs 2"),
        ("--backend libsumo --num-envs 4 --num-collectors 2", "--num-collectors 4"),
        ("--num-collectors 0 --loader-workers 1", "--loader-workers"),
        ("--demand-scale 1.2:0.8", "--demand-scale 1.2:0.8: must be above 0"),
        ("--scenario single,arterial,grid4x4 --num-envs 2", "--num-envs 2: must be at least 3"),
        ("--scenario single,grid5x5", "did you mean grid4x4"),
        ("--scenario single,single", "named twice"),
        ("--scenario single,", "before or behind a comma"),
        ("--resume", "--run-dir"),
        ("--queue-size 100000000", "--queue-size"),
        ("--queue-size 1000000000000000", "--queue-size"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    base = () if "--scenario" in flags else ("--scenario", "single")
    folder = () if flags == "--resume" else ("--run-dir", "run")
    assert words in refusal(capsys, *base, *folder, *flags.split())
    assert not Path("run/config.yaml").exists(), "the next attempt would find another run there"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--device cuda" in refusal(capsys, *quick(tmp_path / "run", "--device", "cuda"))


def test_a_folder_that_cannot_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / (300 * "x")):
        assert f"--run-dir {folder}: cannot be a folder" in refusal(
            capsys, "--scenario", "single", "--run-dir", str(folder)
        )


def test_the_settings_of_a_run_can_begin_another(copy: Path) -> None:
    settings = config.load(["--config", str(copy / "config.yaml")])
    assert settings.run.run_dir is None
    assert not settings.run.resume
    assert settings.env.scenario == "single"


def write_scenario(folder: Path, net: str = "net.net.xml", routes: str = "<routes/>") -> Path:
    """A .sumocfg beside its demand."""
    (folder / "demand.rou.xml").write_text(routes)
    path = folder / "own.sumocfg"
    path.write_text(
        f'<configuration><net-file value="{net}"/><route-files value="demand.rou.xml"/><end value="100"/>'
        "</configuration>"
    )
    return path


def netgenerate(folder: Path, *options: str) -> None:
    command = [str(sumo.binary("netgenerate")), "--grid", "--grid.number=2", "--output-file=net.net.xml", *options]
    subprocess.run(command, cwd=folder, env=sumo.environment(), check=True, capture_output=True, timeout=30)


def test_a_network_without_signals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    netgenerate(tmp_path)
    config_file = write_scenario(tmp_path)
    line = refusal(capsys, "--scenario", str(config_file), "--run-dir", str(tmp_path / "run"))
    assert str(config_file) in line
    assert "traffic light" in line


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("configuration", "own.sumocfg"),
        ("network", "own.sumocfg"),
        ("missing network", "net.net.xml"),
        ("routes", "demand.rou.xml"),
        ("vehicle", "nowhere"),
    ],
)
def test_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str, words: str) -> None:
    netgenerate(tmp_path, "--default-junction-type=traffic_light")
    config_file = write_scenario(tmp_path)
    if broken == "configuration":
        config_file.write_text("<configuration><net-file")
    elif broken == "network":
        (tmp_path / "net.net.xml").write_text("<net><edge")
    elif broken == "missing network":
        (tmp_path / "net.net.xml").unlink()
    elif broken == "routes":
        (tmp_path / "demand.rou.xml").write_text("<routes><vehicle")
    else:
        write_scenario(
            tmp_path, routes='<routes><vehicle id="v" depart="0"><route edges="nowhere"/></vehicle></routes>'
        )
    assert words in refusal(capsys, "--scenario", str(config_file), "--run-dir", str(tmp_path / "run"))


def test_a_checkpoint_of_another_shape(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copy / "config.yaml").read_text()
    line = refusal(capsys, "--resume", "--run-dir", str(copy), "--hidden", "32")
    assert "another shape" in line
    assert (copy / "config.yaml").read_text() == before


def test_resuming_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--run-dir" in refusal(capsys, "--resume", "--run-dir", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_run(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert "--resume" in refusal(capsys, *quick(copy))
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_after_a_refusal_the_same_folder_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    for wrong in (["--queue-size", "100000000"], ["--scenario", "nowhere"]):
        refusal(capsys, *quick(folder, *wrong))
    assert train_rl.main(quick(folder, "--num-collectors", "0", "--total-decisions", "20")) == 0


def test_sumo_missing(tmp_path: Path) -> None:
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "sumo.py").write_text("")
    with TrainRun(tmp_path, environment={"PYTHONPATH": f"{tmp_path / 'shim'}:{ROOT}"}) as run:
        run.finish(2)
        assert run.errors.startswith("error: SUMO")
        assert "pip install" in run.errors
        assert run.errors.count("\n") == 1


TOO_LITTLE = {
    "descriptors": (
        ("prlimit", "--nofile=300:300"),
        r"error: \d+ open files are needed .* 300; .*ulimit -n .*--max-envs",
    ),
    "disk": (
        (*PRIVATE, "sh", "-c", 'mount -t tmpfs -o size=2m small "$0" && exec "$@"', "FOLDER"),
        r"error: \d+ MiB of disk are needed in .* are free on its file system; .*--run-dir",
    ),
    "shared memory": (
        (*PRIVATE, "sh", "-c", 'mount -t tmpfs -o size=1m small "$0" && exec "$@"', "/dev/shm"),
        r"error: /dev/shm is too small: \d+ MiB of shared memory are needed .*--shm-size",
    ),
}


@pytest.mark.parametrize("what", TOO_LITTLE)
def test_a_machine_that_has_too_little_is_said_before_anything_starts(tmp_path: Path, what: str) -> None:
    around, words = TOO_LITTLE[what]
    if "mount" in " ".join(around) and not may_mount():
        pytest.skip("mounting is not allowed here")
    folder = tmp_path / "run"
    if "FOLDER" in around:
        folder.mkdir()
    program = (*(str(folder) if word == "FOLDER" else word for word in around), sys.executable, SCRIPT)
    with TrainRun(tmp_path, program=program) as run:
        run.finish(2)
        assert re.match(words, run.errors), run.errors
        assert run.errors.count("\n") == 1
        assert ("FOLDER" in around) == folder.exists(), "a run that comes to nothing leaves no folder"


# Steering


def steer(folder: Path, *words: str) -> list[dict[str, Any]]:
    """What a run answers to ``python -m collectors``, by rank."""
    command = [sys.executable, "-m", "collectors", *words, "--run-dir", str(folder), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    replies: list[dict[str, Any]] = json.loads(done.stdout)
    return replies


def test_a_live_run_is_watched_paused_resumed_and_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainRun(tmp_path, "--num-collectors", "2", "--time-limit", "none") as run:
        run.wait_for_learning()
        (status,) = steer(run.folder, "status")
        assert status["state"] == "running"
        assert status["decisions"] > 0
        assert [row["envs"] for row in status["collectors"]] == [[0], [1]]
        assert "in use" in refusal(capsys, *quick(run.folder))
        assert "in use" in refusal(capsys, "--resume", "--run-dir", str(run.folder))

        (paused,) = steer(run.folder, "pause")
        assert paused["state"] == "paused"
        (later,) = steer(run.folder, "status")
        assert later["decisions"] == paused["decisions"]
        assert [row["sumo"] for row in later["collectors"]] == [row["sumo"] for row in status["collectors"]]
        run.wait_for(lambda: run.output.count("paused"), "the display says that it is paused")

        (resumed,) = steer(run.folder, "resume")
        assert resumed["state"] == "running"
        run.wait_for(lambda: run.metrics()[-1]["decisions"] > paused["decisions"], "learning after the pause")

        steer(run.folder, "stop")
        run.finish()
        assert newest(run.folder)["counters"]["decisions"] > paused["decisions"]


def test_ctrl_z_stops_it_like_any_job_and_it_goes_on(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--num-collectors", "2", "--time-limit", "none") as run:
        run.wait_for_learning()
        os.killpg(run.process.pid, signal.SIGTSTP)
        itself = psutil.Process(run.process.pid)
        wait_for(lambda: itself.status() == psutil.STATUS_STOPPED, "the stop")
        stood = [(process.pid, process.cpu_times()[:2]) for process in run.processes()]
        assert len(stood) >= 6, "this, a forkserver, two collectors, two SUMOs"
        rows = len(run.metrics())
        time.sleep(1.5)  # time itself is what must pass
        for pid, before in stood:
            assert sum(psutil.Process(pid).cpu_times()[:2]) - sum(before) <= 0.1, "somebody works on"
        os.killpg(run.process.pid, signal.SIGCONT)
        run.wait_for(lambda: len(run.metrics()) > rows + 2, "metrics after the stop")
        (status,) = steer(run.folder, "status")
        assert (status["state"], status["restarts"]) == ("running", 0)
        run.press_ctrl_c()
        run.finish()


def test_usr1_pauses_and_usr2_resumes(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--num-collectors", "2", "--time-limit", "none") as run:
        run.wait_for_learning()
        for number, state in ((signal.SIGUSR1, "paused"), (signal.SIGUSR2, "running")) * 2:
            os.killpg(run.process.pid, number)  # to all of its processes, as a job of a shell would be
            wait_for(lambda: steer(run.folder, "status")[0]["state"] == state, state)  # noqa: B023
        run.press_ctrl_c()
        run.finish()


def test_one_command_reaches_both_ranks(tmp_path: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", SCRIPT)
    flags = "--num-collectors 1 --time-limit none --max-envs 4"
    with TrainRun(tmp_path, *flags.split(), program=torchrun, environment={"OMP_NUM_THREADS": "1"}) as run:
        run.wait_for_learning()
        assert [reply["state"] for reply in steer(run.folder, "pause")] == ["paused", "paused"]
        assert [reply["num_envs"] for reply in steer(run.folder, "scale", "3")] == [3, 3]
        assert {reply["state"] for reply in steer(run.folder, "resume")} <= {"running", "starting"}
        wait_for(lambda: {reply["state"] for reply in steer(run.folder, "status")} == {"running"}, "both at work again")
        rank = steer(run.folder, "status")[1]["collectors"][0]["pid"]
        ranks = [process for process in run.processes() if SCRIPT in process.cmdline() and "-u" in process.cmdline()]
        assert len(ranks) == 2
        ranks[1].send_signal(signal.SIGUSR1)
        wait_for(lambda: {reply["state"] for reply in steer(run.folder, "status")} == {"paused"}, "both ranks paused")
        assert steer(run.folder, "status")[1]["collectors"][0]["pid"] == rank
        assert [reply["ok"] for reply in steer(run.folder, "stop")] == [True, True]
        run.finish()


def page(url: str, path: str, token: str | None = None, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a run's web page answers."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=10) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    return answer


def test_a_live_run_is_watched_and_steered_from_its_web_page(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--time-limit", "none", "--dashboard", "127.0.0.1:0") as run:
        run.wait_for_learning()
        found = re.search(r"web page (http://127\.0\.0\.1:\d+/)#token=(\S+)", run.output)
        assert found is not None
        url, token = found.groups()
        assert page(url, "healthz")["state"] == "learning"
        (rank,) = page(url, "api/status")["ranks"]
        assert rank["figures"]["decisions"] > 0
        assert page(url, "api/history")["history"]
        with urllib.request.urlopen(url + "metrics", timeout=10) as reply:
            assert b"platoon_decisions_total" in reply.read()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            page(url, "api/pause", body={})
        assert page(url, "api/pause", token, {})["replies"][0]["state"] == "paused"
        assert page(url, "api/scale", token, {"num_envs": 4})["replies"][0]["num_envs"] == 4
        assert page(url, "api/resume", token, {})["replies"][0]["ok"]
        wait_for(lambda: page(url, "healthz")["state"] == "learning", "learning again")
        rows = lambda: page(url, "api/status")["ranks"][0]["collectors"]  # noqa: E731
        wait_for(lambda: sum(len(row["sumo"]) for row in rows()) == 4, "the new simulations")
        run.press_ctrl_c()
        run.finish()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "192.0.2.1:8080", "127.0.0.1:1:2"])
def test_an_address_that_cannot_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert f"--dashboard {address}" in refusal(capsys, *quick(tmp_path / "run", "--dashboard", address))


# Surviving


def test_a_run_goes_on_without_a_sumo_and_without_a_collector_and_says_so(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--num-collectors", "2", "--time-limit", "none", "--poison") as run:
        run.wait_for_learning()
        before = steer(run.folder, "status")[0]["collectors"]
        os.kill(before[0]["sumo"][0], signal.SIGKILL)
        os.kill(before[1]["pid"], signal.SIGKILL)
        wait_for(lambda: steer(run.folder, "status")[0]["restarts"] == 2, "both losses")
        wait_for(lambda: all(row["sumo"] for row in steer(run.folder, "status")[0]["collectors"]), "two SUMOs")
        version = steer(run.folder, "status")[0]["version"]
        wait_for(lambda: steer(run.folder, "status")[0]["version"] > version + 3, "learning")
        run.press_ctrl_c()
        run.finish()
        assert "env 0: SUMO was ended by SIGKILL" in run.output
        assert "collector 1" in run.output
        assert "the next one starts in 0.5 s" in run.output


def test_a_run_that_gives_up_says_why_and_keeps_what_it_has_learned(tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--num-collectors", "1", "--time-limit", "none", "--restart-limit", "0") as run:
        run.wait_for_learning()
        os.kill(steer(run.folder, "status")[0]["collectors"][0]["sumo"][1], signal.SIGKILL)
        run.finish(1)
        assert run.errors.startswith("error: collector 0")
        assert "--restart-limit is 0" in run.errors
        assert "SIGKILL" in run.errors
        assert newest(run.folder)["counters"]["decisions"] > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_gives_up_with_loader_workers_leaves_nothing_either(tmp_path: Path, workers: int) -> None:
    flags = ("--num-collectors", "2", "--time-limit", "none", "--restart-limit", "0")
    with TrainRun(tmp_path, *flags, "--loader-workers", str(workers)) as run:
        run.wait_for_learning()
        os.kill(steer(run.folder, "status")[0]["collectors"][1]["sumo"][0], signal.SIGKILL)
        run.finish(1)
        assert "--restart-limit is 0" in run.errors
        assert newest(run.folder)["counters"]["decisions"] > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loader_worker_that_is_killed_ends_the_run_with_a_line(tmp_path: Path, workers: int) -> None:
    with TrainRun(tmp_path, "--num-collectors", "2", "--time-limit", "none", "--loader-workers", str(workers)) as run:
        run.wait_for_learning()
        collectors = [row["pid"] for row in steer(run.folder, "status")[0]["collectors"]]
        forkserver = psutil.Process(collectors[0]).parent()
        assert forkserver is not None
        loaders = [child for child in forkserver.children() if child.pid not in collectors]
        assert len(loaders) == workers
        loaders[-1].kill()
        run.finish(1)
        assert re.match(rf"error: loader worker \d \(process {loaders[-1].pid}\) has died: ", run.errors)
        assert newest(run.folder)["counters"]["decisions"] > 0


def test_a_run_goes_on_with_other_numbers_of_simulations_and_ranks(
    finished: TrainRun, copy: Path, tmp_path: Path
) -> None:
    before = newest(finished.folder)["counters"]["decisions"]
    flags = ("--resume", "--num-envs", "3", "--num-collectors", "1", "--backend", "traci", "--total-decisions", "500")
    with TrainRun(tmp_path, *flags) as run:
        run.finish()
        assert f"goes on from {copy}/checkpoints/" in run.output
        assert f": {before:,} decisions" in run.output
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", SCRIPT)
    more = ("--resume", "--num-envs", "1", "--total-decisions", "800")
    with TrainRun(tmp_path, *more, program=torchrun, environment={"OMP_NUM_THREADS": "1"}) as run:
        run.finish()
    counters = newest(copy)["counters"]
    assert counters["decisions"] >= 800
    assert counters["starts"] == 3
