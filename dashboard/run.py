"""The run behind the page: its functions, called in threads of their own so that the event loop never waits."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from dashboard.answers import one_line
from dashboard.errors import RunFaultError

Record = dict[str, Any]
Value = TypeVar("Value")

FRESH = 1.0  # s for which all who ask share one reading
PATIENCE = 8.0  # s until a request gives up; the run itself answers within 2

logger = logging.getLogger(__name__)


class Reading(Generic[Value]):
    """Something that the run says, read at most once per ``FRESH`` s and never twice at the same time."""

    def __init__(self, name: str, read: Callable[[], Value]) -> None:
        self._name = name
        self._read = read
        self._begun = 0.0
        self._future: asyncio.Future[Value] | None = None

    async def value(self) -> Value:
        """The newest reading; raises RunFaultError where it failed or does not come."""
        now = time.monotonic()
        if self._future is None or (self._future.done() and now - self._begun >= FRESH):
            self._begun = now
            self._future = _in_thread(self._name, self._read, known_to_fail=self._failed())
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(self._future)
        except TimeoutError:
            raise RunFaultError(f"{self._name}: the run did not answer within {PATIENCE:g} s") from None

    def _failed(self) -> bool:
        return self._future is not None and self._future.exception() is not None


class Commander:
    """Gives the run one command after the other."""

    def __init__(self, command: Callable[[Record], list[Record]]) -> None:
        self._command = command
        self._future: asyncio.Future[list[Record]] | None = None

    async def give(self, message: Record) -> list[Record]:
        """The ranks' replies; raises RunFaultError where the command failed or is not done in time."""
        name = message["command"]
        try:
            async with asyncio.timeout(PATIENCE):
                while self._future is not None and not self._future.done():
                    await asyncio.wait([self._future])
                self._future = _in_thread(name, lambda: self._command(message))
                return await asyncio.shield(self._future)
        except TimeoutError:
            raise RunFaultError(f"{name}: the run did not answer within {PATIENCE:g} s") from None


def _in_thread(name: str, function: Callable[[], Value], known_to_fail: bool = False) -> asyncio.Future[Value]:
    """The future result of a function in a daemon thread, which keeps nobody from closing.

    Its errors become RunFaultError; they are logged, unless the log already says that it fails again and again.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def settle(value: Value | None, error: RunFaultError | None) -> None:
        if error is None:
            future.set_result(value)  # type: ignore[arg-type]
        else:
            future.set_exception(error)
            future.exception()  # seen, even where everybody has stopped waiting

    def work() -> None:
        value, fault = None, None
        try:
            value = function()
        except Exception as error:
            if not known_to_fail:
                logger.exception("the page's question for %s failed", name)
            fault = RunFaultError(one_line(f"{name} failed: {type(error).__name__}: {error}"))
        with suppress(RuntimeError):  # the server has closed meanwhile
            loop.call_soon_threadsafe(settle, value, fault)

    threading.Thread(target=work, name=f"dashboard {name}", daemon=True).start()
    return future
