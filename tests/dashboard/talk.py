"""A client of the page's server that says exactly what a test wants said."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from dashboard.server import Dashboard

TOKEN = "a-token-for-tests"
LIMIT = 20.0  # s that a test waits for an answer, at most


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The refusal, which must be one line."""
        text = self.json["error"]
        assert isinstance(text, str)
        assert text.isprintable()
        assert "Traceback" not in text
        return text


def port_of(dashboard: Dashboard) -> int:
    return int(dashboard.url.rstrip("/").rpartition(":")[2])


def host_of(dashboard: Dashboard) -> str:
    return dashboard.url.removeprefix("http://").rstrip("/")


def connect(dashboard: Dashboard) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port_of(dashboard), timeout=LIMIT)


def ask(
    dashboard: Dashboard,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request with these headers; Host is as it should be unless it is among them."""
    connection = connect(dashboard)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": host_of(dashboard), **(headers or {})}.items():
            connection.putheader(name, value.encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def get(dashboard: Dashboard, path: str, **headers: str) -> Answer:
    return ask(dashboard, "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def post(dashboard: Dashboard, path: str, body: object = None, **headers: str) -> Answer:
    """A request as the page sends it; an empty header takes one out."""
    usual = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    wanted = usual | {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    return ask(dashboard, "POST", path, data, {name: value for name, value in wanted.items() if value})
