"""``python -m benchmarks``: measure everything and write docs/benchmarks.md; ``… report`` only writes it again."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.sections import SECTIONS
from pages.command import Command, measure


def do(part: str, folder: Path, given: argparse.Namespace) -> bool:
    """Measure a part."""
    module = importlib.import_module(f"benchmarks.{part}")
    if given.quick:
        return measure(folder, part, module.measure, module.QUICK, f"python -m benchmarks --quick --parts {part}")
    return measure(folder, part, module.measure, module.Settings(), f"python -m benchmarks.{part}")


main = Command("benchmarks", __doc__, tuple(SECTIONS), do, report.write).run

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
