"""What a run leaves behind in numbers: `metrics.jsonl`, TensorBoard events, and the means and rates in them."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import math
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboard.compat.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from learner.errors import MetricsError

FILE_NAME = "metrics.jsonl"
_LOG = logging.getLogger(__name__)
_NUMBERS = itertools.count()  # of the event files of this process
_OWN_NAMES = ("step", "time")


class MetricsWriter:
    """Appends to a run folder's metrics.jsonl and TensorBoard events, one record per step; a context manager.

    Each line is one JSON object: `step`, `time` (seconds since 1970) and the values. It has left the process when
    `write` returns. A record that the disk refuses is left out, and counted in `lost`. With `resume`, a last line that
    a crash has torn is cut off and writing goes on after it.
    Raises MetricsError when a new run would write into the metrics of another, or its file cannot be made.
    """

    def __init__(self, run_dir: Path, resume: bool = False) -> None:
        path = run_dir / FILE_NAME
        self._lines = _Records(path)
        self._in_trouble = False
        # A name of its own for each start, of the form that TensorBoard looks for and sorts by.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        self._events = _Records(run_dir / name, begin_with=_event(file_version="brain.Event:2"))
        try:
            if not resume and path.exists() and path.stat().st_size > 0:
                raise MetricsError(f"{path} holds the metrics of another run: resume that run, or choose a new folder")
            _cut_torn_line(path)
            self._lines.open()
        except OSError as error:
            raise MetricsError(f"cannot write metrics {path}: {error.strerror or error}") from error

    @property
    def lost(self) -> int:
        """Records that are missing in metrics.jsonl because they could not be written."""
        return self._lines.lost

    def write(self, step: int, values: Mapping[str, float | str]) -> str | None:
        """Append one record: text goes to the file alone, NaN and infinity become null there.

        Returns the trouble in one line when a record cannot be written, once until one can be again. Raises ValueError
        for a value named `step` or `time`, which every record has already.
        """
        for name in _OWN_NAMES:
            if name in values:
                raise ValueError(f"a value is called {name!r}: that name is taken by the record itself")
        now = time.time()
        record: dict[str, float | str | None] = {"step": step, "time": round(now, 3)}
        record |= {name: _plain(value) for name, value in values.items()}
        numbers = [
            summary_pb2.Summary.Value(tag=name, simple_value=float(value))
            for name, value in values.items()
            if not isinstance(value, str)
        ]
        line = self._lines.append(json.dumps(record, allow_nan=False).encode() + b"\n")
        event = self._events.append(_event(wall_time=now, step=step, summary=summary_pb2.Summary(value=numbers)))
        trouble = line or event
        known, self._in_trouble = self._in_trouble, trouble is not None
        return None if known else trouble

    def close(self) -> None:
        """Close both; closing twice is fine."""
        self._lines.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Records:
    """A file that grows by whole records, whatever happens to the disk, or to the folder that it lies in."""

    def __init__(self, path: Path, begin_with: bytes = b"") -> None:
        self.lost = 0  # records
        self._path = path
        self._begin_with = begin_with
        self._file: io.FileIO | None = None
        self._whole = sys.maxsize  # bytes up to the end of the last whole record; all, as far as is known yet

    def open(self) -> None:
        """Open or create the file, and its folder; raises OSError."""
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        self._whole = min(self._whole, os.fstat(self._file.fileno()).st_size)

    def append(self, record: bytes) -> str | None:
        """Write a record, or leave it out and say why."""
        try:
            self._write(record)
        except OSError as error:
            self.close()  # a file system that has gone and come back knows new descriptors only
            self.lost += 1
            return f"{self._path} gets no records until it can be written again: {error.strerror or error}"
        return None

    def _write(self, record: bytes) -> None:
        if self._file is None or os.fstat(self._file.fileno()).st_nlink == 0:  # deleted
            self.open()
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size > self._whole:
            self._file.truncate(self._whole)  # a record that did not fit
        rest = memoryview(record if self._whole else self._begin_with + record)
        total = len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # then it is done before the next record
                self._file.truncate(self._whole)
            raise
        self._whole += total

    def close(self) -> None:
        """Close the file; that it cannot be closed well is no more than logged."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                _LOG.warning("%s: %s", self._path, error.strerror or error)


def read(path: Path) -> list[dict[str, Any]]:
    """All records of a metrics.jsonl; a torn last line is left out with a logged warning.

    Raises MetricsError when the file is missing, or names the line that is no JSON object.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MetricsError(f"cannot read metrics {path}: {error.strerror or error}") from error
    *lines, torn = content.split(b"\n")
    if torn:
        _LOG.warning("%s ends in the middle of line %d, which is left out", path, len(lines) + 1)
    return [_record(path, number, line) for number, line in enumerate(lines, start=1)]


class Window:
    """Means over the last `size` values of each name."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size is {size}, must be at least 1 value")
        self._size = size
        self._values: dict[str, deque[float]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Take in one value per name; names may differ from call to call."""
        for name, value in values.items():
            self._values.setdefault(name, deque(maxlen=self._size)).append(float(value))

    def values(self) -> dict[str, list[float]]:
        """The values of each name, oldest first."""
        return {name: list(values) for name, values in self._values.items()}

    def restore(self, values: Mapping[str, list[float]]) -> None:
        """Go on from what `values` has returned."""
        self._values = {name: deque(known, maxlen=self._size) for name, known in values.items()}

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other names."""
        known = set(names)
        self._values = {name: values for name, values in self._values.items() if name in known}

    def means(self) -> dict[str, float]:
        """The mean of each name that has been seen."""
        return {name: math.fsum(values) / len(values) for name, values in self._values.items()}


class RateMeter:
    """Amount per second over the last `window` seconds, or since the start where that is shorter."""

    def __init__(self, window: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        if window <= 0:
            raise ValueError(f"window is {window} s, must be above 0")
        self._window = window
        self._clock = clock
        self._started = clock()
        self._amounts: deque[tuple[float, float]] = deque()  # (when, how much), oldest first

    def add(self, amount: float) -> None:
        """Count `amount` as of now."""
        self._amounts.append((self._clock(), amount))
        self._forget()

    def rate(self) -> float:
        """Amount per second; 0 before any time has passed."""
        span = min(self._window, self._forget() - self._started)
        return math.fsum(amount for _, amount in self._amounts) / span if span > 0 else 0.0

    def _forget(self) -> float:
        now = self._clock()
        while self._amounts and self._amounts[0][0] <= now - self._window:
            self._amounts.popleft()
        return now


def _event(**fields: Any) -> bytes:
    """An event for TensorBoard, framed as its files have it."""
    framed = io.BytesIO()
    RecordWriter(framed).write(event_pb2.Event(**fields).SerializeToString())
    return framed.getvalue()


def _plain(value: float | str) -> float | str | None:
    """What JSON can hold; numpy and torch scalars become Python numbers."""
    if isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise MetricsError(f"{path} line {number} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise MetricsError(f"{path} line {number} is a {type(record).__name__}, must be a JSON object")
    return record


def _cut_torn_line(path: Path) -> None:
    """A line that was being written when the process died has no newline; without it the next would run into it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        _LOG.warning("%s: cut off a torn last line of %d bytes", path, len(content) - whole)
        with path.open("r+b") as file:
            file.truncate(whole)
