"""The other end of a control socket: asking a run from another process."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from collectors.errors import ControlError, NoRunError
from collectors.wire import REQUEST_LIMIT, Lines, connect, encode, peer, why_not_connected

REPLY_LIMIT = 4 * 1024 * 1024  # bytes; a status needs about 200 per collector

logger = logging.getLogger(__name__)


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


def ask_all(
    clients: Sequence[Client], message: dict[str, Any], meanwhile: Callable[[], None] | None = None
) -> list[dict[str, Any]]:
    """Send one request to several, do something ``meanwhile``, then await their replies, in order.

    What goes wrong with one becomes ``{"ok": False, "error": ...}``.
    """
    failures = [attempt(client.send, message) for client in clients]
    if meanwhile is not None:
        meanwhile()
    return [failure or attempt(client.receive) for client, failure in zip(clients, failures, strict=True)]


def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the error reply that stands for its failure."""
    try:
        return call(*arguments)
    except (ControlError, NoRunError) as error:
        return {"ok": False, "error": str(error)}


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
                self._connection = connect(directory, name, timeout)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._nobody(why_not_connected(error, name)) from None
        self._lines = Lines(self._connection, REPLY_LIMIT)

    def send(self, message: dict[str, Any]) -> None:
        """Send a request."""
        line = encode(message)
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
            silence = f"no reply from {self.name} within {self._timeout:g} s"
            raise self._nobody(silence + self._why_silent()) from None
        except ConnectionError as error:
            raise self._nobody(f"the connection to {self.name} broke ({error.strerror})") from None
        except ValueError as error:
            raise ControlError(f"{self._folder / self.name} answered with something that is no JSON: {error}") from None
        if not isinstance(reply, dict):
            raise self._nobody(f"the connection to {self.name} was closed before the reply")
        if not reply.get("ok"):
            raise ControlError(str(reply.get("error", "the run gave no reason")))
        return reply

    def _why_silent(self) -> str:
        """What is known of a process that does not answer."""
        process = peer(self._connection)[0]
        try:
            state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (OSError, IndexError):  # in another container, perhaps
            return ""
        return f": process {process} is stopped; fg, or kill -CONT {process}, lets it go on" if state == "T" else ""

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
