"""Where the page is served: reading an address, listening at it, and writing it down for people."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket

from dashboard.errors import DashboardError

_ADDRESS = re.compile(r"(?:\[(?P<literal>[^\[\]]*)\]|(?P<name>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_LOOPBACK = "127.0.0.1"
_ADVICE = {
    errno.EADDRINUSE: "is in use; choose another port, or 0 for a free one",
    errno.EACCES: "is not permitted; choose a port above 1023, or 0 for a free one",
    errno.EADDRNOTAVAIL: "is no address of this machine; choose 127.0.0.1, or 0.0.0.0 for all of its addresses",
}


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8080``, ``[::1]:8080``, ``localhost:8080`` or ``:8080``, which is loopback.

    Raises ValueError in one line that says what would be right.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"address {text!r}: must be HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or :8080")
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"address {text!r}: port {port} is too large; must be 0 to 65535")
    literal, name = match["literal"], match["name"] or _LOOPBACK
    if literal is not None and not _is_literal(literal, 6):
        raise ValueError(f"address {text!r}: {literal!r} in brackets must be an IPv6 address, such as [::1]:8080")
    if literal is None and not (_is_literal(name, 4) if re.fullmatch(r"[0-9.]+", name) else _NAME.fullmatch(name)):
        raise ValueError(f"address {text!r}: {name!r} is neither a host's name nor an IPv4 address such as 127.0.0.1")
    return literal or name, port


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; ``[::]`` takes IPv4 as well.

    Raises DashboardError when the address is in use, not permitted, unknown, or another machine's.
    """
    where = f"--dashboard {_bracketed(host)}:{port}"
    try:
        family, *_, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(target[:2], family=family, dualstack_ipv6=host == "::")
    except socket.gaierror as error:
        raise DashboardError(f"{where}: host {host!r} is unknown ({error.strerror}); try 127.0.0.1") from error
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, f"cannot be listened at ({error.strerror or error})")
        raise DashboardError(f"{where}: {advice}") from error


def url_of(host: str, port: int) -> str:
    """What a person types into a browser on this machine; of a socket that listens everywhere, its loopback address."""
    shown = {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://{_bracketed(shown)}:{port}/"


def _is_literal(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version and "%" not in text
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
