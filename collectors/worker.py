"""The process around a collector: its start, its orders, its end."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import torch

from buffers.children import follow_parent
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board
from collectors.collector import Collector
from collectors.plan import CollectionPlan

_REST = 1.0  # s between two signs of life of a collector that has nothing to do


@dataclass(frozen=True, slots=True)
class Order:
    """From the pool to a collector; obeyed between two decisions."""

    what: Literal["pause", "resume", "stop"]


@dataclass(frozen=True, slots=True)
class Report:
    """From a collector to the pool: an order has been obeyed, or why it cannot go on."""

    what: Literal["started", "paused", "resumed", "stopped", "failed"]
    details: Any = None  # started: process ids of its SUMOs; failed: the traceback


def run_collector(
    plan: CollectionPlan,
    number: int,
    envs: Sequence[int],
    slots: Slots,
    weights: WeightsChannel,
    board: Board,
    orders: Connection,
    incarnation: int = 0,
) -> None:
    """A collector process from start to end; ends with exit code 1 after it has reported why."""
    follow_parent()
    torch.set_num_threads(1)
    try:
        collector = Collector(plan, number, envs, slots, weights, board, incarnation)
        try:
            orders.send(Report("started", collector.sumo_pids))
            _obey(collector, orders)
        finally:
            collector.close()
        orders.send(Report("stopped"))
    except (EOFError, BrokenPipeError):
        sys.exit(1)  # the parent has gone away, and nobody is left to hear why
    except Exception:  # noqa: BLE001 - whatever it is, the pool must hear of it
        orders.send(Report("failed", traceback.format_exc()))
        sys.exit(1)


def _obey(collector: Collector, orders: Connection) -> None:
    """Collect until told to stop."""
    paused = False
    while True:
        while orders.poll():
            order: Order = orders.recv()
            if order.what == "stop":
                return
            paused = order.what == "pause"
            collector.rest(Activity.PAUSED if paused else Activity.RUNNING)
            orders.send(Report("paused" if paused else "resumed"))
        if paused:
            collector.rest(Activity.PAUSED)
            wait([orders], timeout=_REST)
            continue
        collector.answer_doorbells()
        if not collector.round():
            wait([orders, *collector.doorbells()], timeout=_REST)
