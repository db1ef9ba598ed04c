"""``python -m results``: train, judge and write docs/results.md, hours; ``… report`` only writes it again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pages.command import Command, measure
from results import report
from results.parts import PARTS


def do(part: str, folder: Path, given: argparse.Namespace) -> bool:
    """Measure a part."""
    settings = PARTS[part].quick if given.quick else PARTS[part].settings
    command = f"python -m results{' --quick' if given.quick else ''} --parts {part}"
    return measure(folder, part, PARTS[part].measure, settings, command)


main = Command("results", __doc__, tuple(PARTS), do, report.write).run

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
