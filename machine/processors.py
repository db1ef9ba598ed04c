"""How many processor cores there are for us."""

from __future__ import annotations

import math
import os
from pathlib import Path

from machine import cgroups


def cores(root: Path = Path("/")) -> int:
    """Processor cores that this process may use: what it starts should be no more than that at once.

    Of a container that may use 1.5, there are 2. ``root`` is where control groups are looked for.
    """
    bound = len(os.sched_getaffinity(0))
    share = cgroups.processors(root)
    return bound if share is None else max(1, min(bound, math.ceil(share)))
