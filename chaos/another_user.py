"""``python -m chaos.another_user FOLDER UID``: ask for the status of a run as another user, print what comes of it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

_LIMIT = 30.0  # s


def ask_as(folder: Path, uid: int) -> str:
    """Ask for the status as another user; from inside the folder, as those above it may be closed to others."""
    os.chdir(folder)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_LIMIT)
        try:
            connection.connect("control.sock")
            connection.sendall(b'{"command": "status"}\n')
        except ConnectionError:
            pass  # refused already; the reason is there to be read
        except OSError as error:
            return error.strerror or str(error)
        return connection.recv(65536).decode().strip()


if __name__ == "__main__":
    print(ask_as(Path(sys.argv[1]), int(sys.argv[2])))
