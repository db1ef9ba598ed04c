from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from hypothesis import given
from hypothesis import strategies as st

from buffers.rolling import RollingCache


class Numbers(list[int]):
    """Frames that are nothing but their numbers."""

    def take(self, frames: list[int]) -> Self:
        return type(self)(self[frame] for frame in frames)

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(number for part in parts for number in part)


def test_only_the_frame_that_was_last_is_followed() -> None:
    cache: RollingCache[Numbers] = RollingCache(4)
    cache.keep(1, episode=5, frame=9, frames=Numbers([7, 8, 9]))
    assert cache.before(1, 5, 9) == [7, 8, 9]
    assert cache.before(1, 5, 8) is None
    assert cache.before(1, 6, 9) is None
    assert cache.before(2, 5, 9) is None
    cache.forget(1)
    cache.forget(1)
    assert cache.before(1, 5, 9) is None
    assert len(cache) == 0


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=20))
def test_it_keeps_the_latest_frames_of_each_env(capacity: int, fragments: Sequence[tuple[int, int]]) -> None:
    cache: RollingCache[Numbers] = RollingCache(capacity)
    seen = {env: 0 for env, _ in fragments}
    for env, length in fragments:
        before = cache.before(env, 0, seen[env] - 1)
        new = Numbers(range(seen[env], seen[env] + length))
        seen[env] += length
        cache.keep(env, 0, seen[env] - 1, Numbers.join([before, new]) if before is not None else new)
        assert cache.before(env, 0, seen[env] - 1) == list(range(max(0, seen[env] - capacity), seen[env]))
    assert len(cache) == sum(min(capacity, count) for count in seen.values())
