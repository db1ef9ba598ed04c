"""Compare signal controllers on a scenario: ``python evaluate.py --scenario grid4x4 --controller fixed --seeds 5``.

A controller is a classical one, by its name, or a trained policy: its checkpoint or its run's folder. ``--out`` writes
everything down, ``--video`` films them, ``--gui`` shows one, ``--curves`` draws how runs have learned. Exit code 0:
done; 1: the evaluation failed; 2: a setting or a file is wrong; 130: interrupted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arguments import SETTINGS, UsageError, parse
from collectors.episodes import Conditions, show_episode
from collectors.errors import EvaluationError
from collectors.evaluation import evaluate, record
from collectors.measures import COURSE_BIN, Episode
from collectors.policies import Policy
from envs.backends import open_window
from envs.controllers import CLASSICAL
from envs.errors import ScenarioError, SumoError, SumoMissingError
from envs.jams import GRIDLOCK
from envs.network import Network
from envs.recording import Lens, Recording
from envs.scenarios import Scenario, find
from envs.simulation import probe

if TYPE_CHECKING:
    from report.curves import Rows

_SEEN_ENOUGH = (0, signal.SIGTERM, -signal.SIGTERM)  # exit codes of a SUMO that somebody closed
DIAGRAM_SECONDS = 600.0  # of the space-time diagram, with an instant a second

# What only the command line needs is imported where it is needed: each episode's process imports this file.


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
    """Do what the command line asks for."""
    curves = read_curves(options) if options.curves else None
    study = prepare(options) if options.controller else None
    if study is not None and options.gui:
        show(options, study)
    elif study is not None and options.video:
        film(options, study)
    else:
        episodes = measure(options, study) if study is not None else []
        if curves is not None:
            draw_curves(options, curves, episodes)
        if study is not None and options.out is not None:
            look(options, study, episodes)


@dataclass(frozen=True, slots=True)
class Study:
    """Who is to act, where, and under which conditions."""

    scenario: Scenario
    network: Network | None
    controllers: list[str | Policy]
    conditions: Conditions
    limits: dict[str, Any]  # of the processes that episodes run in

    def record(self, seed: int, lens: Lens, on_recording: Callable[[object], None]) -> list[Recording]:
        """Record what every controller makes of one seed's traffic."""
        where = self.scenario, self.network, self.controllers
        return record(*where, seed, lens, self.conditions, on_recording=on_recording, **self.limits)


def prepare(options: argparse.Namespace) -> Study:
    """Find the scenario and the controllers."""
    from learner.policies import read_policy

    scenario = find(options.scenario)
    trained = {name: read_policy(Path(name)) for name in options.controller if name not in CLASSICAL}
    conditions = choose_conditions(options, [policy.env for policy in trained.values()])
    policies = {
        name: Policy.of(name, policy.model, policy.radius, sampled=options.sampled) for name, policy in trained.items()
    }
    network = None if options.gui else probe(scenario)
    controllers = [policies.get(name, name) for name in options.controller]
    return Study(
        scenario, network, controllers, conditions, {"processes": options.processes, "timeout": options.timeout}
    )


def choose_conditions(options: argparse.Namespace, trained: Sequence[dict[str, Any]]) -> Conditions:
    """What the flags say, else what the policies were trained with, else the defaults of train_rl.py.

    Raises ``UsageError`` where policies were trained differently and no flag decides, ``SettingsError`` as train_rl.py.
    """
    import config

    flags = []
    for name in SETTINGS:
        flag = f"--{name.replace('_', '-')}"
        given = getattr(options, name)
        values = [given] if given is not None else [env[name] for env in trained if name in env]
        if len(set(values)) > 1:
            words = " and ".join("none" if value is None else str(value) for value in values)
            raise UsageError(f"{flag}: must be given, the policies were trained with {words}")
        flags += [f"{flag}={value}" for value in values[:1] if value is not None]
    # Never a checkpoint's own: what it was trained with was varied so that it copes with the scenario as it is.
    flags += [f"--demand-scale={options.demand_scale}", f"--departure-jitter={options.departure_jitter}"]
    env = config.load(flags).env
    return Conditions(**{name: getattr(env, name) for name in (*SETTINGS, "demand_scale", "departure_jitter")})


