"""What the machine, or the container around us, allows: processors, memory, processes, descriptors, disk.

No torch here, and no other room: what /proc, control groups and resource limits say, and the words about it.
"""

from machine.errors import LimitError
from machine.guard import Level, MemoryGuard, Verdict
from machine.limits import check_descriptors, check_disk, check_processes
from machine.memory import (
    ProcessMemory,
    available_memory,
    free_memory,
    give_back,
    tree_memory,
    tree_memory_by_process,
)
from machine.processors import cores
from machine.sizes import parse_size, size_text

__all__ = [
    "Level",
    "LimitError",
    "MemoryGuard",
    "ProcessMemory",
    "Verdict",
    "available_memory",
    "check_descriptors",
    "check_disk",
    "check_processes",
    "cores",
    "free_memory",
    "give_back",
    "parse_size",
    "size_text",
    "tree_memory",
    "tree_memory_by_process",
]
