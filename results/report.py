"""The page that the results become: docs/results.md and its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from envs.network import APPROACH
from pages.judgement import Judgement
from pages.kept import Measured
from pages.page import Page, introduction, on_what
from pages.tables import paragraph, targets
from results import tables
from results.differences import differences
from results.parts import PARTS
from results.protocol import CONDITIONS, Found
from results.reasons import why
from results.targets import judge

_PAGE = Page("results")
_INTRODUCTION = f"""
`make results` trains, judges and writes this page; `python -m results report` writes it again from what was found, the
delay of each episode included, in [measured/results](measured/results). Each part is a script of its own that prints
JSON: `python -m results.learning --help`. Runs are what `python train_rl.py --scenario S --num-envs 4` is, for as long
as it says, with the one default profile for all maps; those under "What matters" differ in what is said there. Step
size, features, reuse, averaging and `--trace` were chosen on cologne1 and cologne8, `--max-hold` on cologne1, the
bound of values and the log barrier on ingolstadt21; what a policy does not look at, shares of ways and `--max-red` by
what policies of cologne1 and grid4x4 do on cologne8, cologne3 and ingolstadt7. All of it in part by looking at the
very episodes of this page.

Everybody is judged alike: the scenario's own hour, a decision every {CONDITIONS.decision_interval:g} s,
{CONDITIONS.yellow_time:g} s of yellow, no teleporting, seeds from 1 on that nobody was trained on, the likeliest
phase of a policy, delays from SUMO's own record of trips: time lost and the wait to enter, the mean over vehicles
that entered; the full delay also counts those that never entered. In RESCO's scenarios a seed changes how people
drive, not who departs when. A policy gives a turn to who has stood at red for {CONDITIONS.max_red:g} s and keeps
green for who is held up inside a junction (`--max-red`, `--max-hold`); classical controllers do without both, and
what they do otherwise than their sources say is in their docstrings (`envs/controllers/`). Under `fixed` and
`actuated` SUMO decides, with the network's own yellow: on cologne1 5 s. `max-pressure`, `max-wave` and `sotl` see, as
in their papers, no further than the roads at a signal; a policy sees {APPROACH:g} m of the ways to it, which on
ingolstadt21, whose roads are made of short pieces, is far more. Intervals are 95 % (Student's t) over episodes: where
there is one training run, another one may end elsewhere. Moments count from the start of the process, on a part of a
shared machine that is not always as fast, which decisions tell, in a checkout that `make setup` has been run in;
their policy is the newest checkpoint. Learning curves are of training episodes, of which one that gridlocks ends
there with the delay that it has by then, and lies below what the whole hour would have: the dots are the judged
policies, over whole hours. Where there are several training runs, targets are held against their median, and a run
that failed counts as infinite delay.
"""

_PAIRS = """
The last checkpoints, in the mean over training runs, against the classical controller of the least full delay: their
delay minus its, of the vehicles that entered, the mean over the episodes, in each of which both met the same traffic,
and its 95 % interval. Where that includes 0 these episodes do not tell them apart.
"""


def write(folder: Path, measured: Mapping[str, Measured]) -> Path:
    """Write the page and its pictures into a folder; returns the page's path."""
    found = {part: one.result for part, one in measured.items()}
    return _PAGE.write(folder, text(measured), found, lambda part, path: PARTS[part].draw(path, found[part], found))


def text(measured: Mapping[str, Measured]) -> str:
    """The page."""
    found = {part: one.result for part, one in measured.items()}
    judgements = judge(found)
    unknown = sum(one.met is None for one in judgements)
    lines = [
        *introduction("Results", _INTRODUCTION, measured),
        f"{sum(bool(one.met) for one in judgements)} of {len(judgements)} targets are met"
        f"{f', {unknown} were not measured' if unknown else ''}.",
        *("", *targets(judgements), *reasons(judgements, found)),
    ]
    if pairs := list(differences(found)):
        lines += ["## Against the best classical controller", "", paragraph(_PAIRS), "", *tables.differences(pairs)]
    for part, one in measured.items():
        lines += [f"## {PARTS[part].title}", ""]
        lines += [paragraph(PARTS[part].text), ""] if PARTS[part].text else []
        lines += changes(one)
        lines += [*PARTS[part].tables(one.result), *_PAGE.show(part, PARTS[part].title)]
    return "\n".join([*lines, "## On what", "", *on_what(measured)]).rstrip() + "\n"


def changes(one: Measured) -> list[str]:
    """A list of what a part was measured with and would not be measured with now; nothing where there is none."""
    part = PARTS[one.part]
    now = asdict(part.quick if "--quick" in one.command else part.settings)
    as_kept = json.loads(json.dumps(now))
    found = [
        f"- measured with `{name}` {one.settings.get(name)}, which is {value} by now"
        for name, value in as_kept.items()
        if one.settings.get(name) != value
    ]
    return [*found, ""] if found else []


def reasons(judgements: Sequence[Judgement], found: Found) -> list[str]:
    """Why each missed target is missed."""
    missed = [one.about for one in judgements if one.met is False]
    if not missed:
        return []
    return [
        "Why targets are missed:",
        "",
        *(f"- {about}: {why(about, found)}" for about in missed),
        "",
    ]
