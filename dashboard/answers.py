"""Answers in JSON, and the headers that every answer carries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

HEADERS = {
    # Scripts, styles and pictures come from this server alone, none of them inline, so that no text can become one.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON; NaN and infinities, which JSON does not know, become null."""
    # ASCII only: a text may hold halves of surrogate pairs, which UTF-8 cannot write.
    return Response(json.dumps(plain(value), allow_nan=False), status, headers, "application/json")


def refuse(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    """Why something is not done, as ``{"error": "one line"}``."""
    return answer({"error": one_line(line)}, status, headers)


def plain(value: Any) -> Any:
    """The same without NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def one_line(text: object) -> str:
    """A text without line breaks, and not without end."""
    return " ".join(str(text).split())[:500]
