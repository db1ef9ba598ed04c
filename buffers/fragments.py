"""What a fragment holds, how it is written into a slot frame by frame, and how it is read out again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from buffers.errors import BrokenOrderError, SharedMemoryError
from buffers.layout import Layout

VEHICLE_COLUMNS = 8  # of a frame's vehicle table
SUMMARY = (
    "return",
    "delay",
    "queue",
    "waiting_time",
    "throughput",
    "teleports",
    "collisions",
    "gridlocked",
    "cost",
    "seconds",
)

HEAD = np.dtype(
    [
        ("env", "i4"),
        ("length", "i4"),  # decisions
        ("episode", "i8"),
        ("first", "i8"),  # which decision of its episode the first one is
        ("version", "i8"),  # of the weights that acted
        ("terminated", "?"),  # the last frame is a terminal state: its value is zero
        ("truncated", "?"),  # cut off, by the time window or a gridlock: its value counts
        ("summary", "f8", (len(SUMMARY),)),  # of the episode, when it ended here
        ("checksum", "u4"),  # of all that was written; 0: none
    ]
)


class FrameLike(Protocol):
    """The arrays of a frame; see ``envs.signals.Frame``."""

    @property
    def time(self) -> float: ...
    @property
    def vehicles(self) -> NDArray[np.float32]: ...
    @property
    def lanes(self) -> NDArray[np.int32]: ...
    @property
    def shown(self) -> NDArray[np.int16]: ...
    @property
    def elapsed(self) -> NDArray[np.float32]: ...
    @property
    def allowed(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What all agents chose at a frame and what it brought them; every array is [S]."""

    actions: NDArray[np.int16]
    log_probs: NDArray[np.float32]
    rewards: NDArray[np.float32]
    costs: NDArray[np.float32]


def fragment_layout(num_signals: int, num_phases: int, length: int, vehicle_rows: int) -> Layout:
    """A slot for up to ``length`` decisions and ``vehicle_rows`` vehicles, all frames together."""
    frames = length + 1
    return Layout(
        {
            "head": (HEAD, (1,)),
            "time": ("f8", (frames,)),
            "offsets": ("i8", (frames + 1,)),
            "vehicles": ("f4", (vehicle_rows, VEHICLE_COLUMNS)),
            "lanes": ("i4", (vehicle_rows,)),
            "shown": ("i2", (frames, num_signals)),
            "elapsed": ("f4", (frames, num_signals)),
            "allowed": ("?", (frames, num_phases)),
            "actions": ("i2", (length, num_signals)),
            "log_probs": ("f4", (length, num_signals)),
            "rewards": ("f4", (length, num_signals)),
            "costs": ("f4", (length, num_signals)),
        }
    )


class FragmentWriter:
    """Writes one fragment into the arrays of a slot, beginning with the frame at which its first decision is made.

    With ``checked`` it gets a checksum, which whoever reads it verifies; that takes longer than to copy it.
    """

    def __init__(
        self,
        arrays: dict[str, NDArray[Any]],
        env: int,
        episode: int,
        first: int,
        version: int,
        *,
        checked: bool = False,
    ) -> None:
        self._arrays = arrays
        self._checked = checked
        self._head = arrays["head"]
        self._head[0] = (env, 0, episode, first, version, False, False, np.nan, 0)
        self._capacity = len(arrays["actions"])
        arrays["offsets"][0] = 0
        self.length = 0

    def begin(self, frame: FrameLike) -> None:
        """Write the first frame; raises ``SharedMemoryError`` when the slot is too small even for that."""
        self._check(len(frame.lanes))
        self._write_frame(0, frame)

    def _check(self, rows: int) -> None:
        if rows > len(self._arrays["lanes"]):
            raise SharedMemoryError(
                f"{rows} vehicles in two frames do not fit into a slot for {len(self._arrays['lanes'])}: "
                f"raise --slot-vehicles"
            )

    def append(self, decision: Decision, successor: FrameLike) -> bool:
        """Write a decision and the frame that it led to; False, and nothing written, when that does not fit.

        One decision always fits; raises ``SharedMemoryError`` when the slot is too small for that.
        """
        at = self.length
        needed = int(self._arrays["offsets"][at + 1]) + len(successor.lanes)
        if at == 0:
            self._check(needed)
        if at == self._capacity or needed > len(self._arrays["lanes"]):
            return False
        for name in ("actions", "log_probs", "rewards", "costs"):
            self._arrays[name][at] = getattr(decision, name)
        self._write_frame(at + 1, successor)
        self.length = at + 1
        return True

    def _write_frame(self, at: int, frame: FrameLike) -> None:
        arrays = self._arrays
        start = int(arrays["offsets"][at])
        end = start + len(frame.lanes)
        arrays["offsets"][at + 1] = end
        arrays["vehicles"][start:end] = frame.vehicles
        arrays["lanes"][start:end] = frame.lanes
        for name in ("time", "shown", "elapsed", "allowed"):
            arrays[name][at] = getattr(frame, name)

    @property
    def full(self) -> bool:
        """Whether it holds as many decisions as a fragment may."""
        return self.length == self._capacity

    def end_episode(self, terminated: bool, truncated: bool, summary: dict[str, float]) -> None:
        """Say how the episode ended with the last frame."""
        self._head["terminated"] = terminated
        self._head["truncated"] = truncated
        self._head["summary"] = [summary[name] for name in SUMMARY]

    def close(self) -> None:
        """Write down how long it became; to be called before the slot is announced."""
        self._head["length"] = self.length
        if self._checked:
            self._head["checksum"] = _checksum(self._head, _written(self._arrays, self.length))


