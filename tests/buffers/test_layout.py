from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from buffers.layout import Layout
from buffers.shared import SharedMemory

SHAPES = st.lists(
    st.tuples(st.sampled_from(["u1", "?", "i2", "f4", "f8"]), st.lists(st.integers(0, 7), min_size=1, max_size=3)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50, deadline=None)
@given(SHAPES)
def test_arrays_are_aligned_and_touch_neither_each_other_nor_the_next_slot(shapes: list[tuple[str, list[int]]]) -> None:
    layout = Layout({str(i): (kind, tuple(shape)) for i, (kind, shape) in enumerate(shapes)})
    memory = SharedMemory(3 * layout.size + 64)
    slots = [layout.views(memory, slot * layout.size) for slot in range(3)]
    arrays = [array for views in slots for array in views.values()]
    assert [array.shape for array in slots[0].values()] == [tuple(shape) for _, shape in shapes]
    assert [array.dtype for array in slots[0].values()] == [np.dtype(kind) for kind, _ in shapes]
    for number, array in enumerate(arrays):
        array[...] = number % 2 if array.dtype == bool else number
    for number, array in enumerate(arrays):
        assert (array == (number % 2 if array.dtype == bool else number)).all()
        assert array.size == 0 or array.ctypes.data % 64 == 0
    memory.close()


def test_views_of_one_slot_are_the_same_memory() -> None:
    layout = Layout({"numbers": ("f4", (3,))})
    memory = SharedMemory(layout.size)
    layout.views(memory, 0)["numbers"][:] = 5
    assert layout.views(memory, 0)["numbers"].tolist() == [5, 5, 5]
    memory.close()
