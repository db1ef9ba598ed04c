"""What a measurement says: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def results_only() -> Iterator[IO[str]]:
    """The real stdout, for results alone: whatever else is printed meanwhile, here or by a child, goes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as results:
        os.dup2(2, 1)
        try:
            yield results
        finally:
            sys.stdout.flush()
            os.dup2(results.fileno(), 1)
