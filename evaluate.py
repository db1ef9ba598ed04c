"""Compare signal controllers on a scenario: ``python evaluate.py --scenario grid4x4 --controller fixed --seeds 5``.

A controller is ``fixed``, ``actuated``, ``max-pressure``, ``random``, or a trained policy: a checkpoint or a run's folder.
Exit code 0: done; 1: the evaluation failed; 2: a setting or a file is wrong; 130: interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from collectors.episodes import Conditions, Episode, Policy
from collectors.errors import EvaluationError
from collectors.evaluation import evaluate
from envs.controllers import CLASSICAL
from envs.errors import ScenarioError, SumoError, SumoMissingError
from envs.scenarios import find

# What only the command line needs is imported where it is needed: each episode's process imports this file.


class UsageError(ValueError):
    """The command line is wrong; the message is the one line that the user sees."""


def main(argv: Sequence[str]) -> int:
    """One evaluation, from its command line to its exit code."""
    from learner.errors import LearnerError

    try:
        run(parse(argv))
    except (UsageError, ScenarioError, SumoMissingError, LearnerError) as error:
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
    controllers, settings = find_controllers(options.controller, sampled=options.sampled)
    conditions = set_conditions(options, settings)
    with progress(len(controllers) * options.seeds) as advance:
        episodes = evaluate(
            scenario,
            None,
            controllers,
            range(1, options.seeds + 1),
            conditions,
            processes=options.processes,
            timeout=options.timeout,
            on_episode=advance,
        )
    report(options, scenario.name, conditions, episodes)
