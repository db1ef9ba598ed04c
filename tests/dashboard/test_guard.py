"""Who is let in: hosts, origins, tokens, bodies. Over real sockets."""

from __future__ import annotations

import re
import socket

import pytest

from dashboard import Dashboard
from dashboard.app import BODY_LIMIT
from dashboard.guard import Hosts
from tests.dashboard.fakes import FakeRun
from tests.dashboard.talk import TOKEN, Answer, ask, get, host_of, port_of, post

PATHS = ("/", "/page.js", "/page.css", "/icon.svg", "/api/status", "/api/history", "/metrics", "/healthz", "/nothing")
OWN_NAME = socket.gethostname()
COMMANDS = ("/api/pause", "/api/resume", "/api/scale")


def assert_guarded(answer: Answer) -> None:
    """The headers that every answer carries, and those that none may."""
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert "server" not in answer.headers


def test_every_answer_carries_the_headers(dashboard: Dashboard) -> None:
    for path in PATHS:
        for answer in (get(dashboard, path), get(dashboard, path, Host="evil.example"), post(dashboard, path)):
            assert_guarded(answer)
        assert get(dashboard, path).status == (404 if path == "/nothing" else 200)


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.7:80", "localhost@evil", "", "["])
def test_another_host_is_refused_everywhere(dashboard: Dashboard, host: str) -> None:
    for path in PATHS:
        answer = get(dashboard, path, Host=host)
        assert answer.status == 421
        assert "--dashboard" in answer.error


def test_a_request_without_a_host_is_refused(dashboard: Dashboard) -> None:
    with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=10) as connection:
        connection.sendall(b"GET /api/status HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 421")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:80", "127.9.9.9", "[::1]:80", OWN_NAME])
def test_this_machine_answers_to_its_own_names(dashboard: Dashboard, host: str) -> None:
    assert get(dashboard, "/healthz", Host=host).status == 200


