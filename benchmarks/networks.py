"""What is measured on: the networks, and how much of an episode counts."""

from __future__ import annotations

from typing import NamedTuple


class Extent(NamedTuple):
    """How much of a network's episodes is measured, in simulated s from the beginning on.

    ``stepping`` for one env, where slow clients need minutes for an hour of traffic; ``scaling`` for many envs at once.
    """

    stepping: float
    scaling: float


NETWORKS = {
    "grid4x4": Extent(1800.0, 1800.0),
    "resco:cologne1": Extent(3600.0, 1800.0),
    "resco:cologne8": Extent(1800.0, 1800.0),
    "resco:ingolstadt21": Extent(1200.0, 1200.0),
}
INTERVALS = (1.0, 5.0, 10.0)  # s between two decisions


def extent(network: str) -> Extent:
    """How much of a network's episodes is measured; ten minutes of one that is not in the list."""
    return NETWORKS.get(network, Extent(600.0, 600.0))
