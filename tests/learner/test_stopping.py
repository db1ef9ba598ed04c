from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from learner.stopping import StopRequest, StopRequestedError
from tests.support.waiting import wait_for

LISTENING = """
import os, signal, sys, threading, time
for number in (signal.SIGHUP, signal.SIGTSTP):
    signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have used nohup
from learner.stopping import StopRequest
stop = StopRequest()

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def until(condition):
    while not condition():
        time.sleep(0.001)

"""
# Says when it has been asked, while its main thread waits in C for good and no handler of Python's would ever run.
DEAF = """
import ctypes
def tell():
    until(lambda: stop.requested)
    say("asked")
stop.install()
threading.Thread(target=tell, daemon=True).start()
say("installed")
mutex = ctypes.create_string_buffer(64)
while True:
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""
# Says what it is told to do, from the time on when it has been asked to stop.
STEERED = """
stop.install()
say("installed")
until(lambda: stop.requested)
def resume():
    say("resume")
    raise ValueError("this one cannot")
stop.steer(pause=lambda: say("pause"), resume=resume)
sys.stdin.read()
"""
SLOW = """
stop.install()
stop.steer(pause=lambda: (say("pausing"), time.sleep(60)), resume=lambda: say("resumed"))
say("installed")
while True:
    time.sleep(60)
"""
SUSPENDED = """
stop.install()
say("installed")
while True:
    until(lambda: stop.suspend_requested)
    say("asked")
    if sys.argv[1:] == ["late"]:
        time.sleep(60)
    stop.suspend()
    say("continued", stop.suspend_requested)
