from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from learner import metrics
from learner.errors import MetricsError
from learner.metrics import MetricsWriter, RateMeter, Window, read
from tests.learner.full_disk import may_mount, report

MB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_written_is_read_back_with_step_and_time(tmp_path: Path) -> None:
    before = time.time()
    with MetricsWriter(tmp_path / "run") as writer:
        writer.write(1, {"loss": 0.5, "episodes": 3, "state": "running"})
        writer.write(2, {"loss": float(torch.tensor(0.25)), "return": float(np.float32(-2.0))})
    first, second = read(tmp_path / "run" / "metrics.jsonl")
    assert first.pop("time") == pytest.approx(time.time(), abs=time.time() - before + 0.01)
    assert first == {"step": 1, "loss": 0.5, "episodes": 3, "state": "running"}
    assert (second["step"], second["loss"], second["return"]) == (2, 0.25, -2.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.nan)])
def test_what_json_cannot_hold_is_null(tmp_path: Path, value: float) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"loss": value})
    assert read(tmp_path / "metrics.jsonl")[0]["loss"] is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_tensorboard_gets_the_numbers_and_not_the_text(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        for step in (10, 20):
            writer.write(step, {"loss": step / 4, "state": "running"})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 2.5), (20, 5.0)]


def test_a_line_has_left_the_process_when_write_returns(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from learner.metrics import MetricsWriter\n"
        "MetricsWriter(Path(sys.argv[1])).write(1, {'loss': 0.5}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(metrics.__file__).parents[1]
    writer = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, timeout=60, check=False)
    assert writer.returncode == -signal.SIGKILL
    assert [record["loss"] for record in read(tmp_path / "metrics.jsonl")] == [0.5]


@pytest.mark.parametrize("torn", [b"", b"{", b'{"step": 2, "lo', '{"state": "é'.encode()[:-1]])
def test_resuming_cuts_off_a_torn_line_and_goes_on(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + torn)
    assert read(path) == [{"step": 1}]
    assert ("line 2" in caplog.text) == bool(torn)
    with MetricsWriter(tmp_path, resume=True) as writer:
        writer.write(2, {})
    assert [record["step"] for record in read(path)] == [1, 2]
    assert path.read_bytes().endswith(b"\n")


def test_resuming_a_run_without_metrics_starts_them(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path, resume=True) as writer:
        writer.write(1, {})
    assert len(read(tmp_path / "metrics.jsonl")) == 1


def test_a_new_run_does_not_write_into_another(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {})
    with pytest.raises(MetricsError, match=r"metrics\.jsonl holds the metrics of another run"):
        MetricsWriter(tmp_path)
    assert len(read(tmp_path / "metrics.jsonl")) == 1


def test_own_names_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer, pytest.raises(ValueError, match="'time'"):
        writer.write(1, {"time": 3.0})
    assert read(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_costs_records_and_neither_the_run_nor_a_line(kind: str, tmp_path: Path) -> None:
    if kind == "disk" and not may_mount():
        pytest.skip("this user may not mount anything; a limit for files stands in for the disk")
    seen = report(kind, "metrics", tmp_path)
    assert seen["before"] is None
    for troubles in (seen["troubles"], seen["again"]):
        (trouble,) = troubles
        assert "gets no records until it can be written again: " in trouble
        assert "\n" not in trouble
    assert seen["whole"]
    assert 0 < seen["lost"] < 199
    assert seen["after"] == [None, None, None]
    assert seen["resumed"] == 199 - seen["lost"] - 1
    assert {1, 200, 201, 202} < set(seen["events"])
    assert seen["events"] == sorted(set(seen["events"]))
    assert len(seen["events"]) < 399


@pytest.mark.parametrize("times", [1, 2])
def test_a_folder_that_somebody_removes_is_made_again(tmp_path: Path, times: int) -> None:
    folder = tmp_path / "runs" / "run"
    with MetricsWriter(folder) as writer:
        for step in range(times + 1):
            assert writer.write(step, {"loss": float(step)}) is None
            if step < times:
                shutil.rmtree(folder.parent)
    assert writer.lost == 0
    assert [record["step"] for record in read(folder / "metrics.jsonl")] == [times]
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [times]


def test_a_folder_that_cannot_be_made_again_costs_records_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with MetricsWriter(folder) as writer:
        shutil.rmtree(folder)
        folder.write_text("in the way")
        trouble = writer.write(1, {})
        assert trouble is not None
        assert "metrics.jsonl gets no records" in trouble
        assert writer.write(2, {}) is None
        folder.unlink()
        assert writer.write(3, {}) is None
        assert writer.lost == 2
    assert [record["step"] for record in read(folder / "metrics.jsonl")] == [3]


def test_metrics_that_cannot_be_begun_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(MetricsError, match=r"^cannot write metrics .*metrics\.jsonl: "):
        MetricsWriter(tmp_path / "run")


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b'{"step": 1}\nrubbish\n{}\n', "line 2 is no JSON"), (b"[1]\n", "line 1 is a list"), (b"\xff\n", "line 1")],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(MetricsError, match=complaint):
        read(tmp_path / "metrics.jsonl")


def test_missing_metrics_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match="No such file"):
        read(tmp_path / "metrics.jsonl")


def test_the_window_holds_the_last_values_of_each_name() -> None:
    window = Window(3)
    assert window.means() == {}
    for value in (100, 1, 2, 3):
        window.add({"delay": value})
    window.add({"return": 7})
    assert window.means() == {"delay": 2.0, "return": 7.0}
    with pytest.raises(ValueError, match="at least 1"):
        Window(0)


def test_the_window_goes_on_where_it_stood() -> None:
    window, resumed = Window(3), Window(3)
    for value in range(5):
        window.add({"delay": value, "return": -value})
    resumed.restore(window.values())
    assert resumed.means() == window.means() == {"delay": 3.0, "return": -3.0}
    resumed.add({"delay": 5})
    assert resumed.values() == {"delay": [3.0, 4.0, 5.0], "return": [-2.0, -3.0, -4.0]}


def test_the_rate_slides() -> None:
    clock = Clock()
    meter = RateMeter(window=10.0, clock=clock)
    assert meter.rate() == 0.0
    meter.add(4)
    clock.now += 2
    assert meter.rate() == 2.0  # since the start
    for _ in range(20):
        clock.now += 1
        meter.add(5)
    assert meter.rate() == 5.0
    clock.now += 5
    assert meter.rate() == 2.5
    clock.now += 100
    assert meter.rate() == 0.0
    with pytest.raises(ValueError, match="above 0"):
        RateMeter(window=0)


def test_the_rate_meter_stays_small_when_nobody_asks() -> None:
    clock = Clock()
    meter = RateMeter(window=1.0, clock=clock)
    for _ in range(1000):
        clock.now += 0.25
        meter.add(1)
    assert len(meter._amounts) <= 4


HOLDER = """
import mmap, sys
memory = mmap.mmap(int(sys.argv[1]), 0)
memory[:] = bytes(len(memory))
print("ready", flush=True)
sys.stdin.read()
"""


def test_every_line_is_one_json_object(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"note": "two\nlines", "rate": 1e300})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["note"] == "two\nlines"
