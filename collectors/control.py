"""Steering from another terminal: a Unix socket in the run's folder, one JSON object per line each way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

Command = Callable[[dict[str, Any]], dict[str, Any]]

REQUEST_LIMIT = 64 * 1024  # bytes
REPLY_LIMIT = 4 * 1024 * 1024  # bytes; a status needs about 200 per collector
CLIENTS_LIMIT = 32  # at once
PATIENCE = 5.0  # seconds in which a client must send its next line, and take the reply
RETRY_SECONDS = 1.0  # before clients are accepted again, where the process ran out of descriptors
CLOSE_SECONDS = 10.0  # half of them for replies that are under way
PROBE_SECONDS = 1.0  # to find out whether anybody listens

logger = logging.getLogger(__name__)


class ControlError(RuntimeError):
    """The request is wrong, or the run could not do it."""


class NoRunError(RuntimeError):
    """Nobody answers in the folder."""


class RunInUseError(RuntimeError):
    """Another run works in the folder."""


def socket_name(rank: int) -> str:
    """The name of a rank's socket in the run's folder."""
    return "control.sock" if rank == 0 else f"control.rank{rank}.sock"


def socket_rank(name: str) -> int | None:
    """The rank whose socket has that name; None where it is no control socket's name."""
    match = re.fullmatch(r"control(?:\.rank([1-9]\d*))?\.sock", name)
    return int(match[1] or 0) if match else None


def sockets(folder: Path) -> list[str]:
    """Names of the control sockets in a folder, by rank; those of dead runs are among them."""
    if not folder.is_dir():
        return []
    ranks = (socket_rank(path.name) for path in folder.iterdir() if path.is_socket())
    return [socket_name(rank) for rank in sorted(rank for rank in ranks if rank is not None)]


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
        raise RunInUseError(f"run folder {folder} is in use by another run; choose another with --run-dir") from None
    except OSError as error:
        # Network file systems may be unable to lock a folder; that must not keep anybody from training there.
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
            os.close(descriptor)
            raise
        logger.warning("run folder %s cannot be locked (%s); take care to start one run only", folder, error.strerror)
    return descriptor


def request(folder: Path, name: str, message: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Send one request to a run and return its reply.

    ``timeout`` is in seconds and holds for everything together.

    Raises:
        NoRunError: nobody answers, or not in time.
        ControlError: the run answered with an error, which is the message.
    """
    with Client(folder, name, timeout) as client:
        client.send(message)
        return client.receive()


class Client:
    """A connection to a run; ``send`` and ``receive`` apart, so that all ranks can be asked before one is awaited.

    Raises:
        NoRunError: nobody answers.
    """

    def __init__(self, folder: Path, name: str, timeout: float) -> None:
        self.name = name
        self._folder = folder
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        try:
            directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:
                self._connection = _connect(directory, name, timeout)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._nobody(_why_not_connected(error, name)) from None
        self._lines = _Lines(self._connection, REPLY_LIMIT)

    def send(self, message: dict[str, Any]) -> None:
        """Send a request."""
        line = _encode(message)
        if len(line) > REQUEST_LIMIT:
            raise ControlError(f"the request has {len(line)} bytes; at most {REQUEST_LIMIT} are allowed")
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            self._connection.sendall(line)
        except TimeoutError:
            raise self._nobody(f"{self.name} took no request within {self._timeout:g} s") from None
        except ConnectionError as error:
            # A server that refuses this client has hung up already; its reason is still there to be received.
            logger.debug("%s hung up before the request: %s", self.name, error)

    def receive(self) -> dict[str, Any]:
        """Await the reply; raises ControlError where it is an error."""
        try:
            line = self._lines.read(self._deadline)
            reply = json.loads(line) if line else None
        except TimeoutError:
            raise self._nobody(f"no reply from {self.name} within {self._timeout:g} s") from None
        except ConnectionError as error:
            raise self._nobody(f"the connection to {self.name} broke ({error.strerror})") from None
        except ValueError as error:
            raise ControlError(f"{self._folder / self.name} answered with something that is no JSON: {error}") from None
        if not isinstance(reply, dict):
            raise self._nobody(f"the connection to {self.name} was closed before the reply")
        if not reply.get("ok"):
            raise ControlError(str(reply.get("error", "the run gave no reason")))
        return reply

    def _nobody(self, why: str) -> NoRunError:
        return NoRunError(f"no run is answering in {self._folder}: {why}")

    def close(self) -> None:
        """Hang up; twice is fine."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
        self._name = name
        self._commands = dict(commands)
        self._closing = threading.Event()
        self._lock = threading.Lock()  # nobody hangs up on a connection while its thread closes it
        self._clients: dict[threading.Thread, socket.socket] = {}  # changed by the acceptor only
        # A socket's path is limited to 108 bytes; through the folder's descriptor it is short, however deep the folder.
        self._directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear_the_way(self._directory, folder, name)
            self._inode = _bind_for_owner(self._socket, self._directory, name)
            self._socket.listen(128)
        except BaseException:
            self._socket.close()
            os.close(self._directory)
            raise
        self._acceptor = threading.Thread(target=self._accept, name=f"{name} accept", daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:  # woken up by close(), or out of descriptors
                if not self._closing.is_set():
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
        lines = _Lines(connection, REQUEST_LIMIT)
        try:
            while not self._closing.is_set():
                try:
                    line = lines.read(time.monotonic() + PATIENCE)
                except ControlError as error:  # where the next request would begin is unknown, so this is the end
                    _send(connection, _error(str(error)))
                    return
                if line is None:
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
            return _encode({"ok": True, **command(message)})
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


class _Lines:
    """Lines of one connection, each with a limit on its length and on the time that it may take."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._rest = bytearray()

    def read(self, deadline: float) -> bytes | None:
        """The next line without its end, None at the end of the stream; TimeoutError at the deadline (monotonic s)."""
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > self._limit:
                break
            chunk = self._receive(deadline)
            if not chunk:
                return None
            self._rest += chunk
        if max(end, searched) > self._limit:
            raise ControlError(f"a line is longer than {self._limit} bytes")
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole line in time")
        self._connection.settimeout(left)
        return self._connection.recv(64 * 1024)


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, allow_nan=False).encode() + b"\n"


def _error(text: str) -> bytes:
    return _encode({"ok": False, "error": " ".join(text.split())})


def _send(connection: socket.socket, line: bytes) -> None:
    connection.settimeout(PATIENCE)
    connection.sendall(line)


def _connect(directory: int, name: str, timeout: float) -> socket.socket:
    """A connection to the socket of that name in an open folder; raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{directory}/{name}")
    except BaseException:
        connection.close()
        raise
    return connection


def _why_not_connected(error: OSError, name: str) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no {name}"
        case ConnectionRefusedError():
            return f"{name} is left from a run that has died"
        case PermissionError():
            return f"{name} is another user's"
        case BlockingIOError():
            return f"too many clients wait at {name}"
        case _:
            return f"{name}: {error.strerror}"


def _clear_the_way(directory: int, folder: Path, name: str) -> None:
    """Remove a dead run's socket."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{folder / name} is in the way: it is no socket; remove it")
    try:
        _connect(directory, name, PROBE_SECONDS).close()
    except ConnectionRefusedError:  # nobody has it open
        os.unlink(name, dir_fd=directory)
        return
    except OSError as error:
        raise RunInUseError(
            f"run folder {folder} is in use by another run: {_why_not_connected(error, name)}"
        ) from None
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
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
