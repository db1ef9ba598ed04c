"""The process around a collector: its start, its orders, its end."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
from contextlib import closing, suppress
from multiprocessing.connection import wait

from buffers.children import die_with_forkserver, follow_parent
from buffers.queue import Doorbell
from buffers.shared import Descriptor
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Board, Wish
from collectors.collector import Collector
from collectors.errors import GivenUpError
from collectors.plan import CollectionPlan

FAILED, GIVEN_UP = 1, 3  # exit codes: to be replaced; not to be replaced
WHERE_ARE_YOU = signal.SIGQUIT  # makes a collector write down where its code is, even where it hangs


def run_collector(
    plan: CollectionPlan,
    number: int,
    slots: Slots,
    weights: WeightsChannel,
    board: Board,
    words: Descriptor,
    server: int,
) -> None:
    """A collector process from start to end; why it failed is in ``words``, a file that the pool reads.

    ``server`` is the process that it is forked from.
    """
    follow_parent()
    die_with_forkserver(server)
    os.dup2(words.fileno(), sys.stderr.fileno())  # a crash in C++ says what it has to say there, too
    faulthandler.enable()
    faulthandler.register(WHERE_ARE_YOU, all_threads=False)  # it comes to the main thread
    try:
        with closing(Collector(plan, number, slots, weights, board, _say)) as collector:
            _collect(collector, slots.doorbell(number))
    except GivenUpError as error:
        _say(str(error))
        sys.exit(GIVEN_UP)
    except Exception:  # noqa: BLE001 - whatever it is, the pool must hear of it
        traceback.print_exc()
        sys.exit(FAILED)


def _say(line: str) -> None:
    with suppress(OSError):  # the disk is full
        os.write(sys.stderr.fileno(), f"{line}\n".encode())


def _collect(collector: Collector, doorbell: Doorbell) -> None:
    """Collect until told to stop."""
    while (wish := collector.obey()) is not Wish.STOP:
        if wish is Wish.PAUSE:
            collector.rest()
        elif collector.round():
            continue
        wait([doorbell.fileno()], collector.patience())
        doorbell.answer()  # and only then look again at what it may have been rung for
