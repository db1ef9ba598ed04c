"""What a release needs, on repositories made for the purpose."""

from __future__ import annotations

import runpy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

missing: Callable[[Path], Iterator[str]] = runpy.run_path(str(Path(__file__).parents[1] / ".ci/release_check.py"))[
    "missing"
]


def git(root: Path, *words: str) -> None:
    """As somebody."""
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., list[str]]:
    """Makes a repository and says what it lacks."""

    def make(
        version: str = "0.2.0", heading: str = "0.2.0 (2026-11-27)", tags: Any = (), dirty: bool = False
    ) -> list[str]:
        (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
        (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n## {heading}\n\n- Something.\n\n## 0.1.0 (2026-01-01)\n")
        git(tmp_path, "init", "--quiet")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--quiet", "--message", "All")
        for tag in tags:
            git(tmp_path, "tag", tag)
        if dirty:
            (tmp_path / "new.py").touch()
        return list(missing(tmp_path))

    return make


def test_what_has_version_changes_and_no_tag_yet_may_be_released(release: Callable[..., list[str]]) -> None:
    assert release(tags=["v0.1.0", "v0.1.9", "vintage"]) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"version": "0.2"}, "must be three numbers"),
        (
            {"heading": "0.2.0 (unreleased)"},
            "the first heading must be '0.2.0 (YYYY-MM-DD)'; it is '0.2.0 (unreleased)'",
        ),
        ({"version": "0.3.0"}, "the first heading must be '0.3.0 (YYYY-MM-DD)'"),
        ({"dirty": True}, "not everything is committed: new.py"),
        ({"tags": ["v0.2.0"]}, "v0.2.0 was released before"),
        ({"tags": ["v0.10.0"]}, "must be above 0.10.0"),
    ],
)
def test_what_is_missing_is_one_line(release: Callable[..., list[str]], wrong: dict[str, Any], says: str) -> None:
    (line,) = release(**wrong)
    assert says in line
