"""What goes on around learning, with real collectors where they matter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import operations
from config import SettingsError, load
from machine import Level, LimitError, MemoryGuard, ProcessMemory
from operations import MemoryKeeper, check_limits, memory_budget

GIB = 2**30


class Stage:
    """A guard over a pretended memory, and a pool, batches and a learner that note what is asked of them."""

    def __init__(self, patience: float = 600.0) -> None:
        self.used, self.now = GIB, 0.0
        self.done: list[str] = []
        self.said: list[str] = []
        guard = MemoryGuard(
            4 * GIB,
            measure=lambda: [ProcessMemory(1, "learner", self.used)],
            free=lambda: 16 * GIB,
            total=32 * GIB,
            clock=lambda: self.now,
        )
        pool = SimpleNamespace(
            pause=lambda why: self.done.append(f"pause {why}"), resume=lambda why: self.done.append(f"resume {why}")
        )
        batches = SimpleNamespace(shrink=lambda: self.done.append("shrink"))
        learner = SimpleNamespace(forget_experience=lambda: self.done.append("forget"))
        self.keeper = MemoryKeeper(
            guard,
            pool,
            batches,  # type: ignore[arg-type]
            learner,  # type: ignore[arg-type]
            False,
            self.said.append,
            patience,
        )

    def look(self, used: float) -> Level:
        """A look 10 s later, with so many GiB in use."""
        self.now += 10.0
        self.used = int(used * GIB)
        return self.keeper.look().level


def test_memory_that_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    monkeypatch.setattr(operations.time, "monotonic", lambda: stage.now)
    assert stage.look(1.0) is Level.FINE
    assert stage.look(3.5) is Level.TIGHT
    assert len(stage.said) == 1
    assert stage.done == []
    assert stage.look(4.1) is Level.OVER
    assert stage.done == ["pause memory", "shrink", "forget"]
    for _ in range(5):
        assert stage.look(3.9) is Level.OVER, "it must fall below the first mark"
    assert stage.done == ["pause memory", "shrink", "forget"], "once is enough"
    stage.look(2.0)
    assert stage.done[3:] == ["resume memory"]
    stage.look(4.2)
    assert stage.done[4:] == ["pause memory", "shrink", "forget"], "the second time like the first"


def test_resting_for_ever_ends_with_the_names_of_the_biggest(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(patience=60.0)
    monkeypatch.setattr(operations.time, "monotonic", lambda: stage.now)
    for _ in range(7):  # the first of them is where it begins
        stage.look(5.0)
    with pytest.raises(MemoryError, match=r"resting for 60 s has not helped"):
        stage.look(5.0)


@pytest.mark.parametrize(("text", "ranks", "size"), [("90G", 1, 90), ("90G", 2, 45), ("92160MiB", 1, 90)])
def test_ranks_of_a_machine_share_the_budget(text: str, ranks: int, size: int) -> None:
    assert memory_budget(text, ranks) == size * GIB


@pytest.mark.parametrize("text", ["much", "0", "-1G", "120%", "nan%", "1M"])
def test_a_budget_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=f"--memory-budget {text}"):
        memory_budget(text, 1)


def test_limits_are_asked_for_what_the_settings_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    asked: dict[str, list[int]] = {"processes": [], "descriptors": [], "disk": []}
    monkeypatch.setattr(operations, "check_processes", lambda needed: asked["processes"].append(needed))
    flags: list[str] = []

    def descriptors(needed: int, flag: str) -> None:
        asked["descriptors"].append(needed)
        flags.append(flag)

    monkeypatch.setattr(operations, "check_descriptors", descriptors)
    monkeypatch.setattr(operations, "check_disk", lambda folder, needed: asked["disk"].append(needed))
    few, many = load(["--num-envs", "1"]), load(["--num-envs", "200", "--keep-checkpoints", "9"])
    check_limits(few, 1, tmp_path, 1000)
    check_limits(many, 100, tmp_path, 1000)
    check_limits(many, 100, None, 1000)  # a rank that writes nothing
    assert asked["processes"][0] < asked["processes"][1] == asked["processes"][2]
    assert asked["descriptors"][0] < asked["descriptors"][1]
    check_limits(load(["--num-envs", "200", "--max-envs", "300"]), 100, None, 1000)
    assert flags == ["--max-envs", "--num-envs", "--num-envs", "--max-envs"], "where it would help to lower it"
    assert asked["disk"][1] - asked["disk"][0] == 6000
    assert len(asked["disk"]) == 2


def test_a_disk_that_is_too_small_is_said_before_anything_starts(tmp_path: Any) -> None:
    with pytest.raises(LimitError, match="--run-dir"):
        check_limits(load([]), 2, tmp_path, 2**60)
