"""The rolling observation cache: the last few frames of every env, as graphs that need not be built again."""

from __future__ import annotations

from typing import Generic, Protocol, Self, TypeVar


class Sequential(Protocol):
    """Anything like a sequence of frames that can be cut and joined (``graph.graphs.Graphs``)."""

    def __len__(self) -> int: ...

    def take(self, frames: list[int]) -> Self:
        """Some of its frames."""

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """All frames of several, behind each other."""


FramesT = TypeVar("FramesT", bound=Sequential)


class RollingCache(Generic[FramesT]):
    """The last ``capacity`` frames of each env's present episode."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: dict[int, tuple[int, int, FramesT]] = {}  # env -> episode, number of its last frame, frames

    def before(self, env: int, episode: int, frame: int) -> FramesT | None:
        """The frames that lead up to and include frame number ``frame`` of an episode; None when it is not the last."""
        known = self._kept.get(env)
        return known[2] if known is not None and known[:2] == (episode, frame) else None

    def keep(self, env: int, episode: int, frame: int, frames: FramesT) -> None:
        """Remember ``frames``, the last of which is number ``frame`` of an episode; what was kept before goes."""
        surplus = len(frames) - self._capacity
        kept = frames.take(list(range(surplus, len(frames)))) if surplus > 0 else frames
        self._kept[env] = (episode, frame, kept)

    def shrink(self, capacity: int) -> None:
        """Keep no more than ``capacity`` frames of each env from now on."""
        self._capacity = min(self._capacity, capacity)
        for env, (episode, frame, frames) in self._kept.items():
            self.keep(env, episode, frame, frames)

    def forget(self, env: int) -> None:
        """Drop what is kept of an env, once its episode is over."""
        self._kept.pop(env, None)

    def __len__(self) -> int:
        """Frames kept, of all envs together."""
        return sum(len(frames) for _, _, frames in self._kept.values())
