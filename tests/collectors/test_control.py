"""The control channel: real sockets, real client processes, another user."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from collectors import control
from collectors.client import request
from collectors.control import ControlServer, lock_run_folder
from collectors.errors import ControlError, NoRunError, RunInUseError
from collectors.wire import REQUEST_LIMIT, socket_name, sockets

NAME = socket_name(0)
NOBODY = 65534


def echo(message: dict[str, Any]) -> dict[str, Any]:
    return {"echo": message.get("value")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    with ControlServer(tmp_path, NAME, {"echo": echo}) as started:
        yield started


def ask(folder: Path, message: dict[str, Any]) -> dict[str, Any]:
    return request(folder, NAME, message, timeout=10.0)


def connect(folder: Path) -> socket.socket:
    """A bare connection, for clients that do not keep to the protocol."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10.0)
    connection.connect(str(folder / NAME))
    return connection


def talk(folder: Path, data: bytes) -> dict[str, Any] | None:
    """What is answered to some bytes; None where the server hangs up without a word."""
    with connect(folder) as connection:
        with contextlib.suppress(ConnectionError):  # a server may stop reading what is too long
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        try:
            line = connection.makefile("rb").readline()
        except ConnectionResetError:
            return None
    return json.loads(line) if line else None


def threads_of_servers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("control.")]


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def child(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)


# --- one request -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_a_request_gets_the_commands_reply(tmp_path: Path) -> None:
    assert ask(tmp_path, {"command": "echo", "value": [1, "ü\n"]}) == {"ok": True, "echo": [1, "ü\n"]}


@pytest.mark.usefixtures("server")
def test_one_connection_carries_several_requests(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        connection.sendall(b"".join(b'{"command": "echo", "value": %d}\n' % value for value in range(50)))
        lines = connection.makefile("rb")
        assert [json.loads(lines.readline())["echo"] for _ in range(50)] == list(range(50))


@pytest.mark.usefixtures("server")
def test_another_process_is_served(tmp_path: Path) -> None:
    script = "import sys; from collectors.client import request; from pathlib import Path\n"
    script += "print(request(Path(sys.argv[1]), 'control.sock', {'command': 'echo', 'value': 7}, 10.0))"
    assert child(script, tmp_path, cwd=Path(__file__).parents[2]).stdout.strip() == "{'ok': True, 'echo': 7}"


def test_a_failing_command_is_an_error_line_and_a_log_entry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("first\nsecond")

    def refuse(message: dict[str, Any]) -> dict[str, Any]:
        raise ControlError("no collector 9; there are 0 to 3")

    commands = {"fail": fail, "refuse": refuse, "odd": lambda message: {"value": object()}, "echo": echo}
    with ControlServer(tmp_path, NAME, commands):
        with pytest.raises(ControlError, match=r"^fail failed: ValueError: first second$"):
            ask(tmp_path, {"command": "fail"})
        assert "Traceback" in caplog.text
        caplog.clear()
        with pytest.raises(ControlError, match=r"^no collector 9; there are 0 to 3$"):
            ask(tmp_path, {"command": "refuse"})
        assert not caplog.records
        with pytest.raises(ControlError, match=r"odd failed: TypeError: .*not JSON serializable"):
            ask(tmp_path, {"command": "odd"})
        assert ask(tmp_path, {"command": "echo"})["ok"]


def test_a_busy_command_holds_up_nobody_else_and_the_timeout_names_the_run(tmp_path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def wait(message: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        return {"in time": go_on.wait(20)}

    with ControlServer(tmp_path, NAME, {"wait": wait, "echo": echo}), ThreadPoolExecutor() as pool:
        waiting = pool.submit(ask, tmp_path, {"command": "wait"})
        assert entered.wait(10)
        assert ask(tmp_path, {"command": "echo", "value": 1})["echo"] == 1
        with pytest.raises(NoRunError, match=r"^no run is answering in .*: no reply from control.sock within 0.1 s$"):
            request(tmp_path, NAME, {"command": "wait"}, timeout=0.1)
        go_on.set()
        assert waiting.result(10) == {"ok": True, "in time": True}


# --- bad requests ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"hello\n", "the request is no JSON"),
        (b"\n", "the request is no JSON"),
        (b"\xff\xfe\x00\n", "the request is no JSON"),
        (b"[" * 60_000 + b"\n", "the request is no JSON"),
        (b"[1, 2]\n", "the request is no JSON object"),
        (b"{}\n", "unknown command 'None'; there are echo"),
        (b'{"command": ["echo"]}\n', "unknown command"),
        (b'{"command": "' + b"x" * 1000 + b'"}\n', "unknown command '" + "x" * 40 + "'; there are echo"),
        (b"x" * (REQUEST_LIMIT + 1) + b"\n", "a line is longer than 65536 bytes"),
        (b"x" * 4_000_000, "a line is longer than 65536 bytes"),
    ],
)
def test_a_bad_request_gets_one_line_that_says_why(tmp_path: Path, line: bytes, error: str) -> None:
    reply = talk(tmp_path, line)
    assert reply is not None
    assert reply["ok"] is False
    assert reply["error"].startswith(error)
    assert "\n" not in reply["error"]


@pytest.mark.usefixtures("server")
def test_garbage_and_a_dozen_clients_at_once_do_no_harm(tmp_path: Path) -> None:
    generator = random.Random(7)
    garbage = [generator.randbytes(generator.randrange(300)) for _ in range(200)]

    def client(number: int) -> list[Any]:
        return [ask(tmp_path, {"command": "echo", "value": [number, count]})["echo"] for count in range(20)]

    with ThreadPoolExecutor(13) as pool:
        answers = pool.map(client, range(12))
        rubbish = pool.submit(lambda: [talk(tmp_path, data) for data in garbage])
        assert list(answers) == [[[number, count] for count in range(20)] for number in range(12)]
        assert all(reply is None or reply["ok"] is False for reply in rubbish.result(60))


@pytest.mark.usefixtures("server")
def test_silent_clients_are_dropped_and_those_over_the_limit_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.5)
    monkeypatch.setattr(control, "CLIENTS_LIMIT", 4)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(tmp_path)) for _ in range(4)]
        for connection in silent:
            connection.sendall(b'{"command": "ec')  # never finished
        with pytest.raises(ControlError, match="4 clients are being served already"):
            ask(tmp_path, {"command": "echo"})
        assert [connection.recv(100) for connection in silent] == [b""] * 4
    assert ask(tmp_path, {"command": "echo"})["ok"]


