"""``python -m chaos``: do every harm to real runs and write docs/reliability.md; ``… report`` only writes it again."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

from chaos import kept, report
from chaos.harm import Result
from pages.command import Command
from pages.kept import Beginning
from pages.output import say


def add_seed(parser: argparse.ArgumentParser) -> None:
    """The flag that repeats what was random."""
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")


def do(part: str, folder: Path, given: argparse.Namespace) -> bool:
    """Do one harm, say and keep what was seen; whether everything held."""
    module = importlib.import_module(f"chaos.{part}")
    settings = module.QUICK if given.quick else module.Settings()
    began = Beginning.now()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        try:
            result = kept.without_folder(module.harm(settings, Path(temporary), given.seed), Path(temporary))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other harms can still be done
            say(traceback.format_exc())
            result = Result(report.title(part))
            result.check("it could be seen through", False, f"{type(error).__name__}: {error}")
    for check in result.checks:
        say(f"{part}: {'held' if check.holds else 'MISSED'}: {check.what}: {' '.join(check.seen.split())[:300]}")
    command = f"python -m chaos{' --quick' if given.quick else ''} --parts {part} --seed {given.seed}"
    kept.keep(folder, part, result, command, asdict(settings), began)
    say(f"{part}: {sum(check.holds for check in result.checks)} of {len(result.checks)} held, in {began.ago:.0f} s")
    return result.holds


main = Command("chaos", __doc__, kept.PARTS, do, report.write, add_seed).run

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
