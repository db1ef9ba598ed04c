"""The command line that measurements share."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pages import kept
from pages.command import Command, measure
from pages.kept import Measured


@dataclass(frozen=True)
class Settings:
    answer: int = 42


def do(part: str, folder: Path, given: argparse.Namespace) -> bool:
    def how(settings: Settings) -> dict[str, int]:
        if part == "broken":
            raise RuntimeError("of no use")
        return {"answer": settings.answer}

    return measure(folder, part, how, Settings(), f"do {part}")


def write(page: Path, found: Mapping[str, Measured]) -> Path:
    (page / "page.md").write_text(", ".join(f"{part}: {one.result['answer']}" for part, one in found.items()))
    return page / "page.md"


command = Command("things", "Does things.", ("one", "broken", "two"), do, write)


def test_all_parts_are_done_even_when_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["--out", str(tmp_path)]) == 1
    assert (tmp_path / "page.md").read_text() == "one: 42, two: 42"
    said = capsys.readouterr().err
    assert "RuntimeError: of no use" in said
    assert "did not go well, see above: broken" in said


def test_a_report_does_nothing_anew(tmp_path: Path) -> None:
    assert command.run(["report", "--out", str(tmp_path)]) == 1, "nothing is kept"
    assert command.run(["--parts", "two", "--out", str(tmp_path)]) == 0
    before = (tmp_path / "measured" / "things" / "two.json").read_bytes()
    assert command.run(["report", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "measured" / "things" / "two.json").read_bytes() == before


def test_a_part_that_fails_does_not_leave_its_old_result(tmp_path: Path) -> None:
    assert command.run(["--parts", "one", "--out", str(tmp_path)]) == 0
    folder = tmp_path / "measured" / "things"
    (folder / "one.json").rename(folder / "broken.json")
    assert command.run(["--parts", "broken", "--out", str(tmp_path)]) == 1
    assert not (folder / "broken.json").exists()


def test_a_part_that_is_broken_off_leaves_what_was_found_before(tmp_path: Path) -> None:
    def interrupt(settings: Settings) -> dict[str, int]:
        raise KeyboardInterrupt

    assert measure(tmp_path, "one", lambda settings: {"answer": 1}, Settings(), "do one")
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, "one", interrupt, Settings(), "do one")
    assert kept.read(tmp_path, ["one"])["one"].result == {"answer": 1}


def test_a_version_that_changes_meanwhile_is_named_as_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = iter(["abc", "abd"])
    monkeypatch.setattr(kept, "versions", lambda: {"platoon": next(commits), "python": "3.11"})
    measure(tmp_path, "one", lambda settings: {"answer": 1}, Settings(), "do one")
    assert kept.read(tmp_path, ["one"])["one"].versions == {"platoon": "abc to abd", "python": "3.11"}


def test_quick_figures_never_take_the_place_of_real_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.run(["--quick"])
    assert caught.value.code == 2
    assert "--quick: needs --out" in capsys.readouterr().err


def test_whoever_calls_it_keeps_their_way_of_ending(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    command.run(["report", "--out", str(tmp_path)])
    assert signal.getsignal(signal.SIGTERM) is before
