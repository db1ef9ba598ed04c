"""What the control groups around this process allow: version 1, version 2, and both side by side.

A limit holds for a group and all below it, so that the group of this process and its ancestors count, as far up as they
can be seen from here: a container may hide those above it. ``root`` is where /proc and /sys are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_NO_LIMIT = 2**60  # version 1 says "none" with the largest number of whole pages
# Pages of files and of kernel caches, which count as used and are given up when somebody needs the room.
_GIVEN_UP = ("inactive_file", "active_file", "slab_reclaimable")


@dataclass(frozen=True)
class Allowance:
    """What one group may have of something, and what it has: bytes, or processes and threads."""

    folder: Path
    limit: int
    used: int

    @property
    def left(self) -> int:
        """How much more it may have."""
        return max(0, self.limit - self.used)


def memory(root: Path = Path("/")) -> list[Allowance]:
    """Limits of memory in bytes; caches that are given up when needed do not count as used."""
    found = []
    for folder in _folders("memory", root):
        # Above memory.high a group is not killed, but slowed down until it all but stands still.
        limits = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        limit = min((limit for limit in limits if limit is not None), default=None)
        if limit is not None:
            found.append(Allowance(folder, limit, _memory_used(folder)))
    return found


def processes(root: Path = Path("/")) -> list[Allowance]:
    """Limits of processes and threads, which count alike."""
    return [
        Allowance(folder, limit, _number(folder / "pids.current") or 0)
        for folder in _folders("pids", root)
        if (limit := _number(folder / "pids.max")) is not None
    ]


def processors(root: Path = Path("/")) -> float | None:
    """How many processors' time may be used; None without a limit."""
    shares = [share for folder in _folders("cpu", root) if (share := _processors(folder)) is not None]
    return min(shares, default=None)


def _memory_used(folder: Path) -> int:
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    stat = {name: int(value) for name, value in lines}
    # Version 1 has the groups below in figures of their own.
    return max(0, used - sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _GIVEN_UP))


def _processors(folder: Path) -> float | None:
    words = _read(folder / "cpu.max").split() or [
        *_read(folder / "cpu.cfs_quota_us").split(),
        *_read(folder / "cpu.cfs_period_us").split(),
    ]
    if len(words) != 2 or words[0] in ("max", "-1"):
        return None
    return int(words[0]) / int(words[1])  # µs of processor time in each period of so many µs


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """The folder of this process's group for a controller, and those of its ancestors."""
    version, group = _own_group(controller, root)
    mount = _mount(version, controller, group, root)
    if mount is None:
        return
    top, point = mount
    # A group outside of what is mounted here is not to be seen; its nearest visible ancestor is the mount itself.
    inside = group.relative_to(top).parts if group.is_relative_to(top) and ".." not in group.parts else ()
    base = root.joinpath(*point.parts[1:])
    for depth in range(len(inside), -1, -1):
        yield base.joinpath(*inside[:depth])


def _own_group(controller: str, root: Path) -> tuple[str, PurePosixPath]:
    """The file system that has the controller, as the kernel calls it, and this process's group there."""
    unified = "/"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return "cgroup", PurePosixPath(path)
        if number == "0":
            unified = path
    return "cgroup2", PurePosixPath(unified)


def _mount(
    version: str, controller: str, group: PurePosixPath, root: Path
) -> tuple[PurePosixPath, PurePosixPath] | None:
    """Which group is mounted, and where: one above our own if there is any."""
    mounts = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == version and (kind == "cgroup2" or controller in options.split(",")):
            top, point = before.split(" ")[3:5]
            mounts.append((PurePosixPath(top), PurePosixPath(point)))
    return next((mount for mount in mounts if group.is_relative_to(mount[0])), mounts[0] if mounts else None)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file or no limit."""
    text = _read(path).strip()
    number = int(text) if text.isdigit() else _NO_LIMIT
    return number if number < _NO_LIMIT else None


def _read(path: Path) -> str:
    """A file's text; nothing where it is missing or hidden, as at the top of the hierarchy: that sets no limit."""
    try:
        return path.read_text()
    except OSError:
        return ""
