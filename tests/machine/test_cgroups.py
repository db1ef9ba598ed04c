"""Control groups of every kind, as trees of files; and those that this machine really has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from machine import cgroups
from machine.cgroups import Allowance
from machine.memory import available_memory, free_memory
from machine.processors import cores

V2 = "25 20 0:22 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/{name} rw,relatime shared:9 master:2 - cgroup cgroup rw,{name}"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
DISK = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro"
NO_LIMIT_V1 = "9223372036854771712"


def fake(root: Path, groups: str, mounts: str, files: Mapping[str, object]) -> Path:
    """A machine on which this process is in some groups; ``files`` are those below /sys/fs/cgroup."""
    everything = {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": mounts,
        **{f"sys/fs/cgroup/{name}": content for name, content in files.items()},
    }
    for name, content in everything.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


def v2(root: Path, group: str, files: Mapping[str, object], top: str = "/") -> Path:
    return fake(root, f"0::{group}", f"{DISK}\n{V2.format(top=top)}", files)


def v1(root: Path, group: str, files: Mapping[str, object], top: str = "/") -> Path:
    names = ("memory", "pids", "cpu,cpuacct")
    groups = "\n".join(f"{number}:{name}:{group}" for number, name in enumerate(names, start=5))
    mounts = "\n".join([DISK, HYBRID, *(V1.format(top=top, name=name) for name in names)])
    return fake(root, f"{groups}\n1:name=systemd:{group}\n0::{group}", mounts, files)


def test_version_2_in_a_container(tmp_path: Path) -> None:
    root = v2(
        tmp_path,
        "/",
        {
            "memory.max": 4000,
            "memory.current": 3000,
            "memory.stat": "anon 1000\ninactive_file 700\nactive_file 200\nslab_reclaimable 100\nfile 1200",
            "pids.max": 100,
            "pids.current": 30,
            "cpu.max": "150000 100000",
        },
    )
    folder = tmp_path / "sys/fs/cgroup"
    assert cgroups.memory(root) == [Allowance(folder, 4000, 2000)]
    assert cgroups.processes(root) == [Allowance(folder, 100, 30)]
    assert cgroups.processors(root) == 1.5


def test_version_1_counts_the_groups_below_and_takes_its_own_words(tmp_path: Path) -> None:
    root = v1(
        tmp_path,
        "/jobs/one",
        {
            "memory/jobs/one/memory.limit_in_bytes": 4000,
            "memory/jobs/one/memory.usage_in_bytes": 3000,
            "memory/jobs/one/memory.stat": "inactive_file 1\ntotal_inactive_file 700\ntotal_active_file 200",
            "memory/jobs/memory.limit_in_bytes": NO_LIMIT_V1,
            "memory/jobs/memory.usage_in_bytes": 3500,
            "memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "pids/jobs/one/pids.max": "max",
            "pids/jobs/pids.max": 50,
            "pids/jobs/pids.current": 60,
            "cpu,cpuacct/jobs/one/cpu.cfs_quota_us": -1,
            "cpu,cpuacct/jobs/one/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/jobs/cpu.cfs_quota_us": 250000,
            "cpu,cpuacct/jobs/cpu.cfs_period_us": 100000,
        },
    )
    base = tmp_path / "sys/fs/cgroup"
    assert cgroups.memory(root) == [Allowance(base / "memory/jobs/one", 4000, 2100)]
    assert cgroups.processes(root) == [Allowance(base / "pids/jobs", 50, 60)]
    assert cgroups.processes(root)[0].left == 0
    assert cgroups.processors(root) == 2.5


def test_hybrid_has_some_controllers_on_each_side(tmp_path: Path) -> None:
    root = fake(
        tmp_path,
        "4:memory:/job\n0::/job",
        f"{V1.format(top='/', name='memory')}\n{HYBRID}",
        {
            "memory/job/memory.limit_in_bytes": 1000,
            "unified/job/memory.max": 1,  # the controller is not on this side
            "unified/job/pids.max": 7,
            "unified/job/pids.current": 2,
        },
    )
    assert [group.limit for group in cgroups.memory(root)] == [1000]
    assert [group.left for group in cgroups.processes(root)] == [5]


def test_the_smallest_limit_of_all_ancestors_counts(tmp_path: Path) -> None:
    root = v2(
        tmp_path,
        "/a/b/c",
        {
            "a/b/c/memory.max": 8000,
            "a/b/c/memory.current": 10,
            "a/b/memory.max": "max",
            "a/memory.max": 6000,
            "a/memory.current": 5900,
            "a/b/c/cpu.max": "max 100000",
            "a/b/cpu.max": "400000 100000",
            "a/cpu.max": "50000 100000",
            "other/memory.max": 1,
        },
    )
    assert [group.limit for group in cgroups.memory(root)] == [8000, 6000]
    assert available_memory(root) == 6000
    assert free_memory(root) == 100
    assert cgroups.processors(root) == 0.5
    assert cores(root) == 1


def test_where_a_group_is_slowed_down_it_is_limited(tmp_path: Path) -> None:
    root = v2(tmp_path, "/", {"memory.max": 4000, "memory.high": 3000, "memory.current": 1000})
    assert [group.limit for group in cgroups.memory(root)] == [3000]


def test_a_container_on_version_1_sees_its_own_group_where_the_top_should_be(tmp_path: Path) -> None:
    """Without a namespace for groups, /proc names the group as the host does, and the mount begins at it."""
    root = v1(tmp_path, "/docker/f00", {"memory/memory.limit_in_bytes": 512, "pids/pids.max": 9}, top="/docker/f00")
    assert [group.limit for group in cgroups.memory(root)] == [512]
    assert [group.limit for group in cgroups.processes(root)] == [9]


@pytest.mark.parametrize("group", ["/../../elsewhere", "/elsewhere"])
def test_a_group_outside_of_what_is_mounted_has_the_limits_of_the_mount(tmp_path: Path, group: str) -> None:
    (tmp_path / "sys/elsewhere").mkdir(parents=True)
    (tmp_path / "sys/elsewhere/memory.max").write_text("1")
    root = v2(tmp_path, group, {"memory.max": 512}, top="/box" if group == "/elsewhere" else "/")
    assert [group.limit for group in cgroups.memory(root)] == [512]


def test_no_groups_no_limits(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    empty = v2(tmp_path / "empty", "/gone", {})
    unlimited = v2(tmp_path / "max", "/", {"memory.max": "max", "pids.max": "max", "cpu.max": "max 100000"})
    for root in (bare, empty, unlimited):
        assert cgroups.memory(root) == []
        assert cgroups.processes(root) == []
        assert cgroups.processors(root) is None


def test_cores_are_those_of_the_affinity_and_of_the_quota(tmp_path: Path) -> None:
    plenty = v2(tmp_path / "plenty", "/", {"cpu.max": "6400000 100000"})
    part = v2(tmp_path / "part", "/", {"cpu.max": "1000 100000"})
    assert cores(plenty) == cores(tmp_path)
    assert cores(part) == 1


def test_this_machine_can_be_read() -> None:
    assert all(group.limit >= 0 and group.used >= 0 for group in [*cgroups.memory(), *cgroups.processes()])
    assert (cgroups.processors() or 1) > 0
    assert cores() >= 1
    assert 0 < free_memory() <= available_memory()
