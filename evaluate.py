"""Compare signal controllers on a scenario: ``python evaluate.py --scenario grid4x4 --controller fixed --seeds 5``.

A controller is ``fixed``, ``actuated``, ``max-pressure``, ``random``, or a trained policy: its checkpoint or its
run's folder. Exit code 0: done; 1: the evaluation failed; 2: a setting or a file is wrong; 130: interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from collectors.episodes import Conditions, Episode, Policy
from collectors.errors import EvaluationError
from collectors.evaluation import evaluate
from collectors.plan import RESERVED_SEEDS
from envs.controllers import CLASSICAL
from envs.errors import ScenarioError, SumoError, SumoMissingError
from envs.scenarios import find
from envs.simulation import probe

SETTINGS = ("backend", "decision_interval", "yellow_time", "min_green", "episode_seconds", "time_to_teleport")

# What only the command line needs is imported where it is needed: each episode's process imports this file.


class UsageError(ValueError):
    """The command line is wrong; the message is the one line that the user sees."""


def main(argv: Sequence[str]) -> int:
    """One evaluation, from its command line to its exit code."""
    from config import SettingsError
    from learner.errors import LearnerError

    try:
        run(parse(argv))
    except (UsageError, SettingsError, ScenarioError, SumoMissingError, LearnerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (EvaluationError, SumoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    """Find the scenario and the controllers, let them run, and report."""
    scenario = find(options.scenario)
    policies = {name: load_policy(name) for name in options.controller if name not in CLASSICAL}
    conditions = choose_conditions(options, [checkpoint["env"] for checkpoint in policies.values()])
    controllers = [
        make_policy(name, policies[name], options.sampled) if name in policies else name for name in options.controller
    ]
    with progress(len(controllers) * options.seeds) as advance:
        episodes = evaluate(
            scenario,
            probe(scenario),
            controllers,
            range(1, options.seeds + 1),
            conditions,
            processes=options.processes,
            timeout=options.timeout,
            on_episode=advance,
        )
    report(options, conditions, episodes)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; raises ``UsageError``."""
    parser = _Parser(prog="evaluate.py", description="Compare signal controllers on the same traffic.")
    add = parser.add_argument
    add("--scenario", default="grid4x4", help="grid4x4, single, arterial, resco:NAME or a .sumocfg (%(default)s)")
    add(
        "--controller",
        action="append",
        required=True,
        metavar="C",
        help=f"{', '.join(CLASSICAL)}, a checkpoint or a run's folder; may be repeated, the first one is compared with",
    )
    add("--seeds", type=int, default=5, metavar="N", help="episodes of each, with seeds 1 to N (%(default)s)")
    add("--sampled", action="store_true", help="policies draw phases as in training; else they take the likeliest")
    for name in SETTINGS:
        add(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="X",
            help="as in train_rl.py; unless given, a checkpoint's own",
        )
    add("--processes", type=int, metavar="N", help="episodes that run at once (one per core)")
    add(
        "--timeout", type=float, default=600.0, metavar="S", help="wall seconds that one episode may take (%(default)g)"
    )
    add("--json", action="store_true", help="print one JSON object instead of a table")
    add("--out", type=Path, metavar="FOLDER", help="write report.json and report.png there")
    options = parser.parse_args(argv)
    _check(options)
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def _check(options: argparse.Namespace) -> None:
    if not 1 <= options.seeds < RESERVED_SEEDS:
        raise UsageError(f"--seeds {options.seeds}: must be 1 to {RESERVED_SEEDS - 1}")
    if options.processes is not None and options.processes < 1:
        raise UsageError(f"--processes {options.processes}: must be at least 1")
    if not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g}: must be more than 0")
    twice = [name for name, count in Counter(options.controller).items() if count > 1]
    if twice:
        raise UsageError(f"--controller {twice[0]}: is given twice")
    for name in options.controller:
        if name not in CLASSICAL and not Path(name).exists():
            raise UsageError(
                f"--controller {name}: must be {', '.join(CLASSICAL)}, or the path of a checkpoint or a run's folder"
            )
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise UsageError(f"--out {options.out}: is a file, must be a folder")


def load_policy(name: str) -> dict[str, Any]:
    """The checkpoint at a path, or the latest one of a run's folder; raises ``UsageError`` or ``CheckpointError``."""
    from learner import checkpoints

    folder = path = Path(name)
    if folder.is_dir():
        newest = checkpoints.latest(folder / "checkpoints") or checkpoints.latest(folder)
        if newest is None:
            raise UsageError(f"--controller {name}: this folder holds no checkpoint")
        path = newest
    checkpoint = checkpoints.load(path)
    missing = [key for key in ("model", "shape", "radius", "env") if key not in checkpoint]
    if missing:
        raise UsageError(f"--controller {name}: is not a policy's checkpoint, it has no {missing[0]!r}")
    return checkpoint


def make_policy(name: str, checkpoint: dict[str, Any], sampled: bool) -> Policy:
    """The policy of a checkpoint; raises ``CheckpointError`` where its weights do not fit."""
    from graph.policy import PolicyShape, SignalPolicy
    from learner.checkpoints import check_shapes

    try:
        model = SignalPolicy(PolicyShape(**checkpoint["shape"]))
    except TypeError as error:
        raise UsageError(f"--controller {name}: was written by another version of this program ({error})") from error
    check_shapes(model.state_dict(), checkpoint["model"])
    model.load_state_dict(checkpoint["model"])
    return Policy.of(name, model, checkpoint["radius"], sampled=sampled)


def choose_conditions(options: argparse.Namespace, trained: Sequence[dict[str, Any]]) -> Conditions:
    """What the flags say, else what the policies were trained with, else the defaults of train_rl.py.

    Raises ``UsageError`` where policies were trained differently and no flag decides, ``SettingsError`` as train_rl.py.
    """
    import config

    flags = []
    for name in SETTINGS:
        flag = f"--{name.replace('_', '-')}"
        values = (
            [getattr(options, name)]
            if getattr(options, name) is not None
            else [env[name] for env in trained if env.get(name) is not None]
        )
        if len(set(values)) > 1:
            raise UsageError(f"{flag}: must be given, the policies were trained with {' and '.join(map(str, values))}")
        flags += [f"{flag}={value}" for value in values[:1]]
    env = config.load(flags).env
    return Conditions(**{name: getattr(env, name) for name in SETTINGS})


@contextmanager
def progress(total: int) -> Iterator[Callable[[Episode], None]]:
    """A bar on stderr that advances with each episode; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda _: bar.advance(task)


def report(options: argparse.Namespace, conditions: Conditions, episodes: Sequence[Episode]) -> None:
    """Print and write what came out."""
    from rich.console import Console

    from learner import report

    about = {"scenario": options.scenario, "conditions": asdict(conditions)}
    record = json.dumps(report.as_dict(episodes, **about), indent=2, allow_nan=False)
    if options.json:
        print(record)
    else:
        report.show(episodes, Console(), title=f"Delay on {options.scenario}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "report.json").write_text(record + "\n", encoding="utf-8")
        report.comparison(options.out / "report.png", episodes, title=f"Delay on {options.scenario}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job would ignore it
    sys.exit(main(sys.argv[1:]))
