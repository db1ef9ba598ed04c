from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from buffers.errors import BrokenOrderError, SharedMemoryError
from buffers.fragments import HEAD, SUMMARY, Decision, Fragment, FragmentWriter, fragment_layout, read_fragment
from buffers.shared import SharedMemory
from buffers.slots import POISON

SIGNALS, PHASES = 3, 8
OF_FRAMES = ("time", "shown", "elapsed", "allowed")
OF_DECISIONS = ("actions", "log_probs", "rewards", "costs")


@dataclass
class Frame:
    time: float
    vehicles: NDArray[np.float32]
    lanes: NDArray[np.int32]
    shown: NDArray[np.int16]
    elapsed: NDArray[np.float32]
    allowed: NDArray[np.bool_]


def make_frame(generator: np.random.Generator, vehicles: int) -> Frame:
    return Frame(
        time=float(generator.uniform(0, 1e6)),
        vehicles=generator.normal(size=(vehicles, 8)).astype(np.float32),
        lanes=generator.integers(-1, 50, vehicles, np.int32),
        shown=generator.integers(0, 3, SIGNALS, np.int16),
        elapsed=generator.normal(size=SIGNALS).astype(np.float32),
        allowed=generator.random(PHASES) < 0.5,
    )


def make_decision(generator: np.random.Generator) -> Decision:
    numbers = generator.normal(size=(3, SIGNALS)).astype(np.float32)
    return Decision(generator.integers(0, 3, SIGNALS, np.int16), numbers[0], numbers[1], numbers[2])


def make_slot(length: int, rows: int) -> dict[str, NDArray[Any]]:
    layout = fragment_layout(SIGNALS, PHASES, length, rows)
    memory = SharedMemory(layout.size)
    memory.array(np.uint8, layout.size)[:] = 0xFB
    views = layout.views(memory, 0)
    memory.close()
    return views


def check(fragment: Fragment, frames: list[Frame], decisions: list[Decision]) -> None:
    """All that went in came out."""
    assert len(fragment) == len(decisions) == len(frames) - 1
    assert len(fragment.vehicles) == len(fragment.lanes) == sum(len(frame.lanes) for frame in frames)
    for i, frame in enumerate(frames):
        rows = slice(fragment.offsets[i], fragment.offsets[i + 1])
        np.testing.assert_array_equal(fragment.vehicles[rows], frame.vehicles)
        np.testing.assert_array_equal(fragment.lanes[rows], frame.lanes)
        for name in OF_FRAMES:
            np.testing.assert_array_equal(getattr(fragment, name)[i], getattr(frame, name))
    for i, decision in enumerate(decisions):
        for name in OF_DECISIONS:
            np.testing.assert_array_equal(getattr(fragment, name)[i], getattr(decision, name))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=7), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_what_is_written_is_read(vehicles: list[int], seed: int, ending: int) -> None:
    generator = np.random.default_rng(seed)
    frames = [make_frame(generator, count) for count in vehicles]
    decisions = [make_decision(generator) for _ in frames[1:]]
    slot = make_slot(length=6, rows=max(sum(vehicles), 1))
    writer = FragmentWriter(slot, env=3, episode=1 << 40, first=77, version=9)
    writer.begin(frames[0])
    for decision, successor in zip(decisions, frames[1:], strict=True):
        assert not writer.full
        assert writer.append(decision, successor)
    assert writer.full == (len(decisions) == 6)
    terminated, truncated = bool(ending & 1), bool(ending & 2)
    summary = {name: float(value) for name, value in zip(SUMMARY, generator.normal(size=len(SUMMARY)), strict=True)}
    if ending:
        writer.end_episode(terminated, truncated, {**summary, "something else": 1.0})
    writer.close()

    fragment = read_fragment(slot)
    assert (fragment.env, fragment.episode, fragment.first, fragment.version) == (3, 1 << 40, 77, 9)
    assert (fragment.terminated, fragment.truncated) == (terminated, truncated)
    assert fragment.ended == (ending > 0)
    assert fragment.summary == (summary if ending else None)
    check(fragment, frames, decisions)


def test_what_was_read_is_a_copy() -> None:
    generator = np.random.default_rng(0)
    frames = [make_frame(generator, 3), make_frame(generator, 2)]
    decision = make_decision(generator)
    slot = make_slot(length=1, rows=5)
    writer = FragmentWriter(slot, 0, 0, 0, 1)
    writer.begin(frames[0])
    writer.append(decision, frames[1])
    writer.close()
    fragment = read_fragment(slot)
    for array in slot.values():
        array.view(np.uint8)[...] = 0xFB
    check(fragment, frames, [decision])


