"""Messages over a socket pair: put together however they are cut, and no wait without an end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from traci.exceptions import FatalTraCIError

from envs.mail import Mail


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with here, there:
        there.connect(here.getsockname())
        ours, _ = here.accept()
        with ours:
            yield ours, there


def framed(content: bytes) -> bytes:
    return (len(content) + 4).to_bytes(4) + content


@pytest.mark.parametrize("least", [1, 60, 60_000])
def test_messages_are_put_together_however_they_are_cut(ends: tuple[socket.socket, socket.socket], least: int) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=10)
    contents = [os.urandom(size) for size in (0, 1, 3, 300, 70_000, 5, 200_000, 1)]
    stream = b"".join(map(framed, contents))
    cuts = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 200, 30_000, 70_000, 70_400, len(stream)]
    mail.send(b"question", messages=len(contents), least=least)
    assert theirs.recv(100) == b"question"

    def write() -> None:
        for begin, end in zip([0, *cuts], cuts, strict=False):
            theirs.sendall(stream[begin:end])

    writer = threading.Thread(target=write)
    writer.start()
    assert [mail.next()._content for _ in contents] == contents
    writer.join(10)
    assert mail.owed == 0
    theirs.sendall(b"four")  # whoever shares the connection is woken by the first byte again
    assert ours.recv(4) == b"four"
    theirs.close()
    mail.owed = 1
    with pytest.raises(FatalTraCIError):
        mail.next()


@pytest.mark.parametrize("part", [b"", b"\0\0", framed(b"abc")[:-1]])
def test_silence_ends(ends: tuple[socket.socket, socket.socket], part: bytes) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=0.05)
    mail.send(b"question", messages=1, least=30)
    theirs.sendall(part)
    with pytest.raises(TimeoutError):
        mail.next()


def test_hanging_up_in_the_middle_is_noticed(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=10)
    mail.send(b"question", messages=1, least=30)
    theirs.sendall(framed(b"abc")[:-1])
    theirs.recv(100)
    theirs.close()
    with pytest.raises(FatalTraCIError):
        mail.next()
