"""Messages over a socket pair: put together however they are cut, and no wait without an end."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import threading
import time
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


def test_an_answer_that_came_while_all_were_frozen_is_taken(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=0.05)
    mail.send(b"question", messages=1, least=30)
    writer = threading.Timer(0.4, theirs.sendall, [framed(b"a" * 30)])  # long after the limit, but it comes
    writer.start()
    assert mail.next()._content == b"a" * 30
    writer.join()


def test_an_answer_that_never_ends_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=0.05)
    mail.send(b"question", messages=1, least=1)
    theirs.sendall(framed(b"a" * 1000)[:10])
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.01):
            theirs.sendall(b"a")

    writer = threading.Thread(target=drip)
    writer.start()
    try:
        with pytest.raises(TimeoutError):
            mail.next()
    finally:
        stop.set()
        writer.join()


def test_answers_that_come_in_two_parts_wake_it_although_the_second_is_short(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """The first part is there when it begins to wait; the second alone is less than it asked to be woken by."""
    ours, theirs = ends
    mail = Mail(ours, limit=1e6)
    for _ in range(3):
        mail.send(b"question", messages=2, least=100)
        theirs.sendall(framed(b"a" * 66))
        waiting = threading.Event()
        answers: list[bytes] = []

        def read(done: threading.Event = waiting, found: list[bytes] = answers) -> None:
            found.extend(mail.next()._content for _ in range(2))
            done.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        assert not waiting.wait(0.2), "one of two messages is there"
        theirs.sendall(framed(b"b" * 46))
        assert waiting.wait(10), "it sleeps on although all is there"
        assert answers == [b"a" * 66, b"b" * 46]


def test_a_part_of_an_answer_buys_no_more_time(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=1.0, grace=0.1)
    mail.send(b"question", messages=1, least=1)
    writer = threading.Timer(0.8, theirs.sendall, [framed(b"a" * 30)[:10]])
    writer.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        mail.next()
    assert time.monotonic() - began < 1.5
    writer.join()


def test_a_descriptor_may_have_any_number(ends: tuple[socket.socket, socket.socket]) -> None:
    """``select`` knows none from 1024 on."""
    ours, theirs = ends
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, limits[1]), limits[1]))
    try:
        with socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1024)) as high:
            mail = Mail(high, limit=0.05)
            mail.send(b"question", messages=1, least=30)
            writer = threading.Timer(0.4, theirs.sendall, [framed(b"a" * 30)])
            writer.start()
            assert mail.next()._content == b"a" * 30
            writer.join()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_limit_may_be_as_large_as_one_likes(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    mail = Mail(ours, limit=1e30)
    mail.send(b"question", messages=1, least=30)
    theirs.sendall(framed(b"a" * 30))
    assert mail.next()._content == b"a" * 30
