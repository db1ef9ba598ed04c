"""What is answered to which request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard import metrics
from dashboard.answers import answer, refuse
from dashboard.commands import BODIES, message
from dashboard.errors import RunFaultError
from dashboard.guard import Guard, Hosts
from dashboard.run import Commander, Reading, Record

Handler = Callable[[Request], Awaitable[Response]]

BODY_LIMIT = 64 * 1024  # bytes
BODY_SECONDS = 10.0  # in which a body must arrive

_PAGES = Path(__file__).parent / "pages"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
logger = logging.getLogger(__name__)


def application(
    hosts: Hosts,
    token: str,
    *,
    status: Callable[[], list[Record]],
    command: Callable[[Record], list[Record]],
    history: Callable[[], list[Record]],
    health: Callable[[], Record],
) -> Starlette:
    """The ASGI application; the functions are those of ``Dashboard``."""
    ranks, figures, pulse = Reading("status", status), Reading("history", history), Reading("health", health)
    commander = Commander(command)

    async def get_status(request: Request) -> Response:
        now, then = await asyncio.gather(ranks.value(), pulse.value())
        # The time by the clock that the history is told in: a browser's may be hours off.
        return answer({"time": time.time(), "ranks": now, "health": then})

    async def get_history(request: Request) -> Response:
        return answer({"history": await figures.value()})

    async def get_metrics(request: Request) -> Response:
        return Response(metrics.exposition(await ranks.value()), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def get_health(request: Request) -> Response:
        found = await pulse.value()
        return answer(found, 200 if found["healthy"] else 503)

    def post(name: str) -> Handler:
        async def give(request: Request) -> Response:
            try:
                wanted = message(name, await _body(request))
            except ValueError as error:
                return refuse(400, str(error))
            replies = await commander.give(wanted)
            errors = [f"rank {reply['rank']}: {reply['error']}" for reply in replies if not reply["ok"]]
            return answer(
                {"replies": replies, **({"error": "; ".join(errors)} if errors else {})}, 409 if errors else 200
            )

        return give

    routes = [
        Route("/api/status", get_status),
        Route("/api/history", get_history),
        Route("/metrics", get_metrics),
        Route("/healthz", get_health),
        *(Route(f"/api/{name}", post(name), methods=["POST"]) for name in BODIES),
        *(Route(f"/{path.name}", _file(path)) for path in _PAGES.iterdir() if path.suffix in _MEDIA_TYPES),
        Route("/", _file(_PAGES / "page.html")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={
            HTTPException: _http_refusal,
            RunFaultError: _run_fault,
            ClientDisconnect: _gone,
            Exception: _own_fault,
        },
    )


def _file(path: Path) -> Handler:
    """A file of the page, read once."""
    content = path.read_bytes()

    async def get(request: Request) -> Response:
        return Response(content, media_type=_MEDIA_TYPES[path.suffix])

    return get


async def _body(request: Request) -> bytes:
    """A request's body; raises HTTPException when it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise HTTPException(413, f"the body is too large; at most {BODY_LIMIT} bytes are read")
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    return bytes(body)


async def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, error.detail, error.headers)


async def _run_fault(request: Request, error: Exception) -> Response:
    return refuse(503, str(error))


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads this: the client hung up before its body was complete."""
    return refuse(400, "the body is not complete")


async def _own_fault(request: Request, error: Exception) -> Response:
    logger.error("the page could not answer %s %s", request.method, request.url.path, exc_info=error)
    return refuse(500, f"the page failed: {type(error).__name__}; the run's log says more")
