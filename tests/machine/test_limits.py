"""Checks before a run starts, against limits that really hold: what a check allows, the kernel must, too."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from machine.errors import LimitError
from machine.limits import check_disk, check_processes
from tests.machine.children import MB, run
from tests.machine.test_cgroups import v2


def refusal(check: Callable[[], None]) -> str:
    """The one line with which a check refuses."""
    with pytest.raises(LimitError) as caught:
        check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


DESCRIPTORS = """
import os, resource
from machine.limits import LimitError, check_descriptors
before = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (before + 2, before + 40))
check_descriptors(30, "--max-envs")
opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(30)]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
assert before + 30 <= soft < hard == before + 40, (soft, hard)
try:
    check_descriptors(30, "--max-envs")
except LimitError as error:
    print(error)
"""


def test_the_soft_limit_of_descriptors_is_raised_as_far_as_the_hard_one() -> None:
    said = run(DESCRIPTORS)
    needed, allowed = (int(number) for number in re.findall(r"\d+", said)[:2])
    assert needed > allowed
    assert f"ulimit -n {needed}" in said
    assert said.count("\n") == 1


# Threads are started until the kernel refuses one, and the check must have foretold it.
THREADS = """
import os, resource, sys, threading
from machine.limits import LimitError, check_processes
user, limit, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if user == "another":
    try:
        os.setuid(100_000 + os.getpid())
        print("alone")
    except OSError:
        print("among others")
end = threading.Event()
threading.Thread(target=end.wait, daemon=True).start()
resource.setrlimit(resource.RLIMIT_NPROC, (1, limit))
try:
    check_processes(number)
    told = True
except LimitError as error:
    print(error)
    told = False
threads = [threading.Thread(target=end.wait) for _ in range(number)]
try:
    for thread in threads:
        thread.start()
    happened = True
except RuntimeError:
    happened = False
end.set()
assert told == happened, (told, happened)
"""


def test_what_is_said_of_processes_is_what_the_kernel_does() -> None:
    """As whoever runs the tests: root may have any number, others no more than they have already."""
    run(THREADS, "myself", "1", "1")


@pytest.mark.parametrize(("number", "enough"), [(6, True), (7, False)])
def test_a_user_may_have_exactly_as_many_processes_as_the_hard_limit_says(number: int, enough: bool) -> None:
    """Exactly where we can become a user who has two threads alone; elsewhere kernel and check agree, at least."""
    company, *said = run(THREADS, "another", "8", str(number)).splitlines()
    if company == "alone":
        assert (said == []) is enough
        assert enough or re.match(r"7 more .* needed and user \d+ may have 6 more, 8 in all; allow 9 ", said[0])


def test_processes_of_a_container_are_limited_by_any_group_above(tmp_path: Path) -> None:
    files = {"a/b/pids.max": 500, "a/b/pids.current": 20, "a/pids.max": 100, "a/pids.current": 60}
    root = v2(tmp_path, "/a/b", files)
    check_processes(40, root)
    said = refusal(lambda: check_processes(41, root))
    assert "41 more processes and threads are needed" in said
    assert "allows 40 more, 100 in all" in said
    assert "--pids-limit 101" in said


# Size of a file system, its inodes, and what is asked of it: bytes and files; what is wrong, if anything.
SMALL_DISKS = [
    ("1m", 64, 512 * 1024, 10, ""),
    ("1m", 64, 2 * MB, 10, "2 MiB of disk are needed in [^ ]+/new/run and 1 MiB are free"),
    ("1m", 64, 512 * 1024, 100, "100 files are needed in [^ ]+/new/run and its file system has room for 63 more"),
    ("1m", 1, 0, 1, "has room for 0 more"),
]
ON_SMALL_DISK = """
import sys
from pathlib import Path
from machine.limits import LimitError, check_disk
try:
    check_disk(Path(sys.argv[1], "new", "run"), int(sys.argv[2]), int(sys.argv[3]))
except LimitError as error:
    print(error)
"""
# Where nothing may be mounted, as in most containers, the numbers of such a disk take its place.
PRETEND = """
import os
from types import SimpleNamespace
os.statvfs = lambda path: SimpleNamespace(f_bavail=256, f_frsize=4096, f_files={inodes}, f_favail={inodes} - 1)
"""
MOUNTED = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs -o "$1" none "$2"; shift 2; exec "$@"']


@cache
def can_mount(folder: Path) -> bool:
    """Whether we may mount something where only we and our children see it."""
    command = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("size", "inodes", "needed", "files", "wrong"), SMALL_DISKS)
def test_a_small_disk(tmp_path: Path, size: str, inodes: int, needed: int, files: int, wrong: str) -> None:
    arguments = (str(tmp_path), str(needed), str(files))
    if can_mount(tmp_path):
        within = [*MOUNTED, "sh", f"size={size},nr_inodes={inodes}", str(tmp_path)]
        said = run(ON_SMALL_DISK, *arguments, within=within)
    else:
        said = run(PRETEND.format(inodes=inodes) + ON_SMALL_DISK, *arguments)
    assert re.search(wrong, said) if wrong else said == ""
    assert said.count("\n") <= 1
    assert not list(tmp_path.iterdir())


def test_the_disk_here_has_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    stat = os.statvfs(tmp_path)
    check_disk(folder, stat.f_bavail * stat.f_frsize // 2)
    said = refusal(lambda: check_disk(folder, 2 * stat.f_bavail * stat.f_frsize + 1))
    assert str(folder) in said
    assert "--run-dir" in said
    assert not list(tmp_path.iterdir())


def test_blocks_kept_for_root_are_not_free_and_no_inodes_at_all_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimpleNamespace(f_bavail=10, f_bfree=1000, f_frsize=1024, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    check_disk(tmp_path, 10 * 1024)
    refusal(lambda: check_disk(tmp_path, 10 * 1024 + 1))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refusal(lambda: check_disk(tmp_path / "file" / "run", 0, 0))
    # Nobody creates files in /proc, root included.
    assert "cannot write to /proc: " in refusal(lambda: check_disk(Path("/proc/run"), 0, 0))


def test_a_link_counts_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert "cannot write to /proc: " in refusal(lambda: check_disk(tmp_path / "link" / "run", 0, 0))
