"""The page that the measurements become: docs/benchmarks.md and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import pictures
from benchmarks.kept import Measured
from benchmarks.sections import SECTIONS
from benchmarks.tables import paragraph, table, targets
from benchmarks.targets import Judgement, judge

_INTRODUCTION = """
`make bench` measures everything on this page and writes it; `python -m benchmarks report` writes it again from what
was measured. Each part is a script of its own that prints JSON: `python -m benchmarks.PART --help`. Figures are
medians over repetitions, from the least to the greatest in parentheses. Those who are compared are measured in turn,
each in a process of its own; ratios are taken within a round, and then the median of them.
"""


def write(folder: Path, measured: Mapping[str, Measured]) -> Path:
    """Write the page and its pictures into a folder; returns the page's path."""
    shown = folder / "pictures"
    shown.mkdir(parents=True, exist_ok=True)
    for part, one in measured.items():
        if SECTIONS[part].picture:
            pictures.DRAW[part](shown / picture_name(part), one.result)
    page = folder / "benchmarks.md"
    page.write_text(text(measured), encoding="utf-8")
    return page


def picture_name(part: str) -> str:
    """The file of a part's picture."""
    return f"benchmarks-{part}.png"


def text(measured: Mapping[str, Measured]) -> str:
    """The page."""
    judgements = {part: judge(part, one.result) for part, one in measured.items()}
    lines = [
        "# Benchmarks",
        "",
        paragraph(_INTRODUCTION),
        "",
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


def on_what(measured: Mapping[str, Measured]) -> list[str]:
    """Machine, versions, and when each part was measured with which command; several where they differ."""
    lines: list[str] = []
    for title, facts in (
        ("machine", [one.machine for one in measured.values()]),
        ("version", [one.versions for one in measured.values()]),
    ):
        names = dict.fromkeys(name for fact in facts for name in fact)
        found = [(name, ", ".join(dict.fromkeys(fact[name] for fact in facts if name in fact))) for name in names]
        lines += table(("", title), found, words=2)
    commands = [(f"`{one.command}`", f"{one.ended} UTC", f"{one.took:.0f} s") for one in measured.values()]
    return [*lines, *table(("command", "ended", "took"), commands, words=2)]


def _section(part: str, one: Measured, judgements: list[Judgement]) -> list[str]:
    section = SECTIONS[part]
    lines = [f"## {section.title}", "", paragraph(section.text), "", *targets(judgements)]
    if section.picture:
        lines += [f"![{section.title}](pictures/{picture_name(part)})", ""]
    return [*lines, *section.tables(one.result)]
