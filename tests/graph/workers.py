"""What the processes of the tests in this folder do."""

from __future__ import annotations

from multiprocessing.connection import Connection

import torch

from graph.dataset import ExperienceDataset
from graph.parcel import Outbox


def send_for_ever(connection: Connection, outbox: Outbox) -> None:
    """Send the same thing again and again; nobody can tell where it is when it is killed or stopped."""
    connection.send("ready")
    while True:
        outbox.send(torch.ones(1_000_000))


class Telltale(ExperienceDataset):
    """Fails when it is told to shrink, so that the telling shows wherever it is read."""

    def shrink(self) -> None:
        raise RuntimeError("told to shrink")
