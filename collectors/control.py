"""Being steered from another terminal: a Unix socket in the run's folder, one JSON object per line each way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from collectors.errors import ControlError, RunInUseError
from collectors.wire import REQUEST_LIMIT, Lines, connect, encode, peer, socket_rank, sockets, why_not_connected

Command = Callable[[dict[str, Any]], dict[str, Any]]

CLIENTS_LIMIT = 32  # at once
PATIENCE = 5.0  # seconds in which a client must send its next line, and take the reply
RETRY_SECONDS = 1.0  # before clients are accepted again, where the process ran out of descriptors
CLOSE_SECONDS = 10.0  # half of them for replies that are under way
PROBE_SECONDS = 1.0  # to find out whether anybody listens

logger = logging.getLogger(__name__)


def lock_run_folder(folder: Path) -> int:
    """Keep other runs out of a folder for as long as the returned descriptor is open.

    The lock is on the folder itself, so that no lock file stays behind; it ends with the process and with those forked
    from it, however they end.

    Raises:
        RunInUseError: another run has it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RunInUseError(
            f"run folder {folder} is in use by another run; end it with python -m collectors stop --run-dir {folder}, "
            "or choose another with --run-dir"
        ) from None
    except OSError as error:
        # Network file systems may be unable to lock a folder; that must not keep anybody from training there.
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
            os.close(descriptor)
            raise
        logger.warning("run folder %s cannot be locked (%s); take care to start one run only", folder, error.strerror)
    return descriptor


def forget_ranks(folder: Path, size: int) -> None:
    """Remove the sockets that a dead run with more than ``size`` ranks has left; the caller holds the folder's lock."""
    for name in sockets(folder):
        if (socket_rank(name) or 0) >= size:
            (folder / name).unlink(missing_ok=True)


