"""What can go wrong with a scenario or with SUMO; each message is the one line that the user sees."""

from __future__ import annotations


class ScenarioError(ValueError):
    """The user's scenario, or a file that belongs to it, is wrong."""


class SumoMissingError(RuntimeError):
    """SUMO, or one of its programs, is not installed."""


class SumoError(RuntimeError):
    """SUMO died or answered with an error; the message quotes SUMO's own last words.

    ``exit_code`` is that of its process, None where it has not ended, or has none of its own.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
