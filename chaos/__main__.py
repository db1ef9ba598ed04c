"""``python -m chaos``: do every harm to real runs and write docs/reliability.md; ``… report`` only writes it again."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.contest import ROOT, say
from benchmarks.kept import forget
from chaos import kept, report
from chaos.harm import Result


def main(argv: Sequence[str]) -> int:
    """Do harm and report; exit code 1 where something did not hold."""
    given = _parser().parse_args(argv)
    page = ROOT / "docs" if given.out is None else given.out
    folder = ROOT / "runs" / "chaos" if given.out is None else given.out
    missed = [] if given.what == "report" else [part for part in given.parts if not _do(part, folder, given)]
    seen = kept.read(folder)
    if not seen:
        say(f"{folder} holds no results: python -m chaos does harm")
        return 1
    say(f"written: {report.write(page, seen)}")
    if missed:
        say(f"not everything held: {', '.join(missed)}")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "report"), default="all", help="default: %(default)s")
    parser.add_argument("--parts", nargs="+", choices=kept.PARTS, default=kept.PARTS, help="which harms")
    parser.add_argument("--quick", action="store_true", help="a few of each: to see that it works, for no figures")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for results and page (default: runs/chaos and docs)")
    return parser


def _do(part: str, folder: Path, given: argparse.Namespace) -> bool:
    """Do one harm, say and keep what was seen; whether everything held."""
    module = importlib.import_module(f"chaos.{part}")
    settings = module.QUICK if given.quick else module.Settings()
    forget(folder, part)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        try:
            result = kept.without_folder(module.harm(settings, Path(temporary), given.seed), Path(temporary))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other harms can still be done
            say(traceback.format_exc())
            result = Result(report.title(part))
            result.check("it could be seen through", False, f"{type(error).__name__}: {error}")
    took = time.monotonic() - began
    for check in result.checks:
        say(f"{part}: {'held' if check.holds else 'MISSED'}: {check.what}: {' '.join(check.seen.split())[:300]}")
    command = f"python -m chaos{' --quick' if given.quick else ''} --parts {part} --seed {given.seed}"
    kept.keep(folder, part, result, command, asdict(settings), took)
    say(f"{part}: {sum(check.holds for check in result.checks)} of {len(result.checks)} held, in {took:.0f} s")
    return result.holds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
