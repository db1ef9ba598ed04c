"""What the pages of benchmarks, chaos and results have in common: their files, and what was measured on what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pages.kept import Measured
from pages.tables import paragraph, table

_QUICK = "**Tiny sizes, on the smallest scenario, to see that it works (`--quick`): its figures mean nothing.**"


@dataclass(frozen=True)
class Page:
    """``name``.md in a folder, and its pictures beside it."""

    name: str

    def write(self, folder: Path, text: str, drawn: Iterable[str], draw: Callable[[str, Path], object]) -> Path:
        """Write it, and let ``draw`` draw the picture of each part in ``drawn``; returns the page's path."""
        shown = folder / "pictures"
        shown.mkdir(parents=True, exist_ok=True)
        for part in drawn:
            draw(part, shown / self._picture(part))
        page = folder / f"{self.name}.md"
        page.write_text(text, encoding="utf-8")
        return page

    def show(self, part: str, title: str) -> list[str]:
        """The lines that show a part's picture."""
        return [f"![{title}](pictures/{self._picture(part)})", ""]

    def _picture(self, part: str) -> str:
        return f"{self.name}-{part}.png"


def introduction(title: str, text: str, measured: Mapping[str, Measured]) -> list[str]:
    """The first lines; a page of tiny sizes says that it is none of figures."""
    quick = any("--quick" in one.command for one in measured.values())
    return [f"# {title}", "", *([_QUICK, ""] if quick else []), paragraph(text), ""]


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
    commands = [
        (f"`{one.command}`", one.versions["platoon"], f"{one.ended} UTC", f"{one.took:.0f} s")
        for one in measured.values()
    ]
    return [*lines, *table(("command", "platoon", "ended", "took"), commands, words=3)]
