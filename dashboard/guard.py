"""Who may ask: checks of a request's headers, made before anything looks at the rest of it.

Reading needs no token. What keeps other web pages in the same browser from reading is that they get no CORS headers,
and that a name which they make point to this machine (DNS rebinding) is not among the hosts that are answered for.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.answers import refuse

_HOST = re.compile(r"(?:\[(?P<literal>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
_READING = ("GET", "HEAD")

Refusal = tuple[int, str]  # HTTP status, one line


class Hosts:
    """The names that this server answers to: as it was told, ``localhost``, this machine's own, and addresses.

    host: as in the address that was asked for. bound: the address that the socket has; where it is not loopback, any
    address is a name for this machine, as others may reach it through forwarded ports.
    """

    def __init__(self, host: str, bound: str) -> None:
        self._names = {host.lower(), "localhost", socket.gethostname().lower()}
        self._any_address = not ipaddress.ip_address(bound.partition("%")[0]).is_loopback

    def allow(self, header: str) -> bool:
        """Whether a Host header, with a port or without, is one of these."""
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        host = (match["literal"] or match["name"]).lower()
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host in self._names
        return self._any_address or address.is_loopback or host in self._names


class Guard:
    """ASGI middleware that refuses what must not get further."""

    def __init__(self, app: ASGIApp, hosts: Hosts, token: str) -> None:
        self._app = app
        self._hosts = hosts
        self._credentials = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, line = refusal
        await refuse(status, line, {"WWW-Authenticate": "Bearer"} if status == 401 else None)(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> Refusal | None:
        host = headers.get("host", "")
        if not self._hosts.allow(host):
            return 421, f"host {host[:100]!r} is not served here; use localhost, or the address given to --dashboard"
        if any(origin.lower() != f"http://{host}".lower() for origin in headers.getlist("origin")):
            return 403, f"origin {headers['origin'][:100]!r} is another page's; only http://{host} may ask"
        return None if method in _READING else self._why_not_change(headers)

    def _why_not_change(self, headers: Headers) -> Refusal | None:
        """Whatever is no reading might change something."""
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none"):
            return 403, f"sec-fetch-site is {site[:100]!r}; only this server's own page may change anything"
        # Compared in constant time, as bytes: a header may hold any.
        given = headers.get("authorization", "").encode("latin-1")
        if not secrets.compare_digest(given, self._credentials):
            return 401, "to change anything, send Authorization: Bearer TOKEN with the token that the run printed"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "content-type must be application/json"
        return None
