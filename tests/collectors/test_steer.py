"""The command line against real control servers with stand-ins for a run's commands."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors import steer
from collectors.control import ControlServer
from collectors.errors import ControlError
from collectors.steer import main
from collectors.wire import socket_name


class Rank:
    """One rank's side of a run: keeps the requests, answers as a run would."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.state = "running"
        self.rank = rank
        commands = dict.fromkeys(("status", "scale", "stop"), self.status)
        commands |= {"pause": self.pause, "resume": self.resume, "health": self.health}
        folder.mkdir(parents=True, exist_ok=True)
        self.server = ControlServer(folder, socket_name(rank), commands)

    def status(self, message: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(message)
        collector = {"collector": 0, "pid": 4711, "sumo": [4712, 4713], "state": self.state, "envs": [0, 2]}
        return {
            "state": self.state,
            "rank": self.rank,
            "decisions": 123456,
            "episodes": 3,
            "simulated_seconds": 12340.0,
            "version": 17,
            "restarts": 3,
            "queue": {"free": 3, "writing": 4, "ready": 1, "reading": 0},
            "collectors": [{**collector, "decisions": 61728, "episodes": 2, "version": 16, "restarts": 3}],
        }

    def pause(self, message: dict[str, Any]) -> dict[str, Any]:
        if 9 in message.get("collectors", []):
            raise ControlError("no collector 9; there is only 0")
        self.state = "paused"
        return self.status(message)

    def resume(self, message: dict[str, Any]) -> dict[str, Any]:
        self.state = "running"
        return self.status(message)

    def health(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "rank": self.rank,
            "healthy": self.state != "hanging",
            "state": self.state,
            "seconds_since_progress": 75.4,
        }


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rank]:
    """A run in ./runs/demo."""
    monkeypatch.chdir(tmp_path)
    started = Rank(tmp_path / "runs" / "demo")
    with started.server:
        yield started


