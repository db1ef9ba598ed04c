"""Addresses, as people write them and as the machine takes them."""

from __future__ import annotations

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashboard import Dashboard, DashboardError, parse_address
from dashboard.address import url_of
from tests.dashboard.fakes import FakeRun
from tests.dashboard.talk import get, port_of


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        (":8080", "127.0.0.1", 8080),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::]:65535", "::", 65535),
        ("my-host.example:80", "my-host.example", 80),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("8080", "must be HOST:PORT"),
        ("", "must be HOST:PORT"),
        ("::1:8080", "must be HOST:PORT"),
        ("localhost:", "must be HOST:PORT"),
        ("localhost:http", "must be HOST:PORT"),
        ("localhost:٨٠", "must be HOST:PORT"),
        ("localhost:65536", "must be 0 to 65535"),
        ("256.0.0.1:80", "neither a host's name nor an IPv4 address"),
        ("a b:80", "neither a host's name nor an IPv4 address"),
        ("[localhost]:80", "must be an IPv6 address"),
        ("[127.0.0.1]:80", "must be an IPv6 address"),
        ("[]:80", "must be an IPv6 address"),
        ("http://localhost:80", "must be HOST:PORT"),
    ],
)
def test_what_is_no_address_is_said_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet=st.characters() | st.sampled_from("0123456789.:[]")))
@example("a\n:1")
def test_any_text_is_an_address_or_a_clear_refusal(text: str) -> None:
    why = None
    try:
        host, port = parse_address(text)
    except ValueError as error:
        why = str(error)
    assert why.isprintable() if why else host and 0 <= port <= 65535


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080/"),
        ("::1", "http://[::1]:8080/"),
        ("0.0.0.0", "http://127.0.0.1:8080/"),
        ("::", "http://[::1]:8080/"),
        ("gpu7", "http://gpu7:8080/"),
    ],
)
def test_the_url_is_what_one_types_here(host: str, url: str) -> None:
    assert url_of(host, 8080) == url


def test_an_address_in_use_is_told_at_once_with_the_flag(dashboard: Dashboard, run: FakeRun) -> None:
    where = f"127.0.0.1:{port_of(dashboard)}"
    with pytest.raises(DashboardError, match=rf"^--dashboard {where}: is in use; choose another port"):
        Dashboard(where, "token", **run.functions())


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.0.2.1:0", r"^--dashboard 192\.0\.2\.1:0: is no address of this machine"),
        ("no-such-host.invalid:0", r"^--dashboard no-such-host\.invalid:0: host .* is unknown"),
    ],
)
def test_an_address_of_somebody_else_is_told_at_once(address: str, why: str, run: FakeRun) -> None:
    with pytest.raises(DashboardError, match=why):
        Dashboard(address, "token", **run.functions())


def test_a_port_that_is_not_permitted_is_told_at_once(monkeypatch: pytest.MonkeyPatch, run: FakeRun) -> None:
    def refuse(*arguments: object, **options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(DashboardError, match=r"^--dashboard 127\.0\.0\.1:80: is not permitted; choose a port above"):
        Dashboard(":80", "token", **run.functions())


def test_an_empty_token_is_refused(run: FakeRun) -> None:
    with pytest.raises(ValueError, match="token is empty"):
        Dashboard(":0", "", **run.functions())


def test_the_port_is_free_again_after_closing(run: FakeRun) -> None:
    with Dashboard(":0", "token", **run.functions()) as first:
        assert get(first, "/healthz").status == 200
    with Dashboard(f":{port_of(first)}", "token", **run.functions()) as second:
        assert get(second, "/healthz").status == 200


def test_ipv6_is_served(run: FakeRun) -> None:
    with Dashboard("[::1]:0", "token", **run.functions()) as served:
        connection = socket.create_connection(("::1", port_of(served)), timeout=10)
        with connection:
            connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: [::1]:{port_of(served)}\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
