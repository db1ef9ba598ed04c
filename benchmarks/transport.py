"""Fragments from two writers to a reader: through this project's slots, and through a queue that pickles them.

Each writer fills fragments of 0.8 MB, every array from end to end. The reader copies each out of its slot, as a run
does, and gives the slot back; of what comes out of a pickle it looks at every cache line.
"""

from __future__ import annotations

import multiprocessing
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.spread import Spread, ratio
from buffers import Slots, fragment_layout, read_fragment
from buffers.children import end_helpers, follow_parent
from buffers.layout import Layout
from pages import script
from pages.output import say

_WRITERS = 2
_SLOTS_EACH = 4
_SIGNALS, _PHASES, _DECISIONS = 8, 26, 16  # as on resco:cologne8
_BYTES = 800_000
_BYTES_PER_ROW = 36  # of the vehicle table and the lanes beside it
_LIMIT = 10.0  # s that a reader waits for a fragment
_WARM_UP = 100  # fragments before anything is measured
_CACHE_LINE = 64  # bytes

Arrays = dict[str, NDArray[Any]]
_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Settings:
    """How long."""

    rounds: int = 5
    """How often everybody is measured."""
    wall: float = 1.0
    """Seconds of one measurement."""


QUICK = Settings(rounds=1, wall=0.05)


def measure(settings: Settings) -> dict[str, Any]:
    """``per_second``: fragments read; ``cpu_per_fragment``: s of the reader; ``vs_pickling``: rate relative to that."""
    samples: dict[str, list[dict[str, float]]] = {"slots": [], "pickled": []}
    try:
        for number in range(1, settings.rounds + 1):
            say(f"transport, round {number} of {settings.rounds}")
            samples["slots"].append(through_slots(settings.wall))
            samples["pickled"].append(through_pickles(settings.wall))
    finally:
        end_helpers()
    rates = {name: [sample["per_second"] for sample in own] for name, own in samples.items()}
    rows = [
        {
            "way": name,
            "per_second": Spread.of(rates[name]).as_dict(),
            "cpu_per_fragment": Spread.of(sample["cpu_per_fragment"] for sample in own).as_dict(),
            "vs_pickling": ratio(rates[name], rates["pickled"]).as_dict(),
        }
        for name, own in samples.items()
    ]
    return {"bytes": layout().size, "writers": _WRITERS, "rows": rows}


def layout() -> Layout:
    """A slot of about 0.8 MB."""
    return fragment_layout(_SIGNALS, _PHASES, _DECISIONS, vehicle_rows=_BYTES // _BYTES_PER_ROW)


def fill(arrays: Arrays, source: Arrays) -> None:
    """Write every array of a fragment from end to end."""
    for name, array in arrays.items():
        array[...] = source[name]


def example(arrays: Arrays) -> Arrays:
    """A full fragment with the shapes of ``arrays``: all decisions, and as many vehicles as there is room for."""
    found = {name: np.ones_like(array) for name, array in arrays.items()}
    found["head"]["length"], found["head"]["checksum"] = _DECISIONS, 0
    found["offsets"][:] = np.linspace(0, len(found["lanes"]), len(found["offsets"])).astype(np.int64)
    return found


def touch(arrays: Arrays) -> None:
    """Look at every cache line of every array."""
    for array in arrays.values():
        array.reshape(-1).view(np.uint8)[::_CACHE_LINE].max()


def through_slots(wall: float) -> dict[str, float]:
    """The way of a run."""
    slots = Slots(layout(), _WRITERS, _SLOTS_EACH)
    views = [slots.views(slot) for slot in range(len(slots))]

    def take() -> None:
        announcement = slots.take(0, _LIMIT)
        if announcement is None:
            raise TimeoutError(f"no fragment within {_LIMIT:g} s")
        read_fragment(views[announcement.slot])
        slots.release(announcement.slot)

    try:
        with _writers(_write_slots, slots):
            return _timed(take, wall)
    finally:
        slots.close()


def _write_slots(slots: Slots, env: int) -> None:
    """A writer: fills the slots of an env for ever, and waits while none is free."""
    follow_parent()
    doorbell = slots.doorbell(env)
    views = {slot: slots.views(slot) for slot in range(env * _SLOTS_EACH, (env + 1) * _SLOTS_EACH)}
    source = example(views[env * _SLOTS_EACH])
    sequence = 0
    while True:
        doorbell.answer()
        slot = slots.begin(env)
        if slot is None:
            select.select([doorbell.fileno()], [], [])
            continue
        fill(views[slot], source)
        sequence += 1
        slots.finish(slot, sequence)


def through_pickles(wall: float) -> dict[str, float]:
    """The way of ``multiprocessing``: every fragment is pickled, sent through a pipe, and unpickled."""
    queue: multiprocessing.Queue[Arrays] = _context.Queue(_WRITERS * _SLOTS_EACH)

    def take() -> None:
        touch(queue.get(timeout=_LIMIT))

    try:
        with _writers(_write_pickles, queue):
            return _timed(take, wall)
    finally:
        queue.close()


def _write_pickles(queue: multiprocessing.Queue[Arrays], env: int) -> None:
    """A writer: makes fragments for ever, and waits while the queue is full."""
    follow_parent()
    slots = Slots(layout(), 1, 1)
    source = example(slots.views(0))
    while True:
        fragment = {name: np.empty_like(array) for name, array in source.items()}
        fill(fragment, source)
        queue.put(fragment)


@contextmanager
def _writers(target: Callable[..., None], channel: object) -> Iterator[None]:
    """Writers at work, killed in the end."""
    processes = [_context.Process(target=target, args=(channel, env), daemon=True) for env in range(_WRITERS)]
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def _timed(take: Callable[[], None], wall: float) -> dict[str, float]:
    """Fragments per s, and s of this process's processor time for each."""
    for _ in range(_WARM_UP):
        take()
    count = 0
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < wall:
        take()
        count += 1
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - began
    return {"per_second": count / elapsed, "cpu_per_fragment": cpu / count}


if __name__ == "__main__":
    script.run(Settings, measure, "transport", __doc__)
