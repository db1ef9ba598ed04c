"""The command line of whatever is done part by part and ends in a page: ``python -m benchmarks``, and its like."""

from __future__ import annotations

import argparse
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pages import ROOT, kept
from pages.kept import Beginning, Measured
from pages.output import say


@dataclass(frozen=True)
class Command:
    """``python -m name``: does some or all of ``parts`` and writes the page docs/name.md, or only the latter.

    ``do`` does a part, keeps what it has found in a folder, and says whether that went well; ``write`` writes the page
    of what is kept and returns its path. ``about`` is the help, ``add`` may add flags.
    """

    name: str
    about: str
    parts: Sequence[str]
    do: Callable[[str, Path, argparse.Namespace], bool]
    write: Callable[[Path, Mapping[str, Measured]], Path]
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None

    def run(self, argv: Sequence[str]) -> int:
        """Exit code 1 where a part did not go well, 130 after Ctrl-C or SIGTERM, which end all that was started."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return self._run(argv)
        except KeyboardInterrupt:
            return 130
        finally:
            signal.signal(signal.SIGTERM, before)

    def _run(self, argv: Sequence[str]) -> int:
        parser = self._parser()
        given = parser.parse_args(argv)
        if given.quick and given.out is None:
            parser.error("--quick: needs --out FOLDER, or its figures would take the place of real ones")
        page = ROOT / "docs" if given.out is None else given.out
        folder = page / "measured" / self.name
        failed = [] if given.what == "report" else [part for part in given.parts if not self.do(part, folder, given)]
        found = kept.read(folder, self.parts)
        if not found:
            say(f"{folder} holds no results: python -m {self.name} finds them")
            return 1
        say(f"written: {self.write(page, found)}")
        if failed:
            say(f"did not go well, see above: {', '.join(failed)}")
        return 1 if failed else 0

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=f"python -m {self.name}", description=self.about)
        add = parser.add_argument
        add("what", nargs="?", choices=("all", "report"), default="all", help="default: %(default)s")
        add("--parts", nargs="+", choices=self.parts, default=self.parts, help="which parts")
        add("--quick", action="store_true", help="tiny sizes: to see that it works, for no figures")
        add("--out", type=Path, help="folder for the page and, in measured/, what it is written from (default: docs)")
        self.add(parser)
        return parser


def measure(folder: Path, part: str, how: Callable[[Any], dict[str, Any]], settings: Any, command: str) -> bool:
    """Measure a part and keep what it has found; whether that went well, with nothing in it that ``failed``."""
    began = Beginning.now()
    try:
        result = how(settings)
    except Exception:  # noqa: BLE001 - whatever it is, the other parts can still be measured
        say(traceback.format_exc())
        kept.forget(folder, part)  # what was found another time
        return False
    measured = Measured.now(part, result, command, asdict(settings), began)
    kept.keep(folder, measured)
    say(f"{part}: measured in {measured.took:.0f} s")
    return not result.get("failed")