def write_one(checked: bool = True) -> dict[str, NDArray[Any]]:
    """A slot with a fragment of two decisions in it."""
    generator = np.random.default_rng(5)
    slot = make_slot(length=4, rows=12)
    writer = FragmentWriter(slot, 1, 2, 3, 4, checked=checked)
    writer.begin(make_frame(generator, 3))
    for _ in range(2):
        writer.append(make_decision(generator), make_frame(generator, 3))
    writer.close()
    return slot


@pytest.mark.parametrize("name", write_one())
def test_a_fragment_with_a_single_wrong_byte_is_torn(name: str) -> None:
    slot = write_one()
    content = slot[name].view(np.uint8).reshape(-1)
    content[HEAD.fields["first"][1] if name == "head" else 0] ^= 1  # type: ignore[index]
    with pytest.raises(BrokenOrderError, match=r"is torn|overwritten before it was read"):
        read_fragment(slot)


def test_a_slot_that_was_overwritten_before_it_was_read_is_noticed() -> None:
    slot = write_one(checked=False)
    for array in slot.values():
        array.view(np.uint8)[...] = POISON
    with pytest.raises(BrokenOrderError, match="overwritten before it was read"):
        read_fragment(slot)


def test_bytes_that_nothing_was_written_to_do_not_matter() -> None:
    slot = write_one()
    slot["vehicles"][9:] = 7
    slot["rewards"][2:] = 7
    assert len(read_fragment(slot)) == 2


@pytest.mark.parametrize("reason", ["decisions", "vehicles"])
def test_what_does_not_fit_goes_into_the_next_fragment(reason: str) -> None:
    generator = np.random.default_rng(1)
    frames = [make_frame(generator, count) for count in (4, 0, 4, 3, 1)]
    decisions = [make_decision(generator) for _ in frames[1:]]
    slot = make_slot(length=2, rows=20) if reason == "decisions" else make_slot(length=9, rows=10)
    writer = FragmentWriter(slot, 0, 0, first=5, version=1)
    writer.begin(frames[0])
    assert writer.append(decisions[0], frames[1])
    assert writer.append(decisions[1], frames[2])
    before = {name: array.copy() for name, array in slot.items()}
    assert writer.append(decisions[2], frames[3]) is False
    for name, array in slot.items():
        assert array.tobytes() == before[name].tobytes(), f"{name} was changed"
    assert writer.length == 2
    writer.close()
    check(read_fragment(slot), frames[:3], decisions[:2])

    following = make_slot(length=2, rows=20)
    writer = FragmentWriter(following, 0, 0, first=7, version=1)
    writer.begin(frames[2])
    assert writer.append(decisions[2], frames[3])
    assert writer.append(decisions[3], frames[4])
    writer.close()
    check(read_fragment(following), frames[2:], decisions[2:])


def test_a_slot_serves_again_and_shows_nothing_of_what_was_there() -> None:
    generator = np.random.default_rng(2)
    slot = make_slot(length=4, rows=40)
    writer = FragmentWriter(slot, 1, 1, 1, 1)
    writer.begin(make_frame(generator, 6))
    for _ in range(4):
        writer.append(make_decision(generator), make_frame(generator, 6))
    writer.end_episode(True, False, dict.fromkeys(SUMMARY, 1.0))
    writer.close()

    frames = [make_frame(generator, 1), make_frame(generator, 0)]
    decision = make_decision(generator)
    writer = FragmentWriter(slot, 2, 3, 4, 5)
    writer.begin(frames[0])
    writer.append(decision, frames[1])
    writer.close()
    fragment = read_fragment(slot)
    assert (fragment.env, fragment.episode, fragment.first, fragment.version) == (2, 3, 4, 5)
    assert not fragment.ended
    assert fragment.summary is None
    check(fragment, frames, [decision])


@pytest.mark.parametrize(("first", "second"), [(11, 0), (6, 5)])
def test_a_slot_too_small_for_one_decision_names_the_flag(first: int, second: int) -> None:
    generator = np.random.default_rng(3)
    writer = FragmentWriter(make_slot(length=5, rows=10), 0, 0, 0, 1)

    def write() -> None:
        writer.begin(make_frame(generator, first))
        writer.append(make_decision(generator), make_frame(generator, second))

    with pytest.raises(SharedMemoryError, match=r"^11 vehicles .* slot for 10: .*--slot-vehicles"):
        write()
