"""What several tests of this folder begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buffers.slots import Slots
from collectors.serial import SerialPool
from tests.support.plans import make_channel, make_plan


@pytest.fixture
def pool() -> Iterator[SerialPool]:
    """Two envs in this process, room for four."""
    plan = make_plan()
    slots, weights = Slots(plan.layouts(), 2, slots_per_env=3, collectors=1, capacity=4), make_channel()
    pool = SerialPool(plan, slots, weights, 2)
    pool.start()
    yield pool
    pool.close()
    slots.close()
    weights.close()
