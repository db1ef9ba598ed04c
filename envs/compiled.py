"""Loops over bytes, vehicles and edges, written in Python and compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is compiled when it is first called, and kept on disk for the next process where that can be.

    The file on disk is bound to the source file of the function and to no other: it must not call compiled functions,
    or use constants, that are defined elsewhere and may change. Products and sums may be contracted into one
    instruction, so that results can differ between kinds of processors in the last digit, but never between two runs.
    """
    try:
        return njit(function, cache=True, fastmath={"contract"})
    except RuntimeError:  # no folder can be written to, neither the source's nor the user's
        return njit(function, fastmath={"contract"})
