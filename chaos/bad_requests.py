"""Requests that are wrong, to the web page of a live run."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from chaos.harm import Answer

LIMIT = 20.0  # s until a server must have answered or hung up
_PAGE = re.compile(r"web page http://127\.0\.0\.1:(\d+)/#token=(\S+)")
_BODIES = (  # path, body, what the refusal must contain
    ("/api/scale", b"", "num_envs"),
    ("/api/scale", b"{", "num_envs"),
    ("/api/scale", b"\xff\xfe\x00", "num_envs"),
    ("/api/scale", b"[]", "num_envs"),
    ("/api/scale", b"null", "num_envs"),
    ("/api/scale", b"{}", "num_envs"),
    ("/api/scale", b'{"num_envs": "4"}', "num_envs"),
    ("/api/scale", b'{"num_envs": 2.5}', "num_envs"),
    ("/api/scale", b'{"num_envs": true}', "num_envs"),
    ("/api/scale", b'{"num_envs": 0}', "num_envs"),
    ("/api/scale", b'{"num_envs": 999999}', "--max-envs"),
    ("/api/scale", b'{"num_envs": ' + b"9" * 5000 + b"}", "num_envs"),
    ("/api/scale", b'{"num_envs": 2, "more": 1}', "more"),
    ("/api/pause", b'{"seconds": -1}', "seconds"),
    ("/api/pause", b'{"seconds": NaN}', "seconds"),
    ("/api/pause", b'{"seconds": "5"}', "seconds"),
    ("/api/pause", b'{"collectors": 0}', "collectors"),
    ("/api/pause", b'{"collectors": []}', "collectors"),
    ("/api/pause", b'{"collectors": [99]}', "collectors 0 to"),
    ("/api/resume", b'{"collectors": ["0"]}', "collectors"),
    ("/api/resume", b'{"seconds": 1}', "seconds"),
    ("/api/pause", b"[" * 50_000, "body"),
    ("/api/scale", b" " * 2**20, "too large"),
)
_ASKED = (  # method, path, what status it must get
    ("GET", "/nothing", 404),
    ("GET", "/../config.yaml", 404),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
    ("GET", "//etc/passwd", 404),
    ("GET", "/api/status/%00", 404),
    ("GET", "/api/pause", 405),
    ("GET", "/api/stop", 404),
    ("POST", "/api/stop", 404),
    ("POST", "/api/status", 405),
    ("PUT", "/api/scale", 405),
    ("DELETE", "/api/status", 405),
    ("OPTIONS", "/api/pause", 405),
    ("BREW", "/", 405),
    ("GET", "/" + "x" * 10_000, 404),
)
_RAW = (  # bytes, what the answer must begin with; nothing: the server may hang up
    ("no HTTP", b"hello\r\n\r\n", b"HTTP/1.1 400"),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 4"),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", b"HTTP/1.1 4"),
    ("a header of 1 MB", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2**20 + b"\r\n\r\n", b"HTTP/1.1 4"),
    ("a length that is none", b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n", b"HTTP/1.1 4"),
    ("TLS", bytes.fromhex("16030100f0010000ec0303") + bytes(200), b"HTTP/1.1 400"),
)  # fmt: skip


class Page(NamedTuple):
    """Where a run's page is, and the word that it takes to change anything."""

    port: int
    token: str

    @property
    def host(self) -> str:
        """As in a Host header."""
        return f"127.0.0.1:{self.port}"


def page_of(output: str) -> Page:
    """The page that a run has announced."""
    found = _PAGE.search(output)
    assert found is not None, f"no web page in its output:\n{output}"
    return Page(int(found[1]), found[2])


def ask_page(page: Page, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
    """Status and text of the answer to a request that is right but for what is given; an empty header is left out."""
    usual = {"Host": page.host, "Authorization": f"Bearer {page.token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=LIMIT)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in (usual | {name.replace("_", "-"): value for name, value in headers.items()}).items():
            if value:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        with contextlib.suppress(ConnectionError):  # refused in the midst of it; the answer is there to be read
            connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def send(page: Page, noise: int, crowd: int, seed: int, slow: bool) -> Iterator[Answer]:
    """Send every wrong request, ``noise`` times random bytes, and ``crowd`` clients at once; ``slow`` ones if asked."""
    for path, body, words in _BODIES:
        shown = body.decode("ascii", "replace") if len(body) < 60 else f"{len(body):,} bytes"
        yield _judge(f"page: POST {path} {shown or 'nothing'}", ask_page(page, "POST", path, body), words)
    for method, path, status in _ASKED:
        shown = path if len(path) < 60 else f"a path of {len(path):,} bytes"
        answer = ask_page(page, method, path, b"{}" if method in ("POST", "PUT") else b"")
        yield Answer(f"page: {method} {shown}", f"{answer[0]} {answer[1][:200]}", answer[0] == status)
    for what, data, begin in _RAW:
        said = _say(page, data)
        yield Answer(f"page: {what}", said[:60].decode("ascii", "replace").strip(), said.startswith(begin))
    yield _noise(page, noise, random.Random(seed))
    yield _crowd(page, crowd)
    if slow:
        yield _slow(page)


def _judge(what: str, answer: tuple[int, str], words: str) -> Answer:
    """Whether an answer is a refusal of one line with these words."""
    status, text = answer
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = json.loads(text)["error"]
        return Answer(what, f"{status} {said}", status in (400, 409, 413) and words in said and said.isprintable())
    return Answer(what, f"{status} {text[:200]}", False)


def _say(page: Page, data: bytes) -> bytes:
    """What comes back until the server hangs up, or has answered."""
    with socket.create_connection(("127.0.0.1", page.port), LIMIT) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while chunk := connection.recv(65536):
                received += chunk
        return received


def _noise(page: Page, times: int, chance: random.Random) -> Answer:
    """Random bytes, which must be answered with a refusal or not at all."""
    answers = [_say(page, chance.randbytes(chance.randrange(1, 5000))) for _ in range(times)]
    wrong = [one for one in answers if one and not one.startswith(b"HTTP/1.1 4")]
    right = not wrong and ask_page(page, "GET", "/api/status")[0] == 200
    return Answer(f"page: {times} times noise", f"{times - len(wrong)} refused", right)


def _crowd(page: Page, count: int) -> Answer:
    """Many connections that say nothing: others are served as soon as these have gone."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", page.port), LIMIT))
        during = ask_page(page, "GET", "/api/status")[0]
    deadline = time.monotonic() + LIMIT
    while (after := ask_page(page, "GET", "/api/status")[0]) != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    said = f"{'served' if during == 200 else 'refused'} meanwhile, {'served' if after == 200 else 'refused'} afterwards"
    return Answer(f"page: {count} connections at once", said, after == 200)


def _slow(page: Page) -> Answer:
    """A body that does not come: the server gives up."""
    head = f"POST /api/pause HTTP/1.1\r\nHost: {page.host}\r\nAuthorization: Bearer {page.token}\r\n"
    with socket.create_connection(("127.0.0.1", page.port), LIMIT) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        began = time.monotonic()
        with contextlib.suppress(ConnectionError, TimeoutError):
            status = connection.recv(65536)[:12].decode()
            return Answer(
                "page: a body that does not come", f"{status} after {time.monotonic() - began:.0f} s", "408" in status
            )
    return Answer("page: a body that does not come", f"nothing within {LIMIT:g} s", False)