def measure(options: argparse.Namespace, study: Study) -> list[Episode]:
    """Let every controller act on every seed, print what came out, and write it down where it is wanted."""
    from report.progress import progress

    if options.out is not None:
        make_folder("--out", options.out)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with progress("episodes", len(study.controllers) * len(seeds)) as advance:
        where = study.scenario, study.network, study.controllers
        episodes = evaluate(*where, seeds, study.conditions, on_episode=advance, **study.limits)
    report(options, study, episodes)
    return episodes


def report(options: argparse.Namespace, study: Study, episodes: Sequence[Episode]) -> None:
    """Print and write what came out."""
    from rich.console import Console

    from report import folder, records, tables

    about = {"scenario": options.scenario, "conditions": asdict(study.conditions)}
    facts = records.as_dict(episodes, **about, gridlock=GRIDLOCK, course_bin_seconds=COURSE_BIN)
    if options.json:
        print(json.dumps(facts, indent=2, allow_nan=False))
    else:
        tables.show(episodes, Console(), title=f"Delay on {options.scenario}: {study.conditions}", details=True)
    if options.out is not None:
        with writing("--out", options.out):
            folder.write(options.out, facts, episodes, COURSE_BIN, options.scenario)


def look(options: argparse.Namespace, study: Study, episodes: Sequence[Episode]) -> None:
    """Record the worst minutes of the first seed under every controller, and draw them."""
    from report.delays import busiest_moment
    from report.folder import draw_recordings
    from report.progress import progress

    (options.out / "space-time.png").unlink(missing_ok=True)  # of another evaluation
    begin, end = study.conditions.window(study.scenario)
    worst = max(begin, min(begin + busiest_moment(episodes, COURSE_BIN), end - DIAGRAM_SECONDS))
    with progress("recordings", len(study.controllers)) as advance:
        recordings = study.record(options.first_seed, Lens(worst, min(end, worst + DIAGRAM_SECONDS), 1.0), advance)
    with writing("--out", options.out):
        if trouble := draw_recordings(options.out, recordings, options.scenario):
            print(trouble, file=sys.stderr)


