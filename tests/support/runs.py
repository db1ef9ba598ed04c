"""``train_rl.py`` as a person runs it: a process of its own, with all that descends from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.support.leftovers import GONE, assert_nothing_new, bearers, marked, shared_names
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "train_rl.py")
# The smallest scenario with short episodes, and no closing table.
QUICK = ("--scenario", "single", "--episode-seconds", "200", "--num-envs", "2", "--eval-seeds", "0")
LIMIT = 60.0  # s that anything of it may take


class TrainRun:
    """A run in ``folder``/run; its output and its temporary files are beside that. A context manager."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        program: Sequence[str] = (sys.executable, SCRIPT),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder / "run"
        self._temporary = folder / "tmp"
        self._temporary.mkdir(exist_ok=True)
        self._shared = shared_names()
        self._output, self._errors = folder / "output.txt", folder / "errors.txt"
        # Threads that wait must not keep a busy machine busier; and torch makes an empty folder for a compiler that
        # nobody asked for, which is not ours to remove.
        variables, self._mark = marked(
            {
                **os.environ,
                "TMPDIR": str(self._temporary),
                "OMP_WAIT_POLICY": "PASSIVE",
                "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
                "PYTHONPATH": str(ROOT),
                **(environment or {}),
            }
        )
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*program, *QUICK, "--run-dir", str(self.folder), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=variables,
                start_new_session=True,  # a process group of its own, as a terminal would give it
                preexec_fn=_listen_to_all,
            )

    def __enter__(self) -> TrainRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in bearers(self._mark):
            # Python's resource tracker ends by itself, after it has removed the names that the others have left.
            if not any("resource_tracker" in word for word in process.cmdline()):
                process.kill()
        self.process.wait(LIMIT)

    # What it says

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def metrics(self) -> list[dict[str, Any]]:
        """Whole rows of its metrics so far."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        """Wait while it runs; fails with its own words when it ends before."""
        wait_for(lambda: condition() or self.process.poll() is not None, f"{what}; it said:\n{self.said()}", LIMIT)
        assert condition(), f"it ended with {self.process.returncode} before {what}; it said:\n{self.said()}"

    def wait_for_output(self, text: str) -> None:
        self.wait_for(lambda: text in self.output, f"{text!r} in its output")

    def wait_for_learning(self) -> None:
        self.wait_for(lambda: any("loss" in row for row in self.metrics()), "metrics of an update")

    def wait_until_it_listens(self) -> None:
        """Until it has handlers, which is long before all is imported; Python's own catches SIGINT from the start."""
        self.wait_for(lambda: catches(self.process.pid, signal.SIGTERM), "a handler for SIGTERM")

    def said(self) -> str:
        return self.output + self.errors

    def processes(self) -> list[psutil.Process]:
        """It and all that descends from it, as of now."""
        return bearers(self._mark)

    # What is done to it

    def press_ctrl_c(self) -> None:
        """What a terminal does: the signal goes to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self, code: int = 0) -> None:
        """It ends with this exit code and leaves nothing behind."""
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {LIMIT:g} s; it said:\n{self.said()}") from None
        assert self.process.returncode == code, self.said()
        assert "Traceback" not in self.errors, self.errors
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """No process, no shared memory, no temporary file, and no socket."""
        wait_for(lambda: not self.processes(), "the end of all its processes", GONE)
        assert_nothing_new(self._shared)
        left = [path for path in self._temporary.iterdir() if not path.name.startswith("torchelastic_")]  # torchrun's
        left += [path for path in self.folder.rglob("*") if path.is_socket() or "unfinished" in path.name]
        assert not left, f"left behind: {left}"


def _listen_to_all() -> None:
    """Ignore nothing that whoever starts us ignores: a background job's Ctrl-C, or a hangup under nohup."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