@pytest.mark.usefixtures("server")
def test_the_acceptor_outlives_a_lack_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing, real = [OSError(errno.EMFILE, "Too many open files")], socket.socket.accept

    def accept(listening: socket.socket) -> tuple[socket.socket, Any]:
        if failing:
            raise failing.pop()
        return real(listening)

    assert ask(tmp_path, {"command": "echo"})["ok"]
    monkeypatch.setattr(control, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(socket.socket, "accept", accept)
    assert ask(tmp_path, {"command": "echo"})["ok"]  # its connection was still accepted by the real one
    assert ask(tmp_path, {"command": "echo"})["ok"]
    assert not failing
    assert "cannot accept clients; trying again" in caplog.text


@pytest.mark.usefixtures("server")
def test_the_acceptor_outlives_a_lack_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing, real = [RuntimeError("can't start new thread")], threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if failing:
            raise failing.pop()
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert talk(tmp_path, b"") is None
    assert ask(tmp_path, {"command": "echo"})["ok"]
    assert "a client could not be served" in caplog.text


# --- who may connect -------------------------------------------------------------------------------------------------


def test_only_the_owner_can_open_it_from_the_first_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def chmod(name: str, mode: int, *, dir_fd: int) -> None:
        seen.append(os.stat(name, dir_fd=dir_fd).st_mode)
        real(name, mode, dir_fd=dir_fd)

    real = os.chmod
    monkeypatch.setattr(os, "chmod", chmod)
    before = os.umask(0)
    try:
        with ControlServer(tmp_path, NAME, {}):
            assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
            assert os.umask(0) == 0  # the process's own is back
    finally:
        os.umask(before)
    assert [mode & 0o077 for mode in seen] == [0]


FOREIGN = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(10)
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    connection.connect(sys.argv[1] + "/control.sock")
except PermissionError:
    print("permission denied")
else:
    print(connection.recv(1000).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_file_and_by_the_server() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    try:
        with ControlServer(folder, NAME, {"echo": echo}):
            assert child(FOREIGN, folder, NOBODY).stdout.strip() == "permission denied"
            (folder / NAME).chmod(0o666)
            reply = json.loads(child(FOREIGN, folder, NOBODY).stdout)
            assert reply == {"ok": False, "error": "only the run's owner (uid 0) may steer it"}
            assert ask(folder, {"command": "echo"})["ok"]
    finally:
        shutil.rmtree(folder)


@pytest.mark.usefixtures("server")
def test_the_servers_check_compares_the_peers_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_peer_uid", lambda connection: os.geteuid() + 1)
    with pytest.raises(ControlError, match=r"only the run's owner \(uid \d+\) may steer it"):
        ask(tmp_path, {"command": "echo"})


# --- the socket's life -----------------------------------------------------------------------------------------------


def test_a_run_folder_may_be_deep(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a run with a long name"] * 20)
    folder.mkdir(parents=True)
    with ControlServer(folder, NAME, {"echo": echo}):
        assert ask(folder, {"command": "echo", "value": 3})["echo"] == 3
    assert list(folder.iterdir()) == []


def test_a_dead_runs_socket_is_replaced(tmp_path: Path) -> None:
    script = "import os, socket; s = socket.socket(socket.AF_UNIX); s.bind('control.sock'); s.listen();"
    script += "os.kill(os.getpid(), 9)"
    assert child(script, cwd=tmp_path).returncode == -9
    assert sockets(tmp_path) == [NAME]
    with pytest.raises(NoRunError, match=r"control.sock is left from a run that has died"):
        ask(tmp_path, {"command": "echo"})
    with ControlServer(tmp_path, NAME, {"echo": echo}):
        assert ask(tmp_path, {"command": "echo"})["ok"]


def test_a_second_server_in_the_folder_is_refused_and_the_first_goes_on(tmp_path: Path, server: ControlServer) -> None:
    with pytest.raises(RunInUseError, match=f"^run folder {tmp_path} is in use by another run"):
        ControlServer(tmp_path, NAME, {})
    with ControlServer(tmp_path, socket_name(1), {"echo": echo}):
        assert sockets(tmp_path) == [NAME, "control.rank1.sock"]
    assert sockets(tmp_path) == [NAME]
    assert ask(tmp_path, {"command": "echo"})["ok"]


def test_something_else_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("mine")
    with pytest.raises(ControlError, match=r"control.sock is in the way: it is no socket; remove it$"):
        ControlServer(tmp_path, NAME, {})
    assert (tmp_path / NAME).read_text() == "mine"


def test_closing_leaves_nothing(tmp_path: Path) -> None:
    descriptors = open_descriptors()
    server = ControlServer(tmp_path, NAME, {"echo": echo})
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(tmp_path)) for _ in range(3)]
        for connection in idle:
            connection.sendall(b'{"command": "echo"}\n')
            assert json.loads(connection.recv(1000))["ok"]
        assert len(threads_of_servers()) == 4
        server.close()
        assert threads_of_servers() == []
        assert [connection.recv(100) for connection in idle] == [b""] * 3
    server.close()
    assert list(tmp_path.iterdir()) == []
    assert open_descriptors() == descriptors
    with pytest.raises(NoRunError, match=r"there is no control.sock$"):
        ask(tmp_path, {"command": "echo"})


def test_a_reply_under_way_still_goes_out(tmp_path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def stop(message: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        return {"in time": go_on.wait(10)}

    server = ControlServer(tmp_path, NAME, {"stop": stop})
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(ask, tmp_path, {"command": "stop"})
        assert entered.wait(10)
        with connect(tmp_path) as idle:
            idle.sendall(b"{}\n")
            assert b"unknown command" in idle.recv(1000)
            closing = pool.submit(server.close)
            assert idle.recv(1000) == b""  # the server has hung up on everybody by now
        go_on.set()
        assert reply.result(10) == {"ok": True, "in time": True}
        closing.result(10)
    assert threads_of_servers() == []


def test_a_command_may_close_the_server(tmp_path: Path) -> None:
    def stop(message: dict[str, Any]) -> dict[str, Any]:
        servers[0].close()
        return {}

    servers = [ControlServer(tmp_path, NAME, {"stop": stop})]
    assert ask(tmp_path, {"command": "stop"}) == {"ok": True}
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_end_is_named_when_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "CLOSE_SECONDS", 0.2)
    entered, go_on = threading.Event(), threading.Event()

    def wait(message: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        return {"woken": go_on.wait(20)}

    with ControlServer(tmp_path, NAME, {"wait": wait}) as busy, connect(tmp_path) as connection:
        connection.sendall(b'{"command": "wait"}\n')
        assert entered.wait(10)
        busy.close()
        assert "threads still busy with a command after 0.2 s: 1" in caplog.text
        left = threads_of_servers()
        go_on.set()
        for thread in left:
            thread.join(10)
    assert threads_of_servers() == []


def test_closing_spares_a_successors_socket(tmp_path: Path) -> None:
    first = ControlServer(tmp_path, NAME, {})
    (tmp_path / NAME).rename(tmp_path / "elsewhere")
    with ControlServer(tmp_path, NAME, {"echo": echo}):
        first.close()
        assert ask(tmp_path, {"command": "echo"})["ok"]


def test_sockets_lists_ranks_in_order_and_nothing_else(tmp_path: Path) -> None:
    assert sockets(tmp_path / "missing") == []
    (tmp_path / "control.rank3.sock").write_text("a file")
    with contextlib.ExitStack() as stack:
        for name in ("control.rank10.sock", "control.rank2.sock", "control.sock", "other.sock", "control.rank01.sock"):
            stack.enter_context(ControlServer(tmp_path, name, {}))
        assert sockets(tmp_path) == ["control.sock", "control.rank2.sock", "control.rank10.sock"]


# --- the folder's lock -----------------------------------------------------------------------------------------------


def test_the_lock_keeps_a_second_run_out_and_leaves_no_file(tmp_path: Path) -> None:
    descriptor = lock_run_folder(tmp_path)
    with pytest.raises(RunInUseError, match=f"^run folder {tmp_path} is in use by another run"):
        lock_run_folder(tmp_path)
    os.close(descriptor)
    os.close(lock_run_folder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    script = "import fcntl, os; fcntl.flock(os.open('.', 0), 6); print(flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        with pytest.raises(RunInUseError):
            lock_run_folder(tmp_path)
        holder.kill()
        holder.wait(10)
        os.close(lock_run_folder(tmp_path))


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)
    os.close(lock_run_folder(tmp_path))
    assert "cannot be locked" in caplog.text


# --- a socket that somebody removes


def test_a_socket_that_was_removed_is_made_again_and_said_once(tmp_path: Path, server: ControlServer) -> None:
    assert server.renew() is None
    for _ in range(3):
        with connect(tmp_path) as earlier, earlier.makefile("rb") as replies:
            earlier.sendall(b'{"command": "echo", "value": 0}\n')
            assert json.loads(replies.readline())["echo"] == 0
            (tmp_path / NAME).unlink()
            said = server.renew()
            assert said is not None
            assert "control.sock was gone (No such file or directory); it has been made again" in said
            assert server.renew() is None
            assert ask(tmp_path, {"command": "echo", "value": 1})["echo"] == 1
            earlier.sendall(b'{"command": "echo", "value": 2}\n')
            assert json.loads(replies.readline())["echo"] == 2, "who was connected is served on"
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    descriptors = open_descriptors()
    with ControlServer(folder, NAME, {"echo": echo}) as server:
        shutil.rmtree(folder.parent)
        assert "has been made again" in str(server.renew())
        assert ask(folder, {"command": "echo", "value": 3})["echo"] == 3
    assert not (folder / NAME).exists()
    assert open_descriptors() == descriptors


def test_where_it_cannot_be_made_again_that_is_said_once_and_tried_on(tmp_path: Path, server: ControlServer) -> None:
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).write_text("in the way")
    assert "nobody can steer this run" in str(server.renew())
    assert server.renew() is None
    (tmp_path / NAME).unlink()
    assert "has been made again" in str(server.renew())
    assert ask(tmp_path, {"command": "echo", "value": 4})["echo"] == 4


STANDS = """
import sys
from pathlib import Path
from collectors.control import ControlServer
folder = Path(sys.argv[1])
def note(message):
    with (folder / "noted").open("a") as file:
        file.write(message["value"])
    return {}
with ControlServer(folder, "control.sock", {"note": note}):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_a_stopped_run_did_not_answer_is_not_done_later(tmp_path: Path) -> None:
    """Its client was told that nothing came of it."""
    with subprocess.Popen(
        [sys.executable, "-c", STANDS, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        stopped = f"no reply from control.sock within 0.2 s: process {process.pid} is stopped; fg, or kill -CONT"
        with pytest.raises(NoRunError, match=stopped):
            request(tmp_path, NAME, {"command": "note", "value": "early"}, timeout=0.2)
        process.send_signal(signal.SIGCONT)
        for value in ("a", "b"):
            request(tmp_path, NAME, {"command": "note", "value": value}, timeout=30.0)
        process.stdin.close()
        assert process.wait(30) == 0
    assert (tmp_path / "noted").read_text() == "ab"
