"""What can go wrong between a run and its machine."""

from __future__ import annotations


class LimitError(RuntimeError):
    """The machine, the container or the user's limits do not allow what a run is about to take."""
