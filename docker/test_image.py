"""The image as its users have it: built from the repository, run, steered, stopped and gone on with."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from docker.containers import SHARED, Container, Engine
from tests.support.waiting import wait_for

USER = "10001:10001"
LARGEST = 2.2e9  # bytes of the image with the CPU build of torch
STALL = 5  # s, --stall-limit of the run that is looked at
PATIENCE = 4 * STALL  # s without progress after which it is unhealthy
SHORT = ("--eval-seeds", "0", "--num-envs", "2")  # as far as what is not tested here goes


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The engine, whose containers and volumes end with the tests."""
    made = Engine(request.config.getoption("--engine"), request.config.getoption("--image"))
    yield made
    made.remove_all()


def python(engine: Engine, code: str) -> str:
    """What a line of Python prints in there."""
    answer = engine.run("-c", code, options=("--network", "none", "--entrypoint", "python"))
    assert answer.code == 0, answer.said
    return answer.out.strip()


def test_it_is_small_and_names_a_user_by_number(engine: Engine) -> None:
    assert engine.about_image()["Config"]["User"] == USER
    # Engines do not agree on what an image's size is: its files', those of its layers, or compressed.
    count = ("--apparent-size", "--block-size=1", "--one-file-system", "--summarize", "/")
    counted = engine.run(*count, options=("--network", "none", "--user", "0", "--entrypoint", "du"))
    size = int(counted.out.split()[0])
    assert size > 1e9, counted.said
    if python(engine, "import torch; print(torch.version.cuda)") == "None":
        assert size <= LARGEST


def test_it_has_no_compiler_and_installs_nothing(engine: Engine) -> None:
    tools = ("gcc", "cc", "g++", "clang", "make", "pip", "pip3")
    found = python(engine, f"import shutil; print([tool for tool in {tools} if shutil.which(tool)])")
    assert found == "[]"


def test_a_short_run_locked_in_ends_with_its_table(engine: Engine) -> None:
    ended = engine.run("--time-limit", "20", "--eval-seeds", "1", options=engine.locked, limit=300)
    assert ended.code == 0, ended.said
    fixed, policy = (re.search(rf"^{name} +(\d+\.\d)", ended.out, re.MULTILINE) for name in ("fixed", "policy"))
    assert fixed is not None
    assert policy is not None
    assert 80 < float(fixed[1]) < 100  # s of delay on the default scenario
    assert float(policy[1]) > 0


@pytest.mark.parametrize("scenario", ["single", "resco:cologne1"])
def test_other_scenarios_are_there_and_libsumo_too(engine: Engine, scenario: str) -> None:
    flags = ("--scenario", scenario, "--backend", "libsumo", "--total-decisions", "200", *SHORT)
    ended = engine.run(*flags, options=engine.locked, limit=300)
    assert ended.code == 0, ended.said


def test_controllers_are_judged_by_the_same_image(engine: Engine) -> None:
    judged = engine.run(
        "evaluate", "--scenario", "single", "--controller", "fixed", "--seeds", "1", "--json", options=engine.locked
    )
    assert judged.code == 0, judged.said
    assert "delay" in json.dumps(json.loads(judged.out))


def test_tensorboard_is_in_it(engine: Engine) -> None:
    shown = engine.run("--version_tb", options=(*engine.locked, "--entrypoint", "tensorboard"))
    assert shown.code == 0, shown.said
    assert re.search(r"^\d+\.\d+", shown.out, re.MULTILINE) is not None, shown.said


def test_each_container_steers_its_own_run_on_a_volume_that_others_share(engine: Engine) -> None:
    shared = (*SHARED, "--volume", f"{engine.volume()}:/data/runs")
    first, second = (engine.start("--time-limit", "none", *SHORT, options=shared) for _ in range(2))
    first.wait_until_it_learns()
    second.wait_until_it_learns()
    assert "paused" in first.do("platoon", "pause").out
    assert (first.status()["state"], second.status()["state"]) == ("paused", "running")
    for container in (first, second):
        container.stop()


def test_too_little_shared_memory_is_refused_with_the_flag_that_helps(engine: Engine) -> None:
    large = ("--slot-vehicles", "20000", "--time-limit", "1", *SHORT)
    refused = engine.run(*large, options=("--shm-size", "64m"))
    assert refused.code == 2, refused.said
    wanted = re.search(r"docker run --shm-size (\d+)m", refused.said)
    assert wanted is not None, refused.said
    enough = engine.run(*large, options=("--shm-size", f"{wanted[1]}m"))
    assert enough.code == 0, enough.said


def test_going_on_needs_a_run_to_go_on_with(engine: Engine) -> None:
    refused = engine.run("--resume", options=engine.locked)
    assert (refused.code, "--run-dir" in refused.err) == (2, True), refused.said


def test_limits_of_memory_and_processors_are_what_defaults_look_at(engine: Engine) -> None:
    run = engine.start(*SHORT, options=("--memory", "1500m", "--cpus", "1", *SHARED))
    run.wait_until_it_learns()
    status = run.status()
    assert status["figures"]["memory_budget"] == pytest.approx(0.8 * 1500 * 2**20, rel=0.01)
    assert len(status["collectors"]) == 1
    run.stop()


# One run in a container, from its start to its end, and on in another container: what follows goes on where it stands.


