"""Processes that a run starts: how many make sense, and what each does before anything else."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path

# Ctrl-C and its kin may reach every process of a run; the parent alone decides what follows.
FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cores() -> int:
    """Processor cores that this process may use: what it starts should be no more than that at once."""
    return len(os.sched_getaffinity(0))


def end_helpers() -> None:
    """End the processes that ``multiprocessing`` keeps for us, now and not half a second after we have ended.

    They come back when they are needed again.
    """
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def follow_parent() -> None:
    """Leave requests to stop to the parent, and end at once when it dies; to be called in the main thread.

    The parent's process id would not tell: that of a process from a forkserver is the forkserver's.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
    threading.Thread(target=_die_with_parent, name="parent-watch", daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        _clean_up_after_it()
        os._exit(1)


def _clean_up_after_it() -> None:
    """Remove the temporary folder of the forkserver's socket, as the parent would have done had it not been killed."""
    address = getattr(forkserver._forkserver, "_forkserver_address", None)
    folder = Path(address).parent if isinstance(address, str) else None
    if folder is not None and folder.name.startswith("pymp-"):  # multiprocessing.util.get_temp_dir
        shutil.rmtree(folder, ignore_errors=True)  # all its children try at once
