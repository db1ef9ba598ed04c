"""A contender for the tests: counts its turns, and prints what it should not, here and in a child."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.contest import Sample, add_turn_flag, take_turns
from pages.output import results_only

parser = argparse.ArgumentParser()
parser.add_argument("--fail-in", type=int, default=0)
add_turn_flag(parser)
given = parser.parse_args()
turns = 0


def measure() -> Sample:
    """One turn."""
    global turns
    turns += 1
    if turns == given.fail_in:
        sys.exit(3)
    print("noise")
    subprocess.run([sys.executable, "-c", "print('noise of a child')"], check=True)
    return {"turn": turns, "at": time.monotonic()}


with results_only() as results:
    take_turns(results, measure, given.in_turn)
