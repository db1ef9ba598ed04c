from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graph.ragged import frame_of, offsets_of, ranges, rows_of

COUNTS = st.lists(st.integers(0, 5), max_size=8)


@given(COUNTS)
def test_offsets_and_frames(counts: list[int]) -> None:
    offsets = offsets_of(counts)
    assert offsets.tolist() == [sum(counts[:n]) for n in range(len(counts) + 1)]
    assert frame_of(offsets).tolist() == [n for n, count in enumerate(counts) for _ in range(count)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_ranges(parts: list[tuple[int, int]]) -> None:
    starts, counts = (np.array(column, np.int32) for column in (list(zip(*parts, strict=True)) or [(), ()]))
    assert ranges(starts, counts).tolist() == [start + i for start, count in parts for i in range(count)]


@given(COUNTS, st.data())
def test_rows_of(counts: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8)) if counts else []
    offsets = offsets_of(counts)
    rows, new = rows_of(offsets, np.array(chosen, np.int64))
    assert rows.tolist() == [row for n in chosen for row in range(offsets[n], offsets[n + 1])]
    assert np.diff(new).tolist() == [counts[n] for n in chosen]
