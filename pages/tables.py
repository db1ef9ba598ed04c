"""Tables in Markdown, and figures in them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pages.judgement import Judgement

NOTHING = "–"
_WIDTH = 120  # of the page's source


def paragraph(text: str) -> str:
    """A text, of one or more paragraphs, broken into lines."""
    parts = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(
        textwrap.fill(" ".join(part.split()), _WIDTH, break_long_words=False, break_on_hyphens=False) for part in parts
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """The lines of a table: the first ``words`` columns to the left, all others to the right."""
    marks = ["---"] * words + ["---:"] * (len(header) - words)
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)] + [""]


def targets(judgements: Sequence[Judgement]) -> list[str]:
    """What was aimed at, what was measured, and the verdict."""
    rows = [(j.about, j.goal_text, j.value_text, _verdict(j)) for j in judgements]
    return table(("target", "aimed at", "measured", ""), rows) if rows else []


def _verdict(judgement: Judgement) -> str:
    return f"**{judgement.verdict}**" if judgement.met is False else judgement.verdict


def spread(figure: dict[str, float] | None, show: Callable[[float], str]) -> str:
    """The median, and from where to where the values went; a dash where there are none."""
    if figure is None:
        return NOTHING
    median = show(figure["median"])
    return median if figure["n"] == 1 else f"{median} ({show(figure['low'])} – {show(figure['high'])})"


def optional(value: Any, show: Callable[[float], str]) -> str:
    """A value, or a dash where it is missing."""
    return NOTHING if value is None else show(float(value))


def whole(value: float) -> str:
    """Rounded, with separators."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Two digits behind the point below 10, one above."""
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def tiny(value: float) -> str:
    """Seconds as ms, three digits."""
    return f"{value * 1e3:.3g}" if value < 1.0 else f"{value * 1e3:,.0f}"
