"""The page that the measurements become: docs/benchmarks.md and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import pictures
from benchmarks.sections import SECTIONS
from benchmarks.targets import Judgement, judge
from pages.kept import Measured
from pages.page import Page, introduction, on_what
from pages.tables import paragraph, targets

_PAGE = Page("benchmarks")
_INTRODUCTION = """
`make bench` measures everything on this page and writes it; `python -m benchmarks report` writes it again from what
was measured. Each part is a script of its own that prints JSON: `python -m benchmarks.PART --help`. Figures are
medians over repetitions, from the least to the greatest in parentheses. Those who are compared are measured in turn,
each in a process of its own; ratios are taken within a round, and then the median of them.
"""


def write(folder: Path, measured: Mapping[str, Measured]) -> Path:
    """Write the page and its pictures into a folder; returns the page's path."""
    drawn = [part for part in measured if SECTIONS[part].picture]
    return _PAGE.write(
        folder, text(measured), drawn, lambda part, path: pictures.DRAW[part](path, measured[part].result)
    )


def text(measured: Mapping[str, Measured]) -> str:
    """The page."""
    judgements = {part: judge(part, one.result) for part, one in measured.items()}
    lines = [
        *introduction("Benchmarks", _INTRODUCTION, measured),
        *_overview([one for part in judgements.values() for one in part]),
        "## On what",
        "",
        *on_what(measured),
    ]
    for part, one in measured.items():
        lines += _section(part, one, judgements[part])
    return "\n".join(lines).rstrip() + "\n"


def _overview(judgements: list[Judgement]) -> list[str]:
    """How many targets are met, and which are not."""
    known = [judgement for judgement in judgements if judgement.met is not None]
    missed = [judgement for judgement in known if not judgement.met]
    lines = [f"{len(known) - len(missed)} of {len(known)} targets are met."]
    if missed:
        lines += ["", "Missed:", "", *targets(missed)]
    return [*lines, ""] if lines[-1] else lines


def _section(part: str, one: Measured, judgements: list[Judgement]) -> list[str]:
    section = SECTIONS[part]
    lines = [f"## {section.title}", "", paragraph(section.text), "", *targets(judgements)]
    if section.picture:
        lines += _PAGE.show(part, section.title)
    return [*lines, *section.tables(one.result)]
