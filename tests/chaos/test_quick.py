"""Every harm in its short form, on real runs: what must hold in docs/reliability.md holds for a few of each, too.

But for limits of time, of which the tests beside these know nothing.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import pytest

from chaos.kept import PARTS


@pytest.mark.timeout(240)  # several runs, one after the other, each within bounds of its own
@pytest.mark.parametrize("part", PARTS)
def test_what_must_hold_holds(part: str) -> None:
    module = importlib.import_module(f"chaos.{part}")
    with tempfile.TemporaryDirectory() as folder:  # a short name: runs have sockets in it
        result = module.harm(module.QUICK, Path(folder), seed=11)
    broken = [f"{check.what}: {check.seen}" for check in result.checks if not (check.holds or check.timed)]
    assert result.checks, "nothing was looked at"
    assert not broken, "\n".join(broken)