@dataclass(frozen=True, eq=False, slots=True)
class Fragment:
    """Consecutive frames of one env with what was decided at each but the last: n decisions, n + 1 frames."""

    env: int
    episode: int
    first: int
    version: int
    terminated: bool
    truncated: bool
    summary: dict[str, float] | None  # of the episode, when it ended here
    time: NDArray[np.float64]  # [n + 1] simulated s
    offsets: NDArray[np.int64]  # [n + 2] whose rows are whose, in the vehicle table
    vehicles: NDArray[np.float32]  # [V, 8]
    lanes: NDArray[np.int32]  # [V]
    shown: NDArray[np.int16]  # [n + 1, S]
    elapsed: NDArray[np.float32]  # [n + 1, S] s
    allowed: NDArray[np.bool_]  # [n + 1, P]
    actions: NDArray[np.int16]  # [n, S]
    log_probs: NDArray[np.float32]  # [n, S]
    rewards: NDArray[np.float32]  # [n, S]
    costs: NDArray[np.float32]  # [n, S]

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def ended(self) -> bool:
        """Whether its episode ended with its last frame."""
        return self.terminated or self.truncated


def _written(arrays: Mapping[str, NDArray[Any]], decisions: int) -> dict[str, NDArray[Any]]:
    """What there is in a slot for so many decisions; views."""
    frames = decisions + 1
    rows = int(arrays["offsets"][frames])
    lengths = {"offsets": frames + 1, "vehicles": rows, "lanes": rows}
    lengths |= dict.fromkeys(("time", "shown", "elapsed", "allowed"), frames)
    lengths |= dict.fromkeys(("actions", "log_probs", "rewards", "costs"), decisions)
    return {name: arrays[name][:length] for name, length in lengths.items()}


def _checksum(head: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> int:
    """CRC-32 of a fragment, never 0."""
    bare = head.copy()
    bare["checksum"] = 0
    checksum = zlib.crc32(bare.tobytes())
    for array in arrays.values():
        checksum = zlib.crc32(array.data, checksum)
    return checksum or 1


def read_fragment(arrays: dict[str, NDArray[Any]]) -> Fragment:
    """Copy a fragment out of its slot, which may be given back right after.

    Raises ``BrokenOrderError`` when what is copied is not what was written, as far as that can be told: surely so where
    it was ``checked``.
    """
    head = arrays["head"].copy()
    decisions = int(head["length"][0])
    if not 0 < decisions <= len(arrays["actions"]):
        raise BrokenOrderError(
            f"a slot holds a fragment of {decisions} decisions: it was overwritten before it was read"
        )
    content = {name: array.copy() for name, array in _written(arrays, decisions).items()}
    if head["checksum"][0] and _checksum(head, content) != head["checksum"][0]:
        raise BrokenOrderError(
            f"a fragment of env {head['env'][0]}, episode {head['episode'][0]}, decision {head['first'][0]}, is torn: "
            "it was overwritten while it was read"
        )
    head = head[0]
    terminated, truncated = bool(head["terminated"]), bool(head["truncated"])
    return Fragment(
        env=int(head["env"]),
        episode=int(head["episode"]),
        first=int(head["first"]),
        version=int(head["version"]),
        terminated=terminated,
        truncated=truncated,
        summary=dict(zip(SUMMARY, head["summary"].tolist(), strict=True)) if terminated or truncated else None,
        **content,
    )
