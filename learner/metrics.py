"""What a run leaves behind in numbers: `metrics.jsonl`, TensorBoard events, and the means and rates in them."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from torch.utils.tensorboard import SummaryWriter

from learner.errors import MetricsError

FILE_NAME = "metrics.jsonl"
_LOG = logging.getLogger(__name__)
_OWN_NAMES = ("step", "time")


class MetricsWriter:
    """Appends to a run folder's metrics.jsonl and TensorBoard events, one record per step; a context manager.

    Each line is one JSON object: `step`, `time` (seconds since 1970) and the values. It has left the process when
    `write` returns. With `resume`, a last line that a crash has torn is cut off and writing goes on after it.
    Raises MetricsError when a new run would write into the metrics of another.
    """

    def __init__(self, run_dir: Path, resume: bool = False) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / FILE_NAME
        if resume:
            _cut_torn_line(path)
        elif path.exists() and path.stat().st_size > 0:
            raise MetricsError(f"{path} holds the metrics of another run: resume that run, or choose a new folder")
        self._lines = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(run_dir))

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        """Append one record: text goes to the file alone, NaN and infinity become null there.

        Raises ValueError for a value named `step` or `time`, which every record has already.
        """
        for name in _OWN_NAMES:
            if name in values:
                raise ValueError(f"a value is called {name!r}: that name is taken by the record itself")
        now = time.time()
        record: dict[str, float | str | None] = {"step": step, "time": round(now, 3)}
        record |= {name: _plain(value) for name, value in values.items()}
        self._lines.write(json.dumps(record, allow_nan=False) + "\n")
        self._lines.flush()
        for name, value in values.items():
            if not isinstance(value, str):
                self._events.add_scalar(name, float(value), step, walltime=now)

    def close(self) -> None:
        """Flush and close both; closing twice is fine."""
        self._lines.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


def process_memory(pid: int, children: Iterable[int] = ()) -> int:
    """Memory of a process and the given children in bytes; a process that has ended counts nothing.

    Pages shared among n processes count 1/n in each (PSS), so that the sum is what the machine really holds. Where the
    kernel does not tell, it is the resident size, which counts shared pages once per process.
    """
    return sum(_memory_of_one(one) for one in (pid, *children))


def _memory_of_one(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):  # ended, not ours, or a kernel without the file: psutil tells which
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


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
