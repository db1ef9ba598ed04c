"""Disks that are really full, in a process of its own, which reports in JSON what has become of its files there.

``python -m tests.learner.full_disk disk|limit TASK FOLDER``: a file system of 1 MB that nobody else sees, for which the
process must have been started by ``PRIVATE``; or no file of this process may grow any more, which anybody may ask for.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from learner import checkpoints, metrics
from learner.errors import CheckpointError

PRIVATE = ("unshare", "--map-root-user", "--mount")  # mounts of its own, also for those who are not root


class SmallDisk:
    """1 MB in ``folder``, of which a large file takes what is left."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(folder)], check=True)
        self._large = folder / "large"

    def fill(self) -> None:
        with self._large.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def make_room(self) -> None:
        self._large.unlink()


class SmallFiles:
    """Files may not grow beyond the size that the largest one in ``folder`` has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> None:
        largest = max(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def write_metrics(folder: Path, disk: SmallDisk | SmallFiles) -> dict[str, Any]:
    """Records before, while and after the disk is full."""
    path = folder / metrics.FILE_NAME
    values: dict[str, float | str] = {"loss": 0.5, "state": "x" * 300}
    with metrics.MetricsWriter(folder) as writer:
        before = writer.write(1, values)
        disk.fill()
        full = [writer.write(step, values) for step in range(2, 200)]
        size = path.stat().st_size
        whole = path.read_bytes().endswith(b"\n")
        lost = writer.lost
        disk.make_room()
        after = [writer.write(step, values) for step in range(200, 203)]
        disk.fill()
        again = [writer.write(step, values) for step in range(203, 400)]
    os.truncate(path, size - 7)
    with metrics.MetricsWriter(folder, resume=True):  # on a disk that is still full, and after a torn line
        resumed = len(metrics.read(path))
    disk.make_room()
    (events,) = folder.glob("events.*")
    return {
        "before": before,
        "troubles": [trouble for trouble in full if trouble],
        "whole": whole,
        "lost": lost,
        "after": after,
        "again": [trouble for trouble in again if trouble],
        "resumed": resumed,
        "events": [event.step for event in EventAccumulator(str(events)).Reload().Scalars("loss")],
    }


def save_checkpoints(folder: Path, disk: SmallDisk | SmallFiles) -> dict[str, Any]:
    """Two checkpoints, one for which there is no room, and one more."""
    states = [{"weights": torch.full((20_000 + 5_000 * step,), float(step))} for step in range(5)]
    kept = [checkpoints.save(folder, step, states[step], keep=3) for step in (1, 2)]
    disk.fill()
    try:
        complaint = str(checkpoints.save(folder, 3, states[3], keep=3))
    except CheckpointError as error:
        complaint = str(error)
    left = sorted(path.name for path in folder.iterdir() if path.name != "large")
    loaded = [float(checkpoints.load(path)["weights"][0]) for path in kept]
    disk.make_room()
    last = checkpoints.save(folder, 4, states[4], keep=3)
    return {
        "complaint": complaint,
        "left": left,
        "loaded": loaded,
        "needed": checkpoints.size_of(states[3]),
        "latest": str(checkpoints.latest(folder)) == str(last),
    }


def main(kind: str, task: str, folder: Path) -> None:
    """What a task has seen."""
    tasks = {"metrics": write_metrics, "checkpoints": save_checkpoints}
    print(json.dumps(tasks[task](folder, SmallDisk(folder) if kind == "disk" else SmallFiles(folder))))


def report(kind: str, task: str, folder: Path) -> dict[str, Any]:
    """What such a process reports."""
    command = [sys.executable, "-m", "tests.learner.full_disk", kind, task, str(folder)]
    root = Path(__file__).parents[2]
    prefix = PRIVATE if kind == "disk" else ()
    run = subprocess.run([*prefix, *command], cwd=root, timeout=60, check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def may_mount() -> bool:
    """Whether this user may have mounts of its own on this machine."""
    try:
        command = [*PRIVATE, "mount", "-t", "tmpfs", "small", "/mnt"]
        return subprocess.run(command, timeout=60, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
