"""Values through a pipe, whole or not at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graph.parcel import Inbox, Outbox, parcel_pipe
from tests.graph.workers import send_for_ever
from tests.processes import LIMIT, hear, running

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)


class Thing(NamedTuple):
    """Something with tensors at any depth."""

    name: str
    tensors: dict[str, Tensor]
    more: tuple[Any, ...] = ()


@pytest.fixture
def pipe() -> Iterator[tuple[Inbox, Outbox]]:
    inbox, outbox = parcel_pipe()
    yield inbox, outbox
    inbox.close()
    outbox.close()


def through(pipe: tuple[Inbox, Outbox], value: Any) -> Any:
    """What arrives of a value; sent by another thread, since a pipe holds only so much."""
    inbox, outbox = pipe
    with ThreadPoolExecutor(1) as others:
        sent = others.submit(outbox.send, value)
        sent.add_done_callback(lambda done: outbox.close() if done.exception() else None)  # nothing more will come
        try:
            return inbox.receive(LIMIT)
        finally:
            sent.result(LIMIT)


@settings(deadline=None, max_examples=60)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=6),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=6, max_size=6),
    seed=st.integers(0, 1000),
)
def test_tensors_of_every_type_and_shape_arrive_as_they_were(
    shapes: list[list[int]], dtypes: list[torch.dtype], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        str(i): torch.randint(0, 100, shape, generator=generator).to(dtype)
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))
    }
    inbox, outbox = parcel_pipe()
    try:
        arrived = through((inbox, outbox), Thing("one", tensors))
    finally:
        inbox.close()
        outbox.close()
    assert arrived.name == "one"
    assert arrived.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert arrived.tensors[name].dtype == tensor.dtype
        assert torch.equal(arrived.tensors[name], tensor)


def test_views_and_gradients_are_sent_as_plain_values(pipe: tuple[Inbox, Outbox]) -> None:
    weights = torch.arange(12.0).reshape(3, 4).requires_grad_()
    arrived = through(pipe, (weights, weights.T, weights[::2, 1]))
    assert [tensor.tolist() for tensor in arrived] == [weights.tolist(), weights.T.tolist(), [1.0, 9.0]]
    assert not any(tensor.requires_grad for tensor in arrived)


def test_more_than_the_pipe_holds_arrives_in_order(pipe: tuple[Inbox, Outbox]) -> None:
    for number in range(3):
        large = torch.full((3_000_000,), number)
        assert torch.equal(through(pipe, (number, large))[1], large)


def receive_all(inbox: Inbox, limit: float, found: list[Tensor]) -> None:
    """Receive until something is wrong."""
    while True:
        found.append(inbox.receive(limit))


def test_a_sender_that_is_killed_leaves_an_end_and_no_half_things(pipe: tuple[Inbox, Outbox]) -> None:
    inbox, outbox = pipe
    with running(send_for_ever, outbox) as (process, connection):
        outbox.close()
        assert hear(connection) == "ready"
        assert inbox.receive(LIMIT).sum() == 1_000_000
        process.kill()
        whole: list[Tensor] = []
        with pytest.raises(EOFError, match="the sender is gone"):
            receive_all(inbox, LIMIT, whole)
        assert all(len(tensor) == 1_000_000 and bool((tensor == 1).all()) for tensor in whole)


def test_a_sender_that_stands_in_the_middle_is_waited_for_no_longer_than_that(pipe: tuple[Inbox, Outbox]) -> None:
    inbox, outbox = pipe
    with running(send_for_ever, outbox) as (process, connection):
        outbox.close()
        assert hear(connection) == "ready"
        inbox.receive(LIMIT)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError, match=r"silent for 0\.5 s"):
            receive_all(inbox, 0.5, [])
