"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A job in the background of a script is born deaf to Ctrl-C, and so would be all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
