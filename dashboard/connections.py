"""Connections that cannot pile up: a training run must not lose its descriptors or its memory to visitors."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_LIMIT = 200  # at once; more are closed as they come
AGE_LIMIT = 60.0  # s after which a connection ends once its answer is out; browsers open another without a word
GRACE = 10.0  # s more for that answer


class Connection(H11Protocol):
    """One client's connection, which ends in bounded time, whatever the client sends, withholds or leaves unread."""

    _ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the client in, or not."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_LIMIT:
            transport.abort()
        else:
            self._ending = self.loop.call_later(AGE_LIMIT, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.shutdown()
        self._ending = self.loop.call_later(GRACE, self.transport.abort)
