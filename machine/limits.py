"""Checks before a run starts: may it have what it is going to take, on top of what is taken now?

Each raises ``LimitError`` with one line: what is needed, what is there, how to get it.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from pathlib import Path

import psutil

from machine import cgroups
from machine.errors import LimitError
from machine.sizes import size_text

_FILES = 1000  # that a run may create: checkpoints, events, logs
_MAY_EXCEED = 1 << 24 | 1 << 21  # CAP_SYS_RESOURCE, CAP_SYS_ADMIN: either lets a process exceed RLIMIT_NPROC
_EVERYBODY = [[0, 0, 2**32 - 1]]  # the map of the user namespace that the machine itself is in


def check_descriptors(needed: int, flag: str) -> None:
    """May this process open ``needed`` files, pipes and sockets more? Raises its soft limit where that is enough.

    What it starts from now on inherits that limit. ``flag`` is what to lower for fewer.
    """
    wanted = len(list(Path("/proc/self/fd").iterdir())) + needed
    allowed = _allow(resource.RLIMIT_NOFILE, wanted)
    if allowed < wanted:
        raise LimitError(
            f"{wanted} open files are needed and this process may have {allowed}; "
            f"allow more (ulimit -n {wanted}, docker run --ulimit nofile={wanted}) or lower {flag}"
        )


def check_processes(needed: int, root: Path = Path("/")) -> None:
    """May ``needed`` processes and threads more be started? Raises the soft limit of the user where that is enough.

    In a container, only the user's processes in there can be counted. ``root`` is where control groups are looked for.
    """
    if _bound_to_processes():
        wanted = _own_threads() + needed
        allowed = _allow(resource.RLIMIT_NPROC, wanted)
        if allowed < wanted:
            raise LimitError(
                f"{needed} more processes and threads are needed and user {os.getuid()} may have "
                f"{max(0, allowed + needed - wanted)} more, {allowed} in all; "
                f"allow {wanted} (ulimit -u {wanted}, docker run --ulimit nproc={wanted}) or lower --num-envs"
            )
    for group in cgroups.processes(root):
        if group.left < needed:
            wanted = group.used + needed
            raise LimitError(
                f"{needed} more processes and threads are needed and {group.folder} allows {group.left} more, "
                f"{group.limit} in all; allow {wanted} (docker run --pids-limit {wanted}, systemd's TasksMax) "
                "or lower --num-envs"
            )


def check_disk(folder: Path, needed: int, files: int = _FILES) -> None:
    """May ``needed`` bytes in ``files`` files be written into a folder, which need not exist yet?"""
    place = folder.resolve()
    try:
        while not place.exists():
            place = place.parent
        stat = os.statvfs(place)
    except OSError as error:
        raise _unwritable(place, error) from error
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        raise LimitError(
            f"{size_text(needed)} of disk are needed in {folder} and {size_text(free)} are free on its file system; "
            "make room or choose another --run-dir"
        )
    if stat.f_files and stat.f_favail < files:  # a file system that needs no inodes says that it has none in all
        raise LimitError(
            f"{files} files are needed in {folder} and its file system has room for {stat.f_favail} more (df -i); "
            "remove some or choose another --run-dir"
        )
    try:
        with tempfile.TemporaryFile(dir=place):  # the one answer that is true for root and for quotas, too
            pass
    except OSError as error:
        raise _unwritable(place, error) from error


def _unwritable(place: Path, error: OSError) -> LimitError:
    reason = error.strerror or error
    return LimitError(f"cannot write to {place}: {reason}; make it writable or choose another --run-dir")


def _allow(kind: int, wanted: int) -> int:
    """Raise this process's soft limit to what is wanted if it must and may be; returns how much may be had then."""
    soft, hard = (sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(kind))
    if wanted <= soft:
        return soft
    if wanted <= hard:
        resource.setrlimit(kind, (wanted, resource.getrlimit(kind)[1]))
        return wanted
    return hard


def _bound_to_processes() -> bool:
    """Whether the kernel holds this process to RLIMIT_NPROC: not the machine's root, and nobody with its powers.

    Who is root only in a namespace, as in many containers, is somebody else outside, and bound as that one.
    """
    spans = [[int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    user = os.getuid()
    outside = next((outer + user - inner for inner, outer, count in spans if 0 <= user - inner < count), user)
    status = Path("/proc/self/status").read_text()
    powers = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return outside != 0 and not (spans == _EVERYBODY and powers & _MAY_EXCEED)


def _own_threads() -> int:
    """Threads of all processes of this user."""
    info = (process.info for process in psutil.process_iter(["uids", "num_threads"]))
    return sum(one["num_threads"] or 0 for one in info if one["uids"] is not None and one["uids"].real == os.getuid())
