"""Messages that are wrong, on the control socket of a live run."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.harm import Answer
from collectors.wire import connect

LIMIT = 12.0  # s until a server must have answered or hung up
_VALUES: dict[str, list[Any]] = {  # of each field, wrong ones
    "num_envs": [None, "4", 2.5, True, [], {}, -1, 0, 10**9, math.nan],
    "collectors": ["0", 0, {}, 1.5, True, ["0"], [0.5], [True], [None], [-1], [10**6], [[0]]],
    "seconds": ["5", 0, -1, True, [], {}, math.nan, math.inf],
}
_WORDS = {"num_envs": "whole number", "collectors": "collector", "seconds": "above 0"}
_COMMANDS = {"num_envs": ("scale",), "collectors": ("pause", "resume"), "seconds": ("pause",)}
_LINES: tuple[tuple[str, bytes, str], ...] = (
    ("no JSON", b"status", "no JSON"),
    ("an empty line", b"", "no JSON"),
    ("half an object", b'{"command": "status"', "no JSON"),
    ("bytes that are no text", b"\xff\xfe\x00\x80", "no JSON"),
    ("a number", b"1", "no JSON object"),
    ("null", b"null", "no JSON object"),
    ("a list", b'["status"]', "no JSON object"),
    ("no command", b"{}", "unknown command"),
    ("an unknown command", b'{"command": "explode"}', "status, health, pause"),
    ("a list for a command", b'{"command": ["status"]}', "status, health, pause"),
    ("half a surrogate pair for a command", b'{"command": "\\ud800"}', "status, health, pause"),
    ("30,000 brackets", b"[" * 30_000, "no JSON"),
    ("a number with 30,000 digits", b'{"command": "scale", "num_envs": ' + b"9" * 30_000 + b"}", "no JSON"),
    ("a line of 1 MB", b"x" * 2**20, "longer than 65536"),
    ("a line of 10 MB without an end", b"{" * 10 * 2**20, "longer than 65536"),
)


def send(folder: Path, noise: int, crowd: int, seed: int, slow: bool) -> Iterator[Answer]:
    """Send every wrong message, ``noise`` lines of random bytes, and ``crowd`` clients at once; with ``slow`` ones."""
    for what, line, words in _LINES:
        yield _judge(f"socket: {what}", _say(folder, line + b"\n"), words)
    for field, values in _VALUES.items():
        for command, value in itertools.product(_COMMANDS[field], values):
            line = json.dumps({"command": command, field: value}).encode()
            reply = _say(folder, line + b"\n")
            yield _judge(f"socket: {command} with {field} {json.dumps(value)}", reply, _WORDS[field])
    yield _judge("socket: scale with nothing", _say(folder, b'{"command": "scale"}\n'), "whole number")
    yield _noise(folder, noise, random.Random(seed))
    yield _slow(folder)
    yield _crowd(folder, crowd)
    if slow:
        yield _half(folder)
        yield _unread(folder)


def _judge(what: str, reply: dict[str, Any] | None, words: str) -> Answer:
    """Whether a reply is an error of one line with these words."""
    if reply is None:
        return Answer(what, "no reply", False)
    said = str(reply.get("error", reply))
    right = reply.get("ok") is False and words in said and said.isprintable() and len(said) < 500
    return Answer(what, said[:500], right)


@contextlib.contextmanager
def _client(folder: Path) -> Iterator[socket.socket]:
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = connect(directory, "control.sock", LIMIT)
    finally:
        os.close(directory)
    with connection:
        yield connection


def _say(folder: Path, data: bytes) -> dict[str, Any] | None:
    """The reply to some bytes; None where the server hung up without one."""
    with _client(folder) as connection:
        with contextlib.suppress(ConnectionError):  # refused in the midst of it; the reason is there to be read
            connection.sendall(data)
        return _reply(connection)


def _reply(connection: socket.socket) -> dict[str, Any] | None:
    received = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while not received.endswith(b"\n") and (chunk := connection.recv(65536)):
            received += chunk
    return json.loads(received) if received.endswith(b"\n") else None


def _works(folder: Path) -> bool:
    reply = _say(folder, b'{"command": "status"}\n')
    return reply is not None and reply["ok"]


def _noise(folder: Path, lines: int, chance: random.Random) -> Answer:
    """Lines of random bytes, each of which must be refused."""
    accepted = 0
    for _ in range(lines):
        reply = _say(folder, chance.randbytes(chance.randrange(1, 2000)).replace(b"\n", b" ") + b"\n")
        accepted += reply is None or reply["ok"]
    right = not accepted and _works(folder)
    return Answer(f"socket: {lines} lines of noise", f"{lines - accepted} refused", right)


def _half(folder: Path) -> Answer:
    """Half a request, then silence: the server must hang up."""
    began = time.monotonic()
    reply = _say(folder, b'{"command": "sca')
    took = time.monotonic() - began
    return Answer("socket: half a line, then silence", f"hung up after {took:.0f} s", reply is None and took < LIMIT)


def _slow(folder: Path) -> Answer:
    """A request of one byte after the other is answered, as long as it comes within the server's patience."""
    with _client(folder) as connection:
        for byte in b'{"command": "status"}\n':
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
        reply = _reply(connection)
    right = reply is not None and reply["ok"] is True
    return Answer("socket: byte after byte", "answered" if right else str(reply), right)


def _unread(folder: Path) -> Answer:
    """Requests whose replies nobody reads: this client is dropped, and others are served meanwhile."""
    requests = b'{"command": "status"}\n' * 5000
    with _client(folder) as connection:
        connection.settimeout(LIMIT)
        began, works = time.monotonic(), False
        try:
            while time.monotonic() - began < LIMIT:
                connection.send(requests)
                works = works or _works(folder)
        except OSError:
            pass
        took = time.monotonic() - began
    right = works and took < LIMIT + 1
    return Answer("socket: a client that reads no reply", f"dropped after {took:.0f} s, others served: {works}", right)


def _crowd(folder: Path, count: int) -> Answer:
    """Many clients at once: some are served, the others told why not, and later there is room again."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_client(folder)) for _ in range(count)]
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.sendall(b'{"command": "status"}\n')
        replies = [_reply(client) for client in clients]
    served = sum(reply is not None and reply["ok"] for reply in replies)
    told = sum(reply is not None and not reply["ok"] and "try again" in reply["error"] for reply in replies)
    deadline = time.monotonic() + LIMIT
    while not (works := _works(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    right = served > 0 and served + told == count and works
    return Answer(f"socket: {count} clients at once", f"{served} served, {told} told to try again", right)
