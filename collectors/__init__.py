"""Collectors: processes that drive simulations in the background, and the pool that keeps them.

Imported lazily, so that ``python -m collectors status`` does not wait for numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collectors.errors import CollectorError
    from collectors.plan import CollectionPlan
    from collectors.pool import Pool
    from collectors.processes import ProcessPool
    from collectors.serial import SerialPool

__all__ = ["CollectionPlan", "CollectorError", "Pool", "ProcessPool", "SerialPool"]

_HOMES = {
    "CollectionPlan": "collectors.plan",
    "CollectorError": "collectors.errors",
    "Pool": "collectors.pool",
    "ProcessPool": "collectors.processes",
    "SerialPool": "collectors.serial",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