class ControlServer:
    """Answers requests at ``folder/name``, which only its owner can open.

    A request is ``{"command": NAME, ...}``. The command's function gets the whole request, in the client's own thread,
    several at once; the dict that it returns becomes ``{"ok": true, ...}``. It must bound its own waiting. What it
    raises becomes ``{"ok": false, "error": "one line"}``: a ControlError as it is, anything else also in the log.

    The caller holds ``lock_run_folder``: two servers that replace the same dead run's socket at once are not foreseen.

    Raises:
        RunInUseError: a server answers there already.
        ControlError: something that is no socket is in the way.
    """

    def __init__(self, folder: Path, name: str, commands: Mapping[str, Command]) -> None:
        self._folder = folder
        self._name = name
        self._commands = dict(commands)
        self._closing = threading.Event()
        self._lock = threading.Lock()  # nobody hangs up on a connection while its thread closes it
        self._said: str | None = None  # by renew()
        self._clients: dict[threading.Thread, socket.socket] = {}  # changed by the acceptor only
        self._open()
        self._acceptor = threading.Thread(target=self._accept, name=f"{name} accept", daemon=True)
        self._acceptor.start()

    def _open(self) -> None:
        """Make the socket."""
        # A socket's path is limited to 108 bytes; through the folder's descriptor it is short, however deep the folder.
        directory = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear_the_way(directory, self._folder, self._name)
            self._inode = _bind_for_owner(server, directory, self._name)
            server.listen(128)
        except BaseException:
            server.close()
            os.close(directory)
            raise
        self._directory, self._socket = directory, server

    def renew(self) -> str | None:
        """Make the socket again where somebody has removed it, or its folder; says so, in one line, if that was so."""
        path = self._folder / self._name
        try:
            if path.stat(follow_symlinks=False).st_ino == self._inode:
                self._said = None
                return None
            gone = "another file has taken its place"
        except OSError as error:
            gone = error.strerror or str(error)
        before, directory = self._socket, self._directory
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, ControlError, RunInUseError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            return self._once(f"{path} is gone ({gone}) and cannot be made again ({reason}): nobody can steer this run")
        with contextlib.suppress(OSError):
            before.shutdown(socket.SHUT_RDWR)  # the acceptor turns to the new one
        before.close()
        os.close(directory)
        return self._once(f"{path} was gone ({gone}); it has been made again")

    def _once(self, line: str) -> str | None:
        """The line, unless it was the last one already."""
        said, self._said = self._said, line
        return line if line != said else None

    def _accept(self) -> None:
        while not self._closing.is_set():
            server = self._socket
            try:
                connection, _ = server.accept()
            except OSError:  # woken up by close() or renew(), or out of descriptors
                if not self._closing.is_set() and server is self._socket:
                    logger.exception("%s: cannot accept clients; trying again in %g s", self._name, RETRY_SECONDS)
                    self._closing.wait(RETRY_SECONDS)
                continue
            self._clients = {thread: client for thread, client in self._clients.items() if thread.is_alive()}
            try:
                self._admit(connection)
            except (OSError, RuntimeError):  # it has gone, or there can be no more threads
                logger.exception("%s: a client could not be served", self._name)
                connection.close()

    def _admit(self, connection: socket.socket) -> None:
        """Serve a client in a thread of its own, or tell it why not."""
        if refusal := self._refusal(connection):
            with connection:
                _send(connection, _error(refusal))
            return
        thread = threading.Thread(target=self._serve, args=(connection,), name=f"{self._name} client", daemon=True)
        thread.start()
        self._clients[thread] = connection

    def _refusal(self, connection: socket.socket) -> str | None:
        """Why a client is not served, if so."""
        if _peer_uid(connection) != os.geteuid():
            return f"only the run's owner (uid {os.geteuid()}) may steer it"
        if len(self._clients) >= CLIENTS_LIMIT:
            return f"{CLIENTS_LIMIT} clients are being served already; try again in {PATIENCE:g} s"
        return None

    def _serve(self, connection: socket.socket) -> None:
        """Answer one client, line after line, until it hangs up or falls silent."""
        lines = Lines(connection, REQUEST_LIMIT)
        try:
            while not self._closing.is_set():
                try:
                    line = lines.read(time.monotonic() + PATIENCE)
                except ControlError as error:  # where the next request would begin is unknown, so this is the end
                    _send(connection, _error(str(error)))
                    return
                if line is None or _has_hung_up(connection):  # who waits no more was told that nothing came of it
                    return
                _send(connection, self._answer(line))
        except OSError as error:
            logger.debug("%s: dropped a client: %s", self._name, error)
        finally:
            with self._lock:
                connection.close()

    def _answer(self, line: bytes) -> bytes:
        """The reply to one request, whatever the request is."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            return _error(f"the request is no JSON: {error}")
        if not isinstance(message, dict):
            return _error('the request is no JSON object; send {"command": NAME}')
        name = message.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            return _error(f"unknown command {str(name)[:40]!r}; there are {', '.join(self._commands)}")
        try:
            return encode({"ok": True, **command(message)})
        except ControlError as error:
            return _error(str(error))
        except Exception as error:
            logger.exception("the command %s failed", name)
            return _error(f"{name} failed: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Remove the socket and end all threads within ``CLOSE_SECONDS``; replies under way still go out."""
        if self._closing.is_set():
            return
        self._closing.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        _unlink_own(self._directory, self._name, self._inode)
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept(), here and in whatever process inherited the socket
        self._acceptor.join(CLOSE_SECONDS)
        self._hang_up(socket.SHUT_RD)
        self._join(deadline - CLOSE_SECONDS / 2)
        self._hang_up(socket.SHUT_RDWR)
        if left := self._join(deadline):
            logger.warning("%s: threads still busy with a command after %g s: %d", self._name, CLOSE_SECONDS, left)
        self._socket.close()
        os.close(self._directory)

    def _others(self) -> dict[threading.Thread, socket.socket]:
        """All clients but the one whose command closes the server."""
        return {thread: client for thread, client in self._clients.items() if thread is not threading.current_thread()}

    def _hang_up(self, how: int) -> None:
        with self._lock:
            for connection in self._others().values():
                with contextlib.suppress(OSError):  # the client or its thread was faster
                    connection.shutdown(how)

    def _join(self, deadline: float) -> int:
        """Await the clients' threads; returns how many are left."""
        for thread in self._others():
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in self._others())

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _error(text: str) -> bytes:
    return encode({"ok": False, "error": " ".join(text.split())})


def _send(connection: socket.socket, line: bytes) -> None:
    connection.settimeout(PATIENCE)
    connection.sendall(line)


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the client is gone; one that has only nothing more to say is not."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _clear_the_way(directory: int, folder: Path, name: str) -> None:
    """Remove a dead run's socket."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{folder / name} is in the way: it is no socket; remove it")
    try:
        connect(directory, name, PROBE_SECONDS).close()
    except ConnectionRefusedError:  # nobody has it open
        os.unlink(name, dir_fd=directory)
        return
    except OSError as error:
        raise RunInUseError(f"run folder {folder} is in use by another run: {why_not_connected(error, name)}") from None
    raise RunInUseError(f"run folder {folder} is in use by another run, which answers at {name}")


def _bind_for_owner(server: socket.socket, directory: int, name: str) -> int:
    """Bind so that nobody else can ever connect, not even between two calls; returns the socket file's inode."""
    # Other threads see this umask too; with it the files and folders that they happen to create stay usable for them.
    before = os.umask(0o077)
    try:
        server.bind(f"/proc/self/fd/{directory}/{name}")
    finally:
        os.umask(before)
    os.chmod(name, 0o600, dir_fd=directory)
    return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino


def _unlink_own(directory: int, name: str, inode: int) -> None:
    """Remove a server's socket file, unless another's has taken its place."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == inode:
            os.unlink(name, dir_fd=directory)


def _peer_uid(connection: socket.socket) -> int:
    """The user at the other end, as the kernel noted at connect()."""
    return peer(connection)[1]