"""

Program = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def program() -> Iterator[Program]:
    """Starts a process that listens, and waits until it does."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, before: str = "") -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", LISTENING + before + code, *arguments]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        assert heard(process) == "installed"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def insist(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """Send a signal until it ends the process; returns how it ended."""

    def ended() -> bool:
        process.send_signal(number)
        return process.poll() is not None

    wait_for(ended, "the end", 10.0)
    return int(process.returncode)


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Until the process is stopped, the way a shell notices it."""

    def stopped() -> bool:
        pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        return pid != 0 and os.WIFSTOPPED(status)

    wait_for(stopped, "the process to be stopped")


def test_inside_the_program() -> None:
    stop = StopRequest()
    assert not stop.requested
    stop.request()
    stop.request()
    assert stop.requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends_whatever_the_main_thread_does(
    program: Program, number: signal.Signals, second: signal.Signals
) -> None:
    process = program(DEAF)
    process.send_signal(number)
    assert heard(process) == "asked"
    assert process.poll() is None
    assert insist(process, second) == 128 + second


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_what_comes_within_a_moment_is_one_request(monkeypatch: pytest.MonkeyPatch, second: signal.Signals) -> None:
    """A whole service is told to stop: torchrun and its ranks, and torchrun tells its ranks once more."""
    now, ended = [100.0], list[int]()
    monkeypatch.setattr("learner.stopping.time.monotonic", lambda: now[0])
    monkeypatch.setattr("learner.stopping.os._exit", ended.append)
    stop = StopRequest()
    stop.request()  # over the socket, say
    for now[0] in (200.0, 200.1, 200.4):
        stop._act_on(second)
    assert stop.requested
    assert ended == []
    now[0] = 200.6
    stop._act_on(second)
    assert ended == [128 + second]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_its_cursor_again(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    now, written, ended = [100.0], list[tuple[int, bytes]](), list[int]()
    monkeypatch.setattr("learner.stopping.time.monotonic", lambda: now[0])
    monkeypatch.setattr("learner.stopping.os.isatty", lambda descriptor: terminal and descriptor == 1)
    monkeypatch.setattr("learner.stopping.os.write", lambda *what: written.append(what))
    monkeypatch.setattr("learner.stopping.os._exit", ended.append)
    stop = StopRequest()
    for now[0] in (100.0, 101.0):
        stop._act_on(signal.SIGINT)
    assert written == ([(1, b"\x1b[?25h\n")] if terminal else [])
    assert ended == [130]


def test_a_closing_terminal_may_say_so_often(program: Program) -> None:
    process = program(DEAF)
    process.send_signal(signal.SIGHUP)
    assert heard(process) == "asked"
    for _ in range(1000):
        process.send_signal(signal.SIGHUP)
    assert insist(process, signal.SIGTERM) == 128 + signal.SIGTERM
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTSTP"])
def test_what_a_shell_has_ignored_stays_ignored(program: Program, name: str) -> None:
    ignored = f"signal.signal(signal.{name}, signal.SIG_IGN)\n"
    process = program("stop.install()\nsay('installed')\nsys.stdin.read()\n", before=ignored)
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    assert int(lines["SigIgn"], 16) >> (getattr(signal, name) - 1) & 1
    assert not int(lines["SigCgt"], 16) >> (getattr(signal, name) - 1) & 1


def test_a_background_job_of_a_script_can_be_interrupted(program: Program) -> None:
    process = program(DEAF, before="signal.signal(signal.SIGINT, signal.SIG_IGN)\n")
    process.send_signal(signal.SIGINT)
    assert heard(process) == "asked"


def test_orders_come_in_order_and_the_last_from_before_is_remembered(program: Program) -> None:
    process = program(STEERED)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1, signal.SIGHUP):
        process.send_signal(number)
        wait_for(lambda: not pending(process.pid), "the signal to arrive")
    assert heard(process) == "pause"
    for number in (signal.SIGUSR2, signal.SIGUSR1) * 3:  # one that is pending already would not be counted again
        process.send_signal(number)
        assert heard(process) == ("pause" if number == signal.SIGUSR1 else "resume")
    _, errors = process.communicate()
    assert process.returncode == 0
    assert errors.count("SIGUSR2 could not be followed") == errors.count("ValueError: this one cannot") == 3


def test_a_slow_answer_to_an_order_delays_nothing_else(program: Program) -> None:
    process = program(SLOW)
    process.send_signal(signal.SIGUSR1)
    assert heard(process) == "pausing"
    process.send_signal(signal.SIGUSR2)
    assert insist(process, signal.SIGTERM) == 128 + signal.SIGTERM
    assert process.stdout is not None
    assert process.stdout.read() == ""


def test_ctrl_z_stops_it_when_it_is_ready_and_sigcont_goes_on(program: Program) -> None:
    process = program(SUSPENDED)
    for _ in range(2):
        process.send_signal(signal.SIGTSTP)
        assert heard(process) == "asked"
        wait_until_stopped(process)
        process.send_signal(signal.SIGCONT)
        assert heard(process) == "continued False"


def test_whoever_does_not_get_round_to_suspending_is_stopped_by_the_second_ctrl_z(program: Program) -> None:
    process = program(SUSPENDED, "late")
    process.send_signal(signal.SIGTSTP)
    assert heard(process) == "asked"
    process.send_signal(signal.SIGTSTP)
    wait_until_stopped(process)
    process.send_signal(signal.SIGCONT)
    assert insist(process, signal.SIGINT) == 128 + signal.SIGINT


def test_a_signal_to_a_child_between_fork_and_exec_is_not_ours(program: Program) -> None:
    process = program(
        "import subprocess\n"
        "stop.install()\n"
        "forked = lambda: os.kill(os.getpid(), signal.SIGTERM)\n"
        "subprocess.run(['true'], preexec_fn=forked)\n"
        "say('installed')\n"
        "signal.raise_signal(signal.SIGHUP)\n"
        "until(lambda: stop.requested)\n"
        "say('asked')\n"
        "sys.stdin.read()\n"
    )
    assert heard(process) == "asked"
    process.communicate()
    assert process.returncode == 0


def pending(pid: int) -> bool:
    """Whether a signal waits for a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("ShdPnd:", "SigPnd:")))


def test_something_long_can_be_left() -> None:
    stop = StopRequest()
    stop.raise_if_requested()
    stop.request()
    with pytest.raises(StopRequestedError):
        stop.raise_if_requested("an episode", 3)