def leave_socket(folder: Path, rank: int = 0) -> None:
    """What a killed run leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / socket_name(rank)))


@pytest.mark.usefixtures("rank")
def test_status_shows_counters_queue_and_collectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, second, *table = out.splitlines()
    counters = "123,456 decisions · 3 episodes · 12,340 simulated s · version 17 · 3 restarts"
    assert first == f"runs/demo, rank 0: running · {counters}"
    assert second == "slots: 3 free, 4 writing, 1 ready, 0 reading"
    cells = [re.split(r"\s*│\s*", line.strip())[1:-1] for line in table if "4711" in line]
    assert cells == [["0", "running", "0 2", "61,728", "2", "16", "3", "4711", "4712 4713"]]


def test_json_is_a_list_with_the_replies(rank: Rank, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", "--run-dir", "runs/demo"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"ok": True, **rank.status({})}]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["pause"], {"command": "pause"}),
        (["pause", "0", "2"], {"command": "pause", "collectors": [0, 2]}),
        (["pause", "--for", "10m"], {"command": "pause", "seconds": 600.0}),
        (["pause", "1", "--for", "1.5"], {"command": "pause", "collectors": [1], "seconds": 1.5}),
        (["resume", "1"], {"command": "resume", "collectors": [1]}),
        (["scale", "8"], {"command": "scale", "num_envs": 8}),
        (["stop"], {"command": "stop"}),
    ],
)
def test_requests_reach_the_run_as_agreed(rank: Rank, arguments: list[str], sent: dict[str, Any]) -> None:
    assert main(arguments) == 0
    assert rank.requests == [sent]


@pytest.mark.usefixtures("rank")
def test_pause_shows_the_state_that_was_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause"]) == 0
    assert "rank 0: paused" in capsys.readouterr().out
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == "runs/demo, rank 0: will stop after the present step\n"


@pytest.mark.parametrize(("state", "code"), [("learning", 0), ("paused", 0), ("hanging", 1)])
def test_health_is_one_line_and_code_1_where_the_run_hangs(
    rank: Rank, state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rank.state = state
    assert main(["health"]) == code
    assert capsys.readouterr() == (f"runs/demo, rank 0: {state}; 75 s since the last progress\n", "")


def test_a_run_is_no_healthier_than_each_of_its_ranks(rank: Rank, tmp_path: Path) -> None:
    other = Rank(tmp_path / "runs" / "demo", rank=1)
    with other.server:
        assert main(["health"]) == 0
        other.state = "hanging"
        assert main(["health"]) == 1


@pytest.mark.usefixtures("rank")
def test_an_error_of_the_run_is_one_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pause", "9"]) == 1
    assert capsys.readouterr() == ("", "pause, rank 0: no collector 9; there is only 0\n")
    assert main(["pause", "9", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [{"rank": 0, "ok": False, "error": "no collector 9; there is only 0"}]


def test_a_command_goes_to_all_ranks_and_dead_ones_are_said(
    rank: Rank, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "demo"
    leave_socket(folder, rank=2)
    other = Rank(folder, rank=1)
    with other.server:
        assert main(["pause", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [(reply["rank"], reply["state"]) for reply in json.loads(out)] == [(0, "paused"), (1, "paused")]
    assert len(rank.requests) == len(other.requests) == 1
    assert err.startswith("one rank is left out: no run is answering in runs/demo: control.rank2.sock is left from")


def test_all_ranks_are_asked_before_one_is_awaited(tmp_path: Path) -> None:
    """Ranks that can only answer together, as they do where a pause waits for a step of them all."""
    meeting = threading.Barrier(2, timeout=10)

    def pause(message: dict[str, Any]) -> dict[str, Any]:
        meeting.wait()
        return {"state": "paused"}

    with contextlib.ExitStack() as stack:
        for number in range(2):
            stack.enter_context(ControlServer(tmp_path, socket_name(number), {"pause": pause}))
        assert main(["pause", "--run-dir", str(tmp_path)]) == 0


def test_the_newest_run_that_answers_is_meant(rank: Rank, tmp_path: Path) -> None:
    older, newer, dead = (tmp_path / "runs" / name for name in ("older", "newer", "dead"))
    old, new = Rank(older), Rank(newer)
    leave_socket(dead)
    (tmp_path / "runs" / "a file").touch()
    for folder, when in ((older, 1000), (tmp_path / "runs" / "demo", 2000), (newer, 3000), (dead, 4000)):
        os.utime(folder / socket_name(0), (when, when))
    with old.server:
        with new.server:
            assert main(["resume"]) == 0
        assert main(["pause"]) == 0
    assert [request["command"] for request in new.requests] == ["resume"]
    assert [request["command"] for request in rank.requests] == ["pause"]
    assert old.requests == []


def test_no_run_is_one_line_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ended").mkdir()
    leave_socket(tmp_path / "died")
    for arguments, line in (
        ([], f"no run is answering in any folder of {tmp_path}/runs; name its folder with --run-dir\n"),
        (["--run-dir", "missing"], "no run is answering in missing: there is no such folder\n"),
        (["--run-dir", "ended"], "no run is answering in ended: it has no control.sock\n"),
        (["--run-dir", "died"], "no run is answering in died: control.sock is left from a run that has died\n"),
    ):
        assert main(["status", *arguments]) == 2
        assert capsys.readouterr() == ("", line)


WRONG = "|halt|pause x|pause -1|pause --for|pause --for 0|pause --for 3d|status 0|stop 0|scale|scale 0|scale 2 3"


@pytest.mark.parametrize("arguments", [text.split() for text in WRONG.split("|")])
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_does_not_answer_is_named_and_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steer, "PATIENCE", 0.2)
    with socket.socket(socket.AF_UNIX) as stopped:  # listens, but nobody accepts: a process that was stopped
        stopped.bind(str(tmp_path / "control.sock"))
        stopped.listen()
        assert main(["status", "--run-dir", str(tmp_path)]) == 1
    error = f"status, rank 0: no run is answering in {tmp_path}: no reply from control.sock within 0.2 s\n"
    assert capsys.readouterr() == ("", error)


def test_watching_ends_with_the_run(rank: Rank, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    looks = 0

    def look_away(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            rank.server.close()

    monkeypatch.setattr(steer.time, "sleep", look_away)
    assert main(["status", "--watch", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)[0]["decisions"] for line in out.splitlines()] == [123456] * 3
    assert err.count("\n") == 1
    assert main(["status", "--watch"]) == 2, "nobody was there to be watched"


@pytest.mark.usefixtures("rank")
def test_somebody_watches_at_a_terminal_until_ctrl_c(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "collectors", "status", "--watch"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as watcher:
        os.close(theirs)
        try:
            shown = ""
            while shown.count("123,456") < 2:  # drawn, and drawn anew
                assert select.select([ours], [], [], 30.0)[0], shown
                shown += os.read(ours, 65536).decode()
            watcher.send_signal(signal.SIGINT)
            assert watcher.wait(30) == 0
        finally:
            watcher.kill()
            os.close(ours)
    assert "Traceback" not in shown


@pytest.mark.usefixtures("rank")
def test_who_reads_a_watch_may_have_enough(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "collectors", "status", "--watch", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        try:
            assert watcher.stdout.read(10)
            watcher.stdout.close()
            assert (watcher.wait(30), watcher.stderr.read()) == (0, "")
        finally:
            watcher.kill()


@pytest.mark.usefixtures("rank")
def test_the_module_runs_as_a_command_and_imports_no_torch(tmp_path: Path) -> None:
    script = "import runpy, sys\ntry: runpy.run_module('collectors', run_name='__main__')\n"
    script += "finally: assert 'torch' not in sys.modules"
    for command in (["-m", "collectors"], ["-c", script]):
        done = subprocess.run(
            [sys.executable, *command, "status", "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)[0]["state"] == "running"
