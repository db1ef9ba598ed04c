"""Imported by the process that collectors are forked from: everything that all of them share."""

import gc

from collectors import worker
from collectors.warm import warm_up

__all__ = ["worker"]  # torch, SUMO's clients and our rooms

warm_up()
# All this stays for good. The garbage collector would look at it in every collector, and by that alone copy it.
gc.collect()
gc.freeze()
