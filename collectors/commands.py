"""What can be asked of a run, by a person at another terminal, a web page or a signal; see `collectors.control`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from collectors.client import Client, ask_all
from collectors.control import Command
from collectors.errors import ControlError, NoRunError
from collectors.pool import Pool
from collectors.wire import socket_name

Reply = dict[str, Any]

logger = logging.getLogger(__name__)
_PATIENCE = 5.0  # s for another rank to answer; it does so within ``collectors.pool.ANSWER``


def commands_of(
    pool: Pool,
    rank: int,
    figures: Callable[[], Mapping[str, float | None]],
    health: Callable[[], Mapping[str, Any]],
    stop: Callable[[], None],
) -> dict[str, Command]:
    """The commands of one rank; each but ``health`` returns its status, ``figures`` included.

    They raise ``ControlError`` for what cannot be, and take no longer than ``collectors.pool.ANSWER``.
    """

    def status(message: Reply) -> Reply:
        return {"rank": rank, **pool.status(), "figures": figures()}

    def pause(message: Reply) -> Reply:
        pool.pause(message.get("collectors"), _seconds(message.get("seconds")))
        return status(message)

    def resume(message: Reply) -> Reply:
        pool.resume(message.get("collectors"))
        return status(message)

    def scale(message: Reply) -> Reply:
        pool.scale(message.get("num_envs", 0))
        return status(message)

    def end(message: Reply) -> Reply:
        stop()
        return status(message)

    def condition(message: Reply) -> Reply:
        return {"rank": rank, **health()}

    return {"status": status, "health": condition, "pause": pause, "resume": resume, "scale": scale, "stop": end}


def _seconds(value: Any) -> float | None:
    """How long a pause lasts; None for until it is resumed."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise ControlError(f"seconds {value!r}: must be a number above 0, or null for until it is resumed")
    return float(value)


class AllRanks:
    """A command for every rank of a run: its own is carried out here, the others are asked over their sockets."""

    def __init__(self, own: Mapping[str, Command], rank: int, size: int, folder: Path) -> None:
        self._own = own
        self._rank = rank
        self._others = [other for other in range(size) if other != rank]
        self._folder = folder

    def ask(self, message: Reply) -> list[Reply]:
        """The replies by rank, all asked at once; what goes wrong with one becomes ``{"ok": False, "error": ...}``."""
        replies: dict[int, Reply] = {}
        with ExitStack() as connections:
            clients: dict[int, Client] = {}
            for rank in self._others:
                try:
                    clients[rank] = connections.enter_context(Client(self._folder, socket_name(rank), _PATIENCE))
                except NoRunError as error:
                    replies[rank] = {"ok": False, "error": str(error)}

            def do_own() -> None:
                replies[self._rank] = self._do(message)

            replies |= zip(clients, ask_all([*clients.values()], message, meanwhile=do_own), strict=True)
        return [{"rank": rank, **replies[rank]} for rank in sorted(replies)]

    def _do(self, message: Reply) -> Reply:
        """This rank's own reply; what it did not expect must not cost the replies of the others."""
        name = message["command"]
        try:
            return {"ok": True, **self._own[name](message)}
        except ControlError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:
            logger.exception("the command %s failed", name)
            return {"ok": False, "error": f"{name} failed: {type(error).__name__}: {error}"}
