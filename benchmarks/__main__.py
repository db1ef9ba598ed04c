"""``python -m benchmarks``: measure everything and write docs/benchmarks.md; ``… report`` only writes it again."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import kept, report
from benchmarks.contest import ROOT, say


def main(argv: Sequence[str]) -> int:
    """Measure and report; exit code 1 where a part has failed."""
    given = _parser().parse_args(argv)
    page = ROOT / "docs" if given.out is None else given.out
    folder = ROOT / "runs" / "benchmarks" if given.out is None else given.out
    failed = [] if given.what == "report" else [part for part in given.parts if not _measure(part, folder, given.quick)]
    measured = kept.read(folder)
    if not measured:
        say(f"{folder} holds no results: python -m benchmarks measures")
        return 1
    say(f"written: {report.write(page, measured)}")
    if failed:
        say(f"failed, for the reasons above: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "report"), default="all", help="default: %(default)s")
    parser.add_argument("--parts", nargs="+", choices=kept.PARTS, default=kept.PARTS, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it works, for no figures")
    parser.add_argument("--out", type=Path, help="folder for results and report (default: runs/benchmarks and docs)")
    return parser


def _measure(part: str, folder: Path, quick: bool) -> bool:
    """Measure a part and keep what it has found; whether that went well."""
    module = importlib.import_module(f"benchmarks.{part}")
    settings = module.QUICK if quick else module.Settings()
    kept.forget(folder, part)
    began = time.monotonic()
    try:
        result = module.measure(settings)
    except Exception:  # noqa: BLE001 - whatever it is, the other parts can still be measured
        say(traceback.format_exc())
        return False
    took = time.monotonic() - began
    command = f"python -m benchmarks --quick --parts {part}" if quick else f"python -m benchmarks.{part}"
    kept.keep(folder, kept.Measured.now(part, result, command, asdict(settings), took))
    say(f"{part}: measured in {took:.0f} s")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
