"""The page that the harms become: docs/reliability.md and its pictures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos import pictures
from pages.kept import Measured
from pages.page import Page, on_what
from pages.tables import paragraph, table

_PAGE = Page("reliability")
_INTRODUCTION = """
`make chaos` does all this to real runs and writes this page; `python -m chaos report` writes it again from what was
seen. Each harm is a script of its own: `python -m chaos --parts NAME --seed N` repeats it, `--quick --out FOLDER` does
a little of it, as the tests do. The learner checks every fragment all the while (`buffers/continuity.py`); with
`--poison`, as in all these runs, slots are overwritten once they have been read and every fragment has a checksum: one
that was lost, doubled, torn or read too late would end the run with exit code 1.
"""
_CELL = 400  # characters
_FEW = 12  # numbers that are shown one by one


def write(folder: Path, seen: Mapping[str, Measured]) -> Path:
    """Write the page and its pictures into a folder; returns the page's path."""
    drawn = [part for part, one in seen.items() if pictures.can_draw(part, one.result["series"])]
    return _PAGE.write(
        folder, text(seen), drawn, lambda part, path: pictures.DRAW[part](path, seen[part].result["series"])
    )


def title(part: str) -> str:
    """A harm's heading."""
    return part.replace("_", " ").capitalize()


def text(seen: Mapping[str, Measured]) -> str:
    """The page."""
    checks = [check for one in seen.values() for check in one.result["checks"]]
    held = sum(check["holds"] for check in checks)
    lines = [
        *("# Reliability", "", paragraph(_INTRODUCTION), ""),
        *(f"{held} of {len(checks)} checks held.", ""),
        *table(("harm", "seen"), [_row(part, one) for part, one in seen.items()], words=2),
        *("## On what", "", *on_what(seen)),
    ]
    for part, one in seen.items():
        lines += _section(part, one)
    return "\n".join(lines).rstrip() + "\n"


def _row(part: str, one: Measured) -> tuple[str, str]:
    """A harm in one line, and what was seen, misses by name."""
    checks = one.result["checks"]
    missed = [check for check in checks if not check["holds"]]
    words = "; ".join(f"{_cell(check['what'])}: {_cell(check['seen'])}" for check in missed)
    seen = f"**{len(missed)} of {len(checks)} missed**: {words}" if missed else f"all {len(checks)} checks held"
    short = ", in its short form" if "--quick" in one.command else ""
    return f"[{title(part)}](#{title(part).lower().replace(' ', '-')}){short}: {_cell(one.result['harm'])}", seen


def _section(part: str, one: Measured) -> list[str]:
    settings = ", ".join(f"{name.replace('_', ' ')} {_words(value)}" for name, value in one.settings.items())
    lines = [
        *(f"## {title(part)}", "", paragraph(f"{one.result['harm']}."), ""),
        *(paragraph(f"Done to {one.result['about']}"), ""),
        *(paragraph(f"Settings: {settings}."), ""),
    ]
    lines += table(("must hold", "seen", ""), _checks(one.result["checks"]), words=3)
    if pictures.can_draw(part, one.result["series"]):
        lines += _PAGE.show(part, title(part))
    return [*lines, *_figures(one.result["figures"])]


def _checks(checks: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """A row for each check; those that say the same and all held share one, with what was seen last."""
    for what in dict.fromkeys(check["what"] for check in checks):
        found = [check for check in checks if check["what"] == what]
        if len(found) > 1 and all(check["holds"] for check in found):
            yield f"{_cell(what)} ({len(found)} times)", _cell(found[-1]["seen"]), "held"
            continue
        for check in found:
            yield _cell(what), _cell(check["seen"]), "held" if check["holds"] else "**missed**"


def _figures(figures: Mapping[str, Any]) -> list[str]:
    """Single values in one table, and a table for each list of records."""
    records = {name: value for name, value in figures.items() if _is_records(value)}
    single = [(_cell(name), _words(value)) for name, value in figures.items() if name not in records]
    lines = table(("figure", "value"), single, words=2) if single else []
    for name, rows in records.items():
        header = list(rows[0])
        cells = [[_words(row.get(column, "")) for column in header] for row in rows]
        lines += [f"{name.capitalize()}:", "", *table(header, cells, words=len(header))]
    return lines


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _words(value: Any) -> str:
    """A figure for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{_cell(key)} {_words(one)}" for key, one in value.items())
    if isinstance(value, list) and len(value) > _FEW and all(isinstance(one, int | float) for one in value):
        return f"{len(value)} values, median {statistics.median(value):g}, from {min(value):g} to {max(value):g}"
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else _cell(value)


def _cell(value: object) -> str:
    """A text that a table's cell can hold."""
    line = "".join(letter if letter.isprintable() else "�" for letter in " ".join(str(value).split()))
    line = line if len(line) <= _CELL else line[:_CELL] + " …"
    for mark in ("\\", "|", "<", "*", "[", "`"):
        line = line.replace(mark, f"\\{mark}")
    return line