@pytest.mark.parametrize(
    ("told", "bound", "host", "allowed"),
    [
        ("0.0.0.0", "0.0.0.0", "192.0.2.7:8080", True),
        ("0.0.0.0", "0.0.0.0", "[2001:db8::1]:8080", True),
        ("0.0.0.0", "0.0.0.0", "evil.example", False),
        ("0.0.0.0", "0.0.0.0", "0x7f.1", False),
        ("::", "::", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.7", "198.51.100.1:80", True),
        ("gpu7", "192.0.2.7", "GPU7:8080", True),
        ("gpu7", "192.0.2.7", "gpu8:8080", False),
        ("127.0.0.1", "127.0.0.1", "192.0.2.7", False),
        ("::1", "::1", "192.0.2.7", False),
    ],
)
def test_addresses_are_names_where_it_listens_to_others(told: str, bound: str, host: str, allowed: bool) -> None:
    assert Hosts(told, bound).allow(host) is allowed


def test_a_wildcard_serves_any_address_and_no_strange_name(run: FakeRun) -> None:
    with Dashboard("0.0.0.0:0", TOKEN, **run.functions()) as served:
        assert get(served, "/healthz", Host="192.0.2.7:1").status == 200
        assert get(served, "/healthz", Host="evil.example").status == 421


# --- origins ---------------------------------------------------------------------------------------------------------


def test_another_origin_is_refused_everywhere(dashboard: Dashboard, run: FakeRun) -> None:
    host = host_of(dashboard)
    for origin in ("http://evil.example", "null", f"https://{host}", "http://127.0.0.1:1", f"http://{host}.evil", ""):
        for path in PATHS:
            assert get(dashboard, path, Origin=origin).status == 403
        for path in COMMANDS:
            answer = ask(
                dashboard,
                "POST",
                path,
                b"{}",
                {"Origin": origin, "Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            )
            assert answer.status == 403
            assert "origin" in answer.error
    assert not run.commands


def test_its_own_origin_may_ask(dashboard: Dashboard, run: FakeRun) -> None:
    own = f"http://{host_of(dashboard)}"
    assert get(dashboard, "/api/status", Origin=own).status == 200
    assert post(dashboard, "/api/pause", Origin=own, Sec_Fetch_Site="same-origin").status == 200
    assert run.commands


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_a_browser_that_says_it_comes_from_elsewhere_changes_nothing(
    dashboard: Dashboard, run: FakeRun, site: str
) -> None:
    answer = post(dashboard, "/api/pause", Sec_Fetch_Site=site)
    assert answer.status == 403
    assert "sec-fetch-site" in answer.error
    assert not run.commands


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_a_preflight_and_other_methods_get_nowhere(dashboard: Dashboard, method: str) -> None:
    assert ask(dashboard, method, "/api/pause", headers={"Origin": "http://evil.example"}).status == 403
    assert ask(dashboard, method, "/api/pause").status == 401
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    assert ask(dashboard, method, "/api/pause", headers=headers).status == 405


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} ü", f"Bearer {TOKEN}x"],
)
def test_without_the_token_nothing_changes(dashboard: Dashboard, run: FakeRun, authorization: str) -> None:
    for path in COMMANDS:
        answer = post(dashboard, path, {"num_envs": 3} if path == "/api/scale" else {}, Authorization=authorization)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer TOKEN" in answer.error
        assert TOKEN not in answer.error
    assert not run.commands


def test_a_token_may_hold_any_letters(run: FakeRun) -> None:
    with Dashboard(":0", "tökén", **run.functions()) as served:
        sent = "Bearer tökén".encode().decode("latin-1")  # its UTF-8 bytes, as a header
        assert post(served, "/api/resume", Authorization=sent).status == 200


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_only_json_is_taken(dashboard: Dashboard, kind: str) -> None:
    answer = post(dashboard, "/api/pause", Content_Type=kind)
    assert answer.status == 415
    assert "application/json" in answer.error
    assert post(dashboard, "/api/pause", Content_Type="Application/JSON; charset=utf-8").status == 200


def test_a_body_has_a_largest_size(dashboard: Dashboard, run: FakeRun) -> None:
    fits = b'{"collectors": null' + b" " * (BODY_LIMIT - 20) + b"}"
    assert post(dashboard, "/api/pause", fits).status == 200
    answer = post(dashboard, "/api/pause", fits + b" ")
    assert answer.status == 413
    assert str(BODY_LIMIT) in answer.error
    assert len(run.commands) == 1


def test_a_body_without_a_length_has_a_largest_size_too(dashboard: Dashboard) -> None:
    head = f"POST /api/pause HTTP/1.1\r\nHost: {host_of(dashboard)}\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=10) as connection:
        connection.sendall(head.encode() + b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(5)))
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/api/pause", b"", "body"),
        ("/api/pause", b"{", "body"),
        ("/api/pause", b"\xff", "body"),
        ("/api/pause", b"[]", "body"),
        ("/api/pause", b"null", "body"),
        ("/api/pause", b"[" * 60_000, "body"),
        ("/api/pause", {"collectors": 1}, "collectors: "),
        ("/api/pause", {"collectors": []}, "collectors: "),
        ("/api/pause", {"collectors": ["1"]}, "collectors.0: "),
        ("/api/pause", {"collectors": [0, -1]}, "collectors.1: "),
        ("/api/pause", {"collectors": [True]}, "collectors.0: "),
        ("/api/pause", {"collectors": [1.5]}, "collectors.0: "),
        ("/api/pause", {"collectors": [10**400]}, "collectors.0: "),
        ("/api/pause", {"seconds": 0}, "seconds: .*greater than 0"),
        ("/api/pause", {"seconds": "60"}, "seconds: .*number"),
        ("/api/pause", b'{"seconds": NaN}', "seconds: "),
        ("/api/pause", b'{"seconds": Infinity}', "seconds: "),
        ("/api/pause", b'{"seconds": 1e999}', "seconds: "),
        ("/api/pause", {"seconds": 1e9}, "seconds: .*604800"),
        ("/api/pause", {"second": 1}, "second: unknown; the fields are collectors, seconds"),
        ("/api/pause", {"a\nb\ud800": 1}, "unknown; the fields are|body"),
        ("/api/resume", {"seconds": 1}, "seconds: unknown; the fields are collectors"),
        ("/api/scale", {}, "num_envs: "),
        ("/api/scale", {"num_envs": 0}, "num_envs: .*greater than or equal to 1"),
        ("/api/scale", {"num_envs": None}, "num_envs: .*integer"),
        ("/api/scale", {"num_envs": 2.0}, "num_envs: .*integer"),
        ("/api/scale", {"num_envs": 10**12}, "num_envs: .*1000000"),
    ],
)
def test_a_wrong_body_is_named(dashboard: Dashboard, run: FakeRun, path: str, body: object, why: str) -> None:
    answer = post(dashboard, path, body)
    assert answer.status == 400
    assert re.search(why, answer.error), answer.error
    assert not run.commands
