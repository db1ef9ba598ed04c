"""The server of a run's page: a daemon thread inside the training process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR
from types import TracebackType
from typing import Self

import uvicorn

from dashboard.address import listen, parse_address, url_of
from dashboard.answers import HEADERS
from dashboard.app import application
from dashboard.connections import Connection
from dashboard.guard import Hosts
from dashboard.run import Record

CLOSE_SECONDS = 2.0
_ANSWER_SECONDS = 1  # of these, for answers that are under way
logger = logging.getLogger(__name__)


class Dashboard:
    """Serves the page of a run from now until ``close``; a context manager.

    address: as in ``parse_address``; port 0 picks a free one. token: what whoever changes anything must know.
    status: a dict per rank. command: carries out ``{"command": "pause" | "resume" | "scale", ...}``, a reply per rank.
    history: recent figures with their ``time`` (s since 1970), oldest first. health: ``healthy``, ``state`` and
    ``seconds_since_progress``. All four are called in other threads, each at most once at a time, and should return
    within 2 s.

    Raises:
        ValueError: the address cannot be read, or the token is empty.
        DashboardError: the address is in use or not permitted.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        status: Callable[[], list[Record]],
        command: Callable[[Record], list[Record]],
        history: Callable[[], list[Record]],
        health: Callable[[], Record],
    ) -> None:
        if not token:
            raise ValueError("the token is empty; without one, anybody could change the run")
        host, port = parse_address(address)
        self._socket = listen(host, port)
        bound, port = self._socket.getsockname()[:2]
        self.url = url_of(host, port)
        app = application(Hosts(host, bound), token, status=status, command=command, history=history, health=health)
        config = uvicorn.Config(
            app,
            http=Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            headers=list(HEADERS.items()),
            timeout_graceful_shutdown=_ANSWER_SECONDS,
            # What visitors do wrong is told to them, not to the terminal; the run's own faults are logged by this room.
            access_log=False,
            log_config=None,
            log_level="critical",
        )
        self._server = uvicorn.Server(config)
        # The server closes its own copy of the socket; this one can still end the listening, also in forked processes.
        copy = self._socket.dup()
        self._thread = threading.Thread(target=self._server.run, args=([copy],), name="dashboard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody, within ``CLOSE_SECONDS``; closing twice is fine."""
        self._server.should_exit = True
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            logger.warning("the page's server did not close within %g s", CLOSE_SECONDS)
        with suppress(OSError):  # closed before
            self._socket.shutdown(SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
