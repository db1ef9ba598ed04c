"""Sizes of memory as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from machine.memory import available_memory

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(?:(%)|(?:([KMGT])I?)?B?)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``800M``, ``1.5GiB``, ``12GB`` (units of 1024), ``50%`` of all memory, or plain bytes.

    Raises ``ValueError`` for anything else, for nothing at all, and for more than 100%.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: write 800M, 12G, 1.5GiB, 50% (of the machine's memory) or plain bytes")
    number, percent, unit = match.groups()
    if percent:
        if Fraction(number) > 100:
            raise ValueError(f"{text!r} is more than there is: write 100% or less")
        size = Fraction(number) / 100 * available_memory()
    else:
        size = Fraction(number) * 1024 ** " KMGT".index((unit or " ").upper())
    if size < 1:
        raise ValueError(f"{text!r} is less than a byte, must be at least that")
    return int(size)


def size_text(size: int) -> str:
    """Bytes for people: ``812 MiB``, ``12.4 GiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