@pytest.fixture(scope="module")
def volume(engine: Engine) -> str:
    return engine.volume()


@pytest.fixture(scope="module")
def options(engine: Engine, volume: str) -> tuple[str, ...]:
    return (*engine.locked, "--volume", f"{volume}:/data/runs", "--env", "PLATOON_RUN=main")


@pytest.fixture(scope="module")
def run(engine: Engine, options: tuple[str, ...]) -> Container:
    started = engine.start("--time-limit", "none", "--stall-limit", str(STALL), *SHORT, options=options)
    started.wait_until_it_learns()
    return started


def test_it_runs_as_nobody_in_particular(run: Container) -> None:
    assert run.do("sh", "-c", "echo $(id -u):$(id -g)").out.strip() == USER
    assert run.do("sh", "-c", "echo x > /opt/platoon/x").code != 0


def test_loops_are_not_compiled_again(run: Container) -> None:
    assert run.do("diff", "-rq", "/opt/prepared", "/tmp/platoon").said == ""


def test_it_is_healthy_while_it_learns(run: Container) -> None:
    wait_for(run.is_healthy, "health", 60)
    answer = run.do("platoon", "health")
    assert (answer.code, "learning" in answer.out) == (0, True), answer.said


def test_paused_it_makes_no_decisions_and_is_healthy(run: Container) -> None:
    assert "paused" in run.do("platoon", "pause").out
    before = run.decisions()
    time.sleep(1.1 * PATIENCE)  # it would hang by now if it did not rest
    answer = run.do("platoon", "health")
    assert (answer.code, "paused" in answer.out) == (0, True), answer.said
    assert run.is_healthy()
    assert run.decisions() == before
    assert run.do("platoon", "resume").code == 0
    run.wait_for_progress()


def test_it_is_scaled(run: Container) -> None:
    assert run.do("platoon", "scale", "3").code == 0
    wait_for(lambda: sum(len(row["sumo"]) for row in run.status()["collectors"]) == 3, "three simulations")
    run.wait_for_progress()


def test_the_engine_s_own_pause_is_survived(engine: Engine, run: Container) -> None:
    before = run.status()
    assert engine.ask("pause", run.name).code == 0
    time.sleep(2 * STALL)
    assert engine.ask("unpause", run.name).code == 0
    run.wait_for_progress()
    assert run.status()["restarts"] == before["restarts"]


def test_a_simulation_that_dies_is_replaced(run: Container) -> None:
    pid = run.status()["collectors"][0]["sumo"][0]
    assert run.do("sh", "-c", f"kill -KILL {pid}").code == 0
    wait_for(lambda: run.status()["restarts"] == 1, "a restart")
    run.wait_for_progress()


def test_what_others_leave_behind_is_reaped(run: Container) -> None:
    orphan = run.do("sh", "-c", "sleep 10 >/dev/null 2>&1 & echo $!").out.strip()
    parent = run.do("sh", "-c", f"cut -d ' ' -f 4 /proc/{orphan}/stat")
    assert parent.out.strip() == "1", parent.said
    wait_for(lambda: run.do("test", "-e", f"/proc/{orphan}").code != 0, "its end, and that of its entry", 30)


def test_one_that_answers_no_more_is_unhealthy_until_it_goes_on(run: Container) -> None:
    learner = run.do(
        "python",
        "-c",
        "import psutil; print(next(p.pid for p in psutil.process_iter(['cmdline'])"
        " if p.info['cmdline'][1:2] == ['/opt/platoon/train_rl.py']))",
    ).out.strip()
    assert run.do("sh", "-c", f"kill -STOP {learner}").code == 0
    answer = run.do("platoon", "health")
    assert answer.code != 0, answer.said
    wait_for(lambda: not run.is_healthy(), "the health check's notice", 120)
    assert run.do("sh", "-c", f"kill -CONT {learner}").code == 0
    run.wait_for_progress()
    wait_for(run.is_healthy, "health", 60)


def test_term_ends_it_with_a_checkpoint_and_code_0(run: Container) -> None:
    run.stop()
    assert (run.ended(), run.code()) == (True, 0), run.said()
    assert "--resume --run-dir runs/main goes on" in run.said()


def test_another_container_goes_on_with_it(engine: Engine, run: Container, options: tuple[str, ...]) -> None:
    assert run.ended()  # by the test before
    second = engine.start("--eval-seeds", "0", options=options)
    second.wait_until_it_learns()
    went_on = re.search(r"goes on from runs/main/checkpoints/\S+: ([\d,]+) decisions", second.said())
    assert went_on is not None, second.said()
    assert int(went_on[1].replace(",", "")) > 0
    second.stop()
    assert second.code() == 0, second.said()


def test_several_ranks_end_with_a_checkpoint_and_code_0_too(engine: Engine) -> None:
    ranks = ("torchrun", "--nproc-per-node", "2", "/opt/platoon/train_rl.py", "--run-dir", "runs/ranks")
    container = engine.start(*ranks, "--time-limit", "none", *SHORT, options=engine.locked)
    container.wait_until_it_learns()
    container.stop()
    assert (container.ended(), container.code()) == (True, 0), container.said()
    assert "--resume --run-dir runs/ranks goes on" in container.said()
