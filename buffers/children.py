"""Processes that a run starts: what each does before anything else, and what is left of them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess, current_process
from typing import Any

_IMPORT_LIMIT = 300.0  # s for a forkserver to import our rooms, and after an update to compile loops
_FORK_LIMIT = 10.0  # s for one that has served before, to fork once more a process that need not import much itself
_LAST_MOMENTS = 5.0  # s that a helper has to end
_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)

# Ctrl-C and its kin may reach every process of a run; the parent alone decides what follows.
FOR_THE_PARENT = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),  # stop
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP),  # pause, resume, Ctrl-Z
)

_server: Any = forkserver._forkserver
_socket = -1  # the forkserver's, which has no name
_served = 0  # process id of the forkserver that the latest child came from
_starting = threading.RLock()  # what a start changes for a moment belongs to all threads


def start_forkserver(preload: Sequence[str]) -> int:
    """Have a process from which others are forked, with these modules imported once; returns its process id.

    It is deaf to the signals that are for this one. Children inherit blocked signals, so that there is no moment at
    which one of them could be hit.
    """
    with _starting:
        if not _serves():
            multiprocessing.get_context("forkserver").set_forkserver_preload([*preload])
            resource_tracker.ensure_running()  # its start would unblock them
            before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
            try:
                _start_without_a_name()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return int(_server._forkserver_pid)


def _serves() -> bool:
    """Whether there is a forkserver that lives."""
    if _server._forkserver_pid is None:
        return False
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, _server._forkserver_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False


def _start_without_a_name() -> None:
    """Start the forkserver, and take the name of its socket away.

    There is nothing to clean up then, whoever is killed, and nothing that somebody who cleans up could remove.
    """
    global _socket
    config = current_process()._config  # type: ignore[attr-defined]
    before = config.get("tempdir")
    with tempfile.TemporaryDirectory(prefix="platoon-") as folder:
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        config["tempdir"] = f"/proc/self/fd/{directory}"  # short enough for a socket in it, whatever TMPDIR is
        try:
            forkserver.ensure_running()
            if _socket >= 0:
                os.close(_socket)
            _socket = os.open(_server._forkserver_address, os.O_PATH)
            _server._forkserver_address = f"/proc/self/fd/{_socket}"
        finally:
            config["tempdir"] = before
            os.close(directory)


def start_child(process: BaseProcess, server: int, limit: float | None = None) -> None:
    """Start a process that is forked from the forkserver with the process id ``server``, and hand it its work.

    That may take ``limit`` s: by default as long as a fork takes, or imports where this one has not served yet.
    Raises ``TimeoutError`` where it takes longer: that one has been killed then, and ``start_forkserver`` starts
    another. Raises OSError, EOFError or RuntimeError where it, or the machine, does not let us have a process.
    """
    global _served
    if limit is None:
        limit = _FORK_LIMIT if server == _served else _IMPORT_LIMIT
    try:
        with killed_after(limit, server):
            process.start()
    except TimeoutError as error:
        raise TimeoutError(f"the process that it is forked from did not answer within {limit:g} s") from error
    _served = server


def why_not_started(error: Exception) -> str:
    """What ``start_child`` raised, for people: its own words, or Python's with the name of what went wrong."""
    return str(error) if isinstance(error, TimeoutError) else repr(error)


def kill_forkserver() -> None:
    """End the process that others are forked from at once; whoever waits for it hears of it."""
    if (pid := _server._forkserver_pid) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_helpers() -> None:
    """End the processes that ``multiprocessing`` keeps for us, now and not half a second after we have ended.

    They come back when they are needed again. The forkserver may still be importing what nobody needs any more, and
    would hear of its end only then: it is killed.
    """
    kill_forkserver()
    with killed_after(_LAST_MOMENTS, _server._forkserver_pid), suppress(OSError):  # its socket has no name to remove
        _server._stop()
    with killed_after(_LAST_MOMENTS, resource_tracker._resource_tracker._pid):  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@contextmanager
def killed_after(seconds: float, pid: int | None) -> Iterator[None]:
    """Kill a child of ours when the block takes longer than that: nothing in it waits for it for ever.

    Raises ``TimeoutError`` where the block fails because of that.
    """
    try:
        victim = os.pidfd_open(pid) if pid is not None else None
    except ProcessLookupError:
        victim = None
    if victim is None:
        yield
        return
    late = threading.Event()

    def kill() -> None:
        late.set()
        with suppress(ProcessLookupError):  # it has just ended
            signal.pidfd_send_signal(victim, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    try:
        timer.start()
        yield
    except (OSError, EOFError) as error:
        if late.is_set():
            raise TimeoutError(f"process {pid} has not answered for {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        os.close(victim)


@contextmanager
def without_main() -> Iterator[None]:
    """Keep a child that is started from running the program's own file once more; one thread at a time.

    It needs nothing of it, and a checkout may be updated under a run.
    """
    with _starting:
        main = sys.modules["__main__"].__dict__
        path = main.pop("__file__", None)
        try:
            yield
        finally:
            if path is not None:
                main["__file__"] = path


def follow_parent() -> None:
    """Leave requests to stop to the parent, and end at once when it dies; to be called in the main thread.

    The parent's process id would not tell: that of a process from a forkserver is the forkserver's.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
    if _server._forkserver_alive_fd is not None:  # the forkserver ends when nobody holds it any more
        os.close(_server._forkserver_alive_fd)
        _server._forkserver_alive_fd = None
    threading.Thread(target=_die_with_parent, name="parent-watch", daemon=True).start()


@contextmanager
def watching_parent() -> Iterator[None]:
    """End at once when the parent dies while the block runs: a forkserver notices it only once it has imported all.

    No thread is left afterwards that would be in the way of a fork.
    """
    parent, over = os.pidfd_open(os.getppid()), os.eventfd(0)

    def watch() -> None:
        if parent in wait([parent, over]):
            os._exit(1)

    watcher = threading.Thread(target=watch, name="parent-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.eventfd_write(over, 1)
        watcher.join()
        os.close(parent)
        os.close(over)


def die_with_forkserver(pid: int) -> None:
    """Have the kernel end this process with the forkserver, which ends with the parent; to follow ``follow_parent``.

    It reaches processes in which no thread gets its turn: libsumo keeps the interpreter's lock through a whole step,
    and one that is stopped runs nothing at all. ``pid`` is the forkserver's.
    """
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != pid:  # it died in between
        os._exit(1)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
