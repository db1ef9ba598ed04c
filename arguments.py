"""The command line of evaluate.py: what it takes, and what it refuses in one line."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from collectors.plan import RESERVED_SEEDS
from envs.controllers import CLASSICAL
from envs.jams import GRIDLOCK
from report.film import FRAMES_PER_SECOND

SETTINGS = (
    "backend",
    "decision_interval",
    "yellow_time",
    "min_green",
    "max_red",
    "max_hold",
    "episode_seconds",
    "time_to_teleport",
)
_NOTES = f"An episode counts as gridlocked where, {GRIDLOCK}."


class UsageError(ValueError):
    """The command line is wrong; the message is the one line that the user sees."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; raises ``UsageError``."""
    parser = _Parser(prog="evaluate.py", description="Compare signal controllers on the same traffic.", epilog=_NOTES)
    _add_what(parser)
    _add_how(parser)
    _add_output(parser)
    options = parser.parse_args(argv)
    _check_controllers(options)
    _check_numbers(options)
    _check_output(options)
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scenario", default="grid4x4", help="grid4x4, single, arterial, resco:NAME or a .sumocfg (%(default)s)")
    add(
        "--controller",
        action="append",
        default=[],
        metavar="C",
        help=f"{', '.join(CLASSICAL)}, a checkpoint or a run's folder; may be repeated, to compare with the first",
    )
    add("--seeds", type=int, default=5, metavar="N", help="episodes of each controller (%(default)s)")
    add("--first-seed", type=int, default=1, metavar="K", help="their seeds are K to K+N-1 (%(default)s)")


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--sampled", action="store_true", help="policies draw phases as in training; else they take the likeliest")
    for name in SETTINGS:
        flag = f"--{name.replace('_', '-')}"
        add(
            flag,
            dest=name,
            metavar="X",
            help="as in train_rl.py; if not given, a checkpoint's own, else the default there",
        )
    add("--demand-scale", default="1", metavar="X", help="as in train_rl.py, a factor or a range (%(default)s)")
    add("--departure-jitter", default="0", metavar="S", help="as in train_rl.py (%(default)s)")
    add("--processes", type=int, metavar="N", help="episodes that run at once (one per core)")
    wall = "wall seconds that one episode may take (%(default)g)"
    add("--timeout", type=float, default=600.0, metavar="S", help=wall)


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    films = " or ".join(FRAMES_PER_SECOND)
    add("--json", action="store_true", help="print one JSON object instead of a table")
    add("--out", type=Path, metavar="FOLDER", help="write report.json, report.csv and pictures there")
    add(
        "--curves",
        type=Path,
        action="append",
        nargs="+",
        default=[],
        metavar="RUN",
        help="draw into --out how runs have learned: folders of runs that differ in their seed become one curve; "
        "repeat it for further curves",
    )
    add("--gui", action="store_true", help="show the first seed under the one controller in sumo-gui")
    add(
        "--gui-delay", type=float, default=100.0, metavar="MS", help="real milliseconds between two steps (%(default)g)"
    )
    add("--video", type=Path, metavar="FILE", help=f"film the first seed, without a screen: a {films}")
    length = "length of the film, however long the episode (%(default)g)"
    add("--video-seconds", type=float, default=60.0, metavar="S", help=length)


def _check_controllers(options: argparse.Namespace) -> None:
    if not options.controller and not options.curves:
        raise UsageError("--controller C or --curves RUN: one of them must be given; see --help")
    twice = [name for name, count in Counter(options.controller).items() if count > 1]
    if twice:
        raise UsageError(f"--controller {twice[0]}: is given twice")
    for name in options.controller:
        if name not in CLASSICAL and not Path(name).exists():
            raise UsageError(
                f"--controller {name}: must be {', '.join(CLASSICAL)}, or the path of a checkpoint or a run's folder"
            )
    if options.sampled and all(name in CLASSICAL for name in options.controller):
        raise UsageError("--sampled: only policies draw phases, and none is given")
    if options.gui and len(options.controller) != 1:
        raise UsageError(f"--gui: shows one controller, {len(options.controller)} are given")


def _check_numbers(options: argparse.Namespace) -> None:
    if not 1 <= options.seeds < RESERVED_SEEDS:
        raise UsageError(f"--seeds {options.seeds}: must be 1 to {RESERVED_SEEDS - 1}")
    if not 1 <= options.first_seed <= RESERVED_SEEDS - options.seeds:
        highest = RESERVED_SEEDS - options.seeds
        raise UsageError(f"--first-seed {options.first_seed}: must be 1 to {highest} with --seeds {options.seeds}")
    if options.processes is not None and options.processes < 1:
        raise UsageError(f"--processes {options.processes}: must be at least 1")
    for name, least in (("timeout", "more than 0"), ("video_seconds", "more than 0"), ("gui_delay", "0 or more")):
        value = getattr(options, name)
        if not (value > 0 or (value == 0 and least == "0 or more")):
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: must be {least}")


def _check_output(options: argparse.Namespace) -> None:
    if options.gui and options.video:
        raise UsageError("--gui and --video: give one of them")
    shown = "--gui" if options.gui else "--video"
    for name in ("json", "out", "curves"):
        if (options.gui or options.video) and getattr(options, name):
            raise UsageError(f"{shown} and --{name}: one shows traffic, the other measures; ask for one at a time")
    if options.video and options.video.suffix not in FRAMES_PER_SECOND:
        raise UsageError(f"--video {options.video}: must end in {' or '.join(FRAMES_PER_SECOND)}")
    if options.curves and options.out is None:
        raise UsageError("--curves: needs --out FOLDER to draw into")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise UsageError(f"--out {options.out}: is a file, must be a folder")
    if options.out is not None and (options.out / "config.yaml").exists():
        raise UsageError(f"--out {options.out}: holds a training run, whose report would be lost; name another folder")
