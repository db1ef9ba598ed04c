"""Whether a run counts as healthy, by a pretended clock, and what its web page answers to that."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import operations
from config import load
from dashboard import run as reading
from learner.stopping import StopRequest
from learner.world import World
from operations import Station

STALL_LIMIT = 5.0  # s
PATIENCE = 4 * STALL_LIMIT


class Stage:
    """A station over a pool that says what it is told to say, at a time that somebody sets."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0  # monotonic s
        self.state = "starting"  # of the pool
        # For the station alone: its servers go by the real clock.
        monkeypatch.setattr(operations, "time", SimpleNamespace(monotonic=lambda: self.now, time=time.time))
        settings = load(["--stall-limit", str(STALL_LIMIT), "--dashboard", "127.0.0.1:0"])
        pool = SimpleNamespace(status=lambda: {"state": self.state})
        world = World(0, 1, torch.device("cpu"))
        self.station = Station(settings, world, pool, folder, StopRequest())

    def health(self, after: float = 0.0) -> tuple[bool, str, float]:
        """The health so many seconds later."""
        self.now += after
        health = self.station.health()
        return health["healthy"], health["state"], health["seconds_since_progress"]

    def healthz(self) -> tuple[int, dict[str, Any]]:
        """What the page answers."""
        assert self.station.page is not None
        try:
            with urllib.request.urlopen(self.station.page.partition("#")[0] + "healthz", timeout=10) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read())


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path, monkeypatch)
    with made.station:
        yield made


def test_a_run_that_learns_is_healthy_until_no_step_comes_for_four_stall_limits(stage: Stage) -> None:
    stage.state = "running"
    stage.station.note({"loss": 1.0}, progress=True)
    assert stage.health() == (True, "learning", 0.0)
    assert stage.health(after=PATIENCE - 1.0) == (True, "learning", PATIENCE - 1.0)
    stage.station.note({"loss": 1.0}, progress=False)  # it still looks around, without a step
    assert stage.health(after=1.0) == (False, "hanging", PATIENCE)
    assert stage.health(after=100.0) == (False, "hanging", PATIENCE + 100.0)
    stage.station.note({"loss": 1.0}, progress=True)
    assert stage.health() == (True, "learning", 0.0)


def test_a_run_that_never_makes_its_first_step_hangs(stage: Stage) -> None:
    stage.state = "running"
    assert stage.health(after=PATIENCE - 1.0) == (True, "learning", PATIENCE - 1.0)
    assert stage.health(after=1.0) == (False, "hanging", PATIENCE)


@pytest.mark.parametrize("state", ["pausing", "paused"])
def test_a_loop_that_stands_still_hangs_although_collectors_rest(stage: Stage, state: str) -> None:
    stage.state = state
    stage.station.note({}, progress=True)  # none is expected
    assert stage.health(after=PATIENCE - 1.0) == (True, state, PATIENCE - 1.0)
    assert stage.health(after=1.0) == (False, "hanging", PATIENCE)


@pytest.mark.parametrize("state", ["starting", "stopped"])
def test_what_is_not_at_work_does_not_hang(stage: Stage, state: str) -> None:
    stage.state = state
    assert stage.health(after=10 * PATIENCE) == (True, state, 10 * PATIENCE)


def test_a_run_has_its_patience_back_after_a_pause(stage: Stage) -> None:
    stage.state = "paused"
    stage.now += 10 * PATIENCE
    stage.station.note({}, progress=True)  # none is expected
    stage.state = "running"
    assert stage.health(after=PATIENCE - 1.0)[:2] == (True, "learning")
    assert stage.health(after=1.0)[:2] == (False, "hanging")


def test_the_page_answers_503_while_the_run_hangs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FRESH", 0.0)
    assert stage.healthz() == (200, {"healthy": True, "state": "starting", "seconds_since_progress": 0.0})
    stage.state = "running"
    stage.station.note({}, progress=True)
    assert stage.healthz() == (200, {"healthy": True, "state": "learning", "seconds_since_progress": 0.0})
    stage.now += PATIENCE
    assert stage.healthz() == (503, {"healthy": False, "state": "hanging", "seconds_since_progress": PATIENCE})
    stage.state = "stopped"
    assert stage.healthz() == (200, {"healthy": True, "state": "stopped", "seconds_since_progress": PATIENCE})