def film(options: argparse.Namespace, study: Study) -> None:
    """Film the first seed's traffic under every controller, side by side."""
    from report.film import FRAMES_PER_SECOND, write
    from report.progress import progress

    path: Path = options.video
    make_folder("--video", path.parent)
    begin, end = study.conditions.window(study.scenario)
    lens = Lens(begin, end, (end - begin) / (options.video_seconds * FRAMES_PER_SECOND[path.suffix]))
    with progress("recordings", len(study.controllers)) as advance:
        recordings = study.record(options.first_seed, lens, advance)
    with writing("--video", path):
        write(path, recordings)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def show(options: argparse.Namespace, study: Study) -> None:
    """Show the first seed's traffic under the one controller in sumo-gui."""
    if not os.environ.get("DISPLAY"):
        raise UsageError("--gui: there is no display (DISPLAY is not set); --video FILE films it without one")
    conditions = study.conditions
    try:
        scenario = conditions.shortened(study.scenario)
        session = open_window(scenario, conditions.time_to_teleport, options.gui_delay, conditions.variation)
    except SumoError as error:
        raise UsageError(f"--gui: {error}; --video FILE films it without a display") from error
    with closing(session):
        try:
            show_episode(session, study.controllers[0], options.first_seed, conditions)
        except SumoError as error:
            if error.exit_code not in _SEEN_ENOUGH:
                raise
            print(f"the window was closed before the end: {error}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Curves:
    """How groups of runs have learned, by what they are called, and what they were trained on."""

    groups: dict[str, list[Rows]]
    scenarios: Sequence[str]


def read_curves(options: argparse.Namespace) -> Curves:
    """Read what is to be drawn, before anything takes time.

    Raises ``UsageError`` where something of it does not belong together, or is not there.
    """
    from learner import metrics
    from report.curves import by_scenario

    learned_on = [check_alike(runs) for runs in options.curves]
    scenarios = sorted(set(learned_on))
    if options.controller and scenarios != [options.scenario]:
        raise UsageError(
            f"--controller: acts on {options.scenario}, and the runs of --curves were trained on "
            f"{' and '.join(scenarios)}: its delay would be no measure of theirs"
        )
    groups: dict[str, list[Rows]] = {}
    for label, scenario, folders in zip(label_groups(options.curves), learned_on, options.curves, strict=True):
        if len(scenarios) > 1:
            label = f"{label} on {scenario}"
        runs: list[Rows] = [metrics.read(folder / metrics.FILE_NAME) for folder in folders]
        groups |= {f"{label}: {name}": own for name, own in by_scenario(runs).items()} or {label: runs}
    return Curves(groups, scenarios)


def label_groups(groups: Sequence[Sequence[Path]]) -> list[str]:
    """What groups of runs are called: by the names of their folders, or by their paths where names would not tell.

    Raises ``UsageError`` where these do not, either.
    """
    labels: list[str] = []
    for spell in (lambda run: run.name, str):
        labels = [" to ".join(dict.fromkeys([spell(runs[0]), spell(runs[-1])])) for runs in groups]
        if len(set(labels)) == len(labels):
            return labels
    twice = next(label for label in labels if labels.count(label) > 1)
    raise UsageError(f"--curves {twice}: begins and ends two groups; each must have runs of its own")


def draw_curves(options: argparse.Namespace, curves: Curves, episodes: Sequence[Episode]) -> None:
    """Draw how groups of runs have learned, on each scenario, and how the first controller does if there was one."""
    from report.curves import learning_curves
    from report.statistics import Summary, by_controller

    first = list(by_controller(episodes).items())[:1]
    baselines = {name: Summary.of(episode.delay for episode in own) for name, own in first}
    path = make_folder("--out", options.out) / "learning-curves.png"
    with writing("--out", path):
        learning_curves(path, curves.groups, baselines, f"Learning on {' and '.join(curves.scenarios)}")
    if not options.json:
        print(path)


def check_alike(runs: Sequence[Path]) -> str:
    """See that runs differ in nothing that one curve could not show the mean of; returns what they were trained on.

    Raises ``UsageError`` where they do, and where one of them is no run.
    """
    import config

    settings = []
    for run in runs:
        path = run / "config.yaml"
        try:
            settings.append(config.from_yaml(path.read_text(encoding="utf-8"), str(path)).model_dump(exclude={"run"}))
        except OSError as error:
            raise UsageError(f"--curves {run}: is no run's folder ({path.name}: {error.strerror})") from error
    first = settings[0]
    for run, own in zip(runs, settings, strict=True):
        differs = [
            f"{part}.{name}" for part, values in own.items() for name in values if values[name] != first[part][name]
        ]
        if differs:
            raise UsageError(
                f"--curves {runs[0]} {run}: they differ in {', '.join(differs)}, and a curve is the mean of runs that "
                "differ in their seed; repeat --curves for further curves"
            )
    scenario: str = first["env"]["scenario"]
    return scenario


def make_folder(flag: str, path: Path) -> Path:
    """A folder for what is to be written, before anything takes time."""
    with writing(flag, path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """What the disk refuses becomes a ``UsageError`` that names the flag."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{flag} {path}: cannot be written ({error.strerror or error})") from error


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job would ignore it
    code = main(sys.argv[1:])
    gc.freeze()  # else Python's end would look through all of torch for garbage first, a second and more
    sys.exit(code)
