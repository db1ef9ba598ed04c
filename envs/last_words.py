"""What a process writes about its own end, kept to be quoted."""

from __future__ import annotations

import fcntl
import os
import tempfile

_BYTES, _LINES = 2000, 6  # as much as an error quotes


class LastWords:
    """A file for errors that has no name: there is nothing to clean up, whoever is killed."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as whoever writes into it
        fcntl.fcntl(self.fileno(), fcntl.F_SETFL, os.O_APPEND)  # so that it can be emptied while it is written

    def fileno(self) -> int:
        """For a process that is to write into it."""
        return self._file.fileno()

    def text(self, limit: int = _BYTES) -> str:
        """The last of what was said, ``limit`` bytes at most."""
        size = self.size()
        return os.pread(self.fileno(), limit, max(0, size - limit)).decode(errors="replace").strip()

    def size(self) -> int:
        """Bytes that were said so far."""
        return os.fstat(self.fileno()).st_size

    def forget(self) -> None:
        """Begin anew; what was said so far is gone."""
        os.ftruncate(self.fileno(), 0)

    def quote(self) -> str:
        """The last lines of what SUMO said, as one."""
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        return "SUMO's last words: " + " / ".join(lines[-_LINES:]) if lines else "SUMO said nothing"

    def close(self) -> None:
        """Give the file back; closing twice is fine."""
        self._file.close()
