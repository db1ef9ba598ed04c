"""Imported by the process that collectors are forked from: everything that all of them share."""

import gc
import sys

from buffers.children import watching_parent

with watching_parent():
    from collectors import worker
    from collectors.warm import warm_up

    try:
        warm_up()
    except Exception as error:  # noqa: BLE001 - this process must live; a collector will meet the same, and report it
        print(f"compiled loops could not be made ready: {error!r}", file=sys.stderr)

__all__ = ["worker"]  # SUMO's clients, compiled loops and our rooms; no torch, which takes seconds and 150 MB

# All this stays for good. The garbage collector would look at it in every collector, and by that alone copy it.
gc.collect()
gc.freeze()
