"""What becomes of a run's processes when it is killed, and of what keeps them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from buffers.children import end_helpers, killed_after, start_forkserver, without_main
from tests.buffers.workers import do_nothing
from tests.processes import LIMIT
from tests.support.leftovers import bearers, marked
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]

# A child that keeps the interpreter's lock, so that none of its threads gets a turn.
RUN = """
import multiprocessing, sys, time
from buffers.children import start_forkserver, without_main
from tests.buffers.workers import hold_the_interpreter

server = start_forkserver([])
ours, theirs = multiprocessing.get_context("forkserver").Pipe()
with without_main():
    multiprocessing.get_context("forkserver").Process(target=hold_the_interpreter, args=(theirs, server)).start()
ours.recv()
print(server, flush=True)
time.sleep(60)
"""


def test_a_child_whose_threads_get_no_turn_ends_with_the_parent(tmp_path: Path) -> None:
    environment, mark = marked({**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: not bearers(mark), "the end of all its processes", 5.0)
    assert list(tmp_path.iterdir()) == [], "something is left"


def test_who_still_imports_when_the_parent_is_killed_ends_with_it(tmp_path: Path) -> None:
    environment, mark = marked({**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)})
    program = "import time; from buffers.children import start_forkserver; start_forkserver(['tests.buffers.slow'])"
    with subprocess.Popen([sys.executable, "-c", f"{program}; time.sleep(60)"], cwd=ROOT, env=environment) as parent:

        def imports() -> bool:
            """Whether the forkserver has come so far that it watches."""
            return any("forkserver" in " ".join(one.cmdline()) and one.num_threads() > 1 for one in bearers(mark))

        wait_for(imports, "the import")
        parent.kill()
    wait_for(lambda: not bearers(mark), "the end of all its processes", 5.0)


def start_a_child() -> None:
    start_forkserver([])
    with without_main():
        process = multiprocessing.get_context("forkserver").Process(target=do_nothing, daemon=True)
        process.start()
    process.join(LIMIT)
    assert process.exitcode == 0


def test_the_forkservers_socket_has_no_name_that_could_be_removed_or_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("a_long_name" * 12)  # too long for a socket in it
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    before = start_forkserver([])
    assert start_forkserver([]) == before
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    after = start_forkserver(["tests.buffers.workers"])
    assert after != before
    assert list(deep.iterdir()) == []
    start_a_child()
    end_helpers()
    start_a_child()
    end_helpers()  # so that those who come later have the one that they want


def hear_nothing_of(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, as for an answer that it never gave."""
    process.wait(10)
    raise EOFError


def test_who_takes_too_long_is_killed_and_that_is_said() -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        began = time.monotonic()
        words = rf"process {victim.pid} has not answered for 0\.2 s"
        with pytest.raises(TimeoutError, match=words), killed_after(0.2, victim.pid):
            hear_nothing_of(victim)
        assert time.monotonic() - began < 5
    with killed_after(0.2, victim.pid):  # nobody is there any more
        pass


def test_what_goes_wrong_in_time_is_what_is_raised() -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        with pytest.raises(OSError, match="no more processes"), killed_after(10, victim.pid):
            raise OSError(errno.EAGAIN, "no more processes")
        assert victim.poll() is None
        victim.kill()


def test_a_thread_that_cannot_be_started_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with subprocess.Popen(["sleep", "60"]) as victim:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(RuntimeError, match="new thread"), killed_after(10, victim.pid):
            pass
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        victim.kill()


def test_the_programs_own_file_is_hidden_for_one_thread_at_a_time() -> None:
    main = sys.modules["__main__"]
    before = getattr(main, "__file__", None)
    inside = threading.Event()

    def start() -> None:
        with without_main():
            inside.set()

    with without_main():
        thread = threading.Thread(target=start)
        thread.start()
        assert not inside.wait(0.2)
        assert not hasattr(main, "__file__")
    thread.join(10)
    assert getattr(main, "__file__", None) == before
