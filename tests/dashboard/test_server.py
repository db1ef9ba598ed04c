"""What is answered, and that answering goes on: commands, faults, many clients, strange clients, the end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import Dashboard, connections
from dashboard import run as room
from tests.dashboard.fakes import HISTORY, FakeRun
from tests.dashboard.talk import TOKEN, ask, connect, get, host_of, port_of, post
from tests.support.waiting import wait_for

# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_status_is_told_with_the_health(dashboard: Dashboard, run: FakeRun) -> None:
    told = get(dashboard, "/api/status").json
    assert [row["collector"] for row in told["ranks"][0]["collectors"]] == [0, 1, 2, 3]
    assert told["health"]["state"] == "learning"
    assert told["ranks"][0]["figures"]["entropy"] is None, "NaN is no JSON"


def test_the_status_is_told_with_the_time_of_the_history(dashboard: Dashboard) -> None:
    before = time.time()
    now = get(dashboard, "/api/status").json["time"]
    assert before <= now <= time.time()
    assert -1.0 <= now - get(dashboard, "/api/history").json["history"][-1]["time"] <= 2.0


def test_the_history_is_told(dashboard: Dashboard) -> None:
    rows = get(dashboard, "/api/history").json["history"]
    assert len(rows) == HISTORY
    assert rows[0]["time"] < rows[-1]["time"]


def test_health_has_a_status_code(dashboard: Dashboard, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FRESH", 0.0)
    assert get(dashboard, "/healthz").status == 200
    run.health_state = "hanging"
    answer = get(dashboard, "/healthz")
    assert answer.status == 503
    assert answer.json == {"healthy": False, "state": "hanging", "seconds_since_progress": 75.0}


def test_many_who_ask_share_one_reading(dashboard: Dashboard, run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FRESH", 60.0)
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: get(dashboard, "/api/status"), range(64)))
    assert {answer.status for answer in answers} == {200}
    assert get(dashboard, "/metrics").status == 200
    assert run.calls == 1


def test_those_who_ask_while_it_is_read_wait_for_that_reading(dashboard: Dashboard, run: FakeRun) -> None:
    run.hold = threading.Event()
    with ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(get, dashboard, "/api/status") for _ in range(8)]
        wait_for(lambda: run.calls, "the reading")
        assert get(dashboard, "/healthz").status == 200, "the event loop waits for the run"
        run.hold.set()
        assert {future.result().status for future in waiting} == {200}
    assert run.calls == 1


# --- changing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "command"),
    [
        ("/api/pause", {}, {"command": "pause", "collectors": None}),
        ("/api/pause", {"collectors": None, "seconds": None}, {"command": "pause", "collectors": None}),
        (
            "/api/pause",
            {"collectors": [0, 1], "seconds": 600},
            {"command": "pause", "collectors": [0, 1], "seconds": 600.0},
        ),
        ("/api/resume", {}, {"command": "resume", "collectors": None}),
        ("/api/resume", {"collectors": [2]}, {"command": "resume", "collectors": [2]}),
        ("/api/scale", {"num_envs": 8}, {"command": "scale", "num_envs": 8}),
    ],
)
def test_commands_reach_the_run(dashboard: Dashboard, run: FakeRun, path: str, body: Any, command: Any) -> None:
    answer = post(dashboard, path, body)
    assert (answer.status, *answer.json) == (200, "replies")
    assert [(reply["rank"], reply["ok"]) for reply in answer.json["replies"]] == [(0, True)]
    assert run.commands == [command]


def test_what_a_rank_refuses_is_told(dashboard: Dashboard) -> None:
    answer = post(dashboard, "/api/scale", {"num_envs": 65})
    assert answer.status == 409
    assert answer.error == "rank 0: num_envs: at most 64"
    assert answer.json["replies"] == [{"rank": 0, "ok": False, "error": "num_envs: at most 64"}]


def test_commands_are_given_one_after_the_other(dashboard: Dashboard, run: FakeRun) -> None:
    at_once, most = threading.Semaphore(1), []
    carry_out = run.command

    def command(message: dict[str, Any]) -> list[dict[str, Any]]:
        most.append(at_once.acquire(blocking=False))
        try:
            return carry_out(message)
        finally:
            at_once.release()

    with Dashboard(":0", TOKEN, **{**run.functions(), "command": command}) as served, ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda number: post(served, "/api/scale", {"num_envs": number}), range(1, 33)))
    assert {answer.status for answer in answers} == {200}
    assert sorted(message["num_envs"] for message in run.commands) == list(range(1, 33))
    assert all(most)


# --- faults of the run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/status", "/api/history", "/metrics"])
def test_a_fault_is_one_line_for_the_client_and_a_log_entry(
    dashboard: Dashboard, run: FakeRun, path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FRESH", 0.0)
    run.fault = ValueError("first\nsecond")
    for _ in range(3):
        answer = get(dashboard, path)
        assert answer.status == 503
        assert answer.error.endswith("failed: ValueError: first second")
    assert caplog.text.count("Traceback") == 1, "logged once, not with every question"
    run.fault = None
    assert get(dashboard, path).status == 200


def test_a_failing_command_is_one_line_and_logged(
    dashboard: Dashboard, run: FakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run.fault = ValueError("first\nsecond")
    answer = post(dashboard, "/api/pause")
    assert answer.status == 503
    assert answer.error == "pause failed: ValueError: first second"
    assert "Traceback" in caplog.text


def test_a_run_that_says_nonsense_gets_nobody_a_traceback(
    run: FakeRun, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    functions = {**run.functions(), "status": lambda: [{"rank": object()}], "health": dict}
    with Dashboard(":0", TOKEN, **functions) as served:
        for path in ("/api/status", "/metrics", "/healthz"):
            answer = get(served, path)
            assert answer.status == 500
            assert "the run's log says more" in answer.error
    assert caplog.text.count("Traceback") == 3
    assert capfd.readouterr() == ("", "")


def test_a_run_that_does_not_answer_is_told_in_bounded_time(
    dashboard: Dashboard, run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.2)
    run.hold = threading.Event()
    assert get(dashboard, "/api/status").error == "status: the run did not answer within 0.2 s"
    assert post(dashboard, "/api/pause").status == 503
    assert post(dashboard, "/api/resume").status == 503, "waits for the pause, and gives up"
    assert not run.commands
    run.hold.set()
    wait_for(lambda: run.commands, "the pause is carried out late")
    assert get(dashboard, "/api/status").status == 200
    assert [message["command"] for message in run.commands] == ["pause"], "what was given up is not done later"


# --- strange clients -------------------------------------------------------------------------------------------------

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["collectors", "seconds", "num_envs", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@FUZZ
@given(command=st.sampled_from(["pause", "resume", "scale"]), body=JSON | st.binary(max_size=200))
def test_any_body_is_done_or_refused(dashboard: Dashboard, command: str, body: object) -> None:
    assert post(dashboard, f"/api/{command}", body).status in (200, 400, 409)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS"]),
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=80),
    headers=st.dictionaries(
        st.sampled_from(
            ["Host", "Origin", "Authorization", "Content-Type", "Accept", "Sec-Fetch-Site", "Cookie", "X-A"]
        ),
        HEADER_TEXT,
    ),
)
def test_any_request_is_answered_below_500(
    dashboard: Dashboard, method: str, path: str, headers: dict[str, str]
) -> None:
    assert ask(dashboard, method, f"/{path}", headers=headers).status < 500


@FUZZ
@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_leave_the_server_answering(dashboard: Dashboard, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert not connection.recv(1000).startswith(b"HTTP/1.1 5")
    assert get(dashboard, "/healthz").status == 200


def test_files_outside_the_page_are_not_served(dashboard: Dashboard) -> None:
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/app.py", "//etc/passwd", "/pages/page.js"):
        assert get(dashboard, path).status == 404


def test_strangers_write_nothing_to_the_terminal(
    dashboard: Dashboard, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "uvicorn")
    for data in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=10) as connection:
            connection.sendall(data)
            assert connection.recv(100).startswith(b"HTTP/1.1 4")
    get(dashboard, "/api/status")
    assert capfd.readouterr() == ("", "")


def test_connections_are_bounded(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_LIMIT", 3)
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(3):
            client = stack.enter_context(contextlib.closing(connect(dashboard)))
            client.request("GET", "/healthz")
            assert client.getresponse().read()
            held.append(client)
        with pytest.raises((ConnectionError, OSError)):
            get(dashboard, "/healthz")
        held[0].request("GET", "/healthz")
        assert held[0].getresponse().read(), "those who are in are served on"
    wait_for(lambda: _answers(dashboard), "room for others")


def _answers(dashboard: Dashboard) -> bool:
    try:
        return get(dashboard, "/healthz").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST /api/pause HTTP/1.1\r\nContent-Length: 9\r\n"])
def test_silent_connections_end(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "AGE_LIMIT", 0.1)
    monkeypatch.setattr(connections, "GRACE", 0.1)
    with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_a_body_that_does_not_come_is_not_awaited_for_ever(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.app.BODY_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=10) as connection:
        connection.sendall(_unfinished(dashboard))
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def _unfinished(dashboard: Dashboard) -> bytes:
    head = f"POST /api/pause HTTP/1.1\r\nHost: {host_of(dashboard)}\r\nAuthorization: Bearer {TOKEN}\r\n"
    return (head + "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{").encode()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_it_closes_with_open_connections_and_a_run_that_hangs(
    run: FakeRun, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.ExitStack() as stack:
        served = Dashboard(":0", TOKEN, **run.functions())
        stack.callback(served.close)
        idle = stack.enter_context(contextlib.closing(connect(served)))
        idle.request("GET", "/healthz")
        assert idle.getresponse().read()
        run.hold = threading.Event()
        stack.callback(run.hold.set)
        question = f"GET /api/status HTTP/1.1\r\nHost: {host_of(served)}\r\n\r\n".encode()
        for data in (b"", b"GET /", _unfinished(served), question):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(served)), timeout=10))
            connection.sendall(data)
        wait_for(lambda: run.calls, "the status is being read")
        served.close()  # waits for 2 s at most
        assert "dashboard" not in [thread.name for thread in threading.enumerate()]
        served.close()
        with pytest.raises(OSError):  # noqa: PT011
            get(served, "/healthz")
        run.hold.set()
        wait_for(
            lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("dashboard")],
            "the reading ends",
        )
    assert "Traceback" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_signals_stay_with_the_run(dashboard: Dashboard) -> None:
    assert get(dashboard, "/healthz").status == 200
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
