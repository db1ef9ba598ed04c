from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from learner.stopping import StopRequest, StopRequestedError

PROGRAM = """
import os, signal
from learner.stopping import StopRequest
noted, note = os.pipe()  # unlike signal.pause(), it also tells of a signal that came a moment before one waits
os.set_blocking(note, False)
signal.set_wakeup_fd(note)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have used nohup
stop = StopRequest()
stop.install()
print("installed", stop.requested, flush=True)
while os.read(noted, 1):
    print("asked", stop.requested, flush=True)
"""


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    """A process that listens, and says so whenever a signal has come."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def heard(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def test_inside_the_program() -> None:
    stop = StopRequest()
    assert not stop.requested
    stop.request()
    stop.request()
    assert stop.requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(
    program: subprocess.Popen[str], number: signal.Signals, second: signal.Signals
) -> None:
    assert heard(program) == "installed False"
    program.send_signal(number)
    assert heard(program) == "asked True"
    assert program.poll() is None
    program.send_signal(second)
    assert program.wait(10) == 128 + second


def test_a_closing_terminal_may_say_so_twice(program: subprocess.Popen[str]) -> None:
    assert heard(program) == "installed False"
    for _ in range(2):
        program.send_signal(signal.SIGHUP)
        assert heard(program) == "asked True"
    assert program.poll() is None


@pytest.mark.parametrize(("name", "asked"), [("SIGHUP", "False"), ("SIGINT", "True")])
def test_nohup_is_respected_and_a_background_job_can_be_interrupted(name: str, asked: str) -> None:
    check = (
        f"import signal; from learner.stopping import StopRequest; signal.signal(signal.{name}, signal.SIG_IGN);"
        f"stop = StopRequest(); stop.install(); signal.raise_signal(signal.{name}); print(stop.requested)"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.strip() == asked


def test_something_long_can_be_left() -> None:
    stop = StopRequest()
    stop.raise_if_requested()
    stop.request()
    with pytest.raises(StopRequestedError):
        stop.raise_if_requested("an episode", 3)
