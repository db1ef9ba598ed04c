"""What SUMO writes about its own end, kept to be quoted."""

from __future__ import annotations

import os
import tempfile

_BYTES, _LINES = 2000, 6  # as much as an error quotes


class LastWords:
    """A file for SUMO's errors that has no name: there is nothing to clean up, whoever is killed."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session

    def fileno(self) -> int:
        """For a process that is to write into it."""
        return self._file.fileno()

    def text(self) -> str:
        """The last of what SUMO said."""
        size = os.fstat(self.fileno()).st_size
        return os.pread(self.fileno(), _BYTES, max(0, size - _BYTES)).decode(errors="replace").strip()

    def quote(self) -> str:
        """The last lines of it, as one."""
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        return "SUMO's last words: " + " / ".join(lines[-_LINES:]) if lines else "SUMO said nothing"

    def close(self) -> None:
        """Forget it all; closing twice is fine."""
        self._file.close()
