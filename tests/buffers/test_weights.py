from __future__ import annotations

import numpy as np
import pytest

from buffers.weights import WeightsChannel
from tests.buffers.workers import read_weights
from tests.processes import end, hear, start


def test_reads_what_was_published_last() -> None:
    channel = WeightsChannel(5)
    assert channel.version == 0
    for version in (3, 4, 5):
        channel.publish(np.full(5, version, np.float32), version)
        weights, read = channel.read()
        assert (weights.tolist(), read, channel.version) == ([version] * 5, version, version)
    channel.close()


def test_what_was_read_is_a_copy() -> None:
    channel = WeightsChannel(3)
    channel.publish(np.ones(3, np.float32), 1)
    weights, _ = channel.read()
    channel.publish(np.zeros(3, np.float32), 2)
    channel.publish(np.zeros(3, np.float32), 3)
    assert weights.tolist() == [1, 1, 1]
    channel.close()


@pytest.mark.parametrize("wrong", [2, 3, 5])
def test_versions_grow_by_one(wrong: int) -> None:
    channel = WeightsChannel(1)
    channel.publish(np.zeros(1, np.float32), 3)
    with pytest.raises(ValueError, match=f"version {wrong} was published after version 3"):
        channel.publish(np.zeros(1, np.float32), wrong)
    assert channel.version == 3
    channel.close()


def test_wrong_length_is_refused() -> None:
    channel = WeightsChannel(4)
    with pytest.raises(ValueError, match="broadcast"):
        channel.publish(np.zeros(3, np.float32), 1)
    channel.close()


def test_readers_never_see_a_torn_vector() -> None:
    """Every version is a constant vector, so that a mixture of two shows; the writer never waits."""
    channel = WeightsChannel(20_000)
    readers = [start(read_weights, channel, 200) for _ in range(2)]
    try:
        version = 0
        while not all(connection.poll(0) for _, connection in readers):
            assert all(process.is_alive() or connection.poll(0) for process, connection in readers)
            version += 1
            channel.publish(np.full(20_000, version % 2**20, np.float32), version)
        for _, connection in readers:
            met = hear(connection)
            versions = [version for version, _, _ in met]
            assert versions == sorted(set(versions))
            assert all(low == version % 2**20 == high for version, low, high in met)
            assert versions[-1] <= version
    finally:
        for process, connection in readers:
            end(process, connection)
        channel.close()
