"""Do the version, CHANGELOG.md and the tags allow a release? Says what is wrong, a line each."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)


def missing(root: Path) -> Iterator[str]:
    """What keeps the repository at ``root`` from being released."""
    version = version_of(root)
    if _VERSION.fullmatch(version) is None:
        yield f"pyproject.toml: version {version!r} must be three numbers, as in 1.2.3"
        return
    heading = _HEADING.search((root / "CHANGELOG.md").read_text())
    if heading is None or re.fullmatch(re.escape(version) + r" \(\d{4}-\d\d-\d\d\)", heading[1]) is None:
        found = heading[1] if heading else "none"
        yield f"CHANGELOG.md: the first heading must be '{version} (YYYY-MM-DD)'; it is '{found}'"
    if changes := _git(root, "status", "--porcelain"):
        yield f"not everything is committed: {', '.join(line[3:] for line in changes.splitlines())}"
    tags = _git(root, "tag", "--list", "v*").split()
    if f"v{version}" in tags:
        yield f"v{version} was released before: raise the version in pyproject.toml"
    released = [_numbers(tag) for tag in tags if _VERSION.fullmatch(tag[1:])]
    if released and max(released) > _numbers(f"v{version}"):
        yield f"pyproject.toml: version {version} must be above {'.'.join(map(str, max(released)))}, the newest tag"


def version_of(root: Path) -> str:
    """The version that pyproject.toml gives."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def _numbers(tag: str) -> tuple[int, ...]:
    return tuple(int(number) for number in tag[1:].split("."))


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Exit code 0: they do."""
    lines = list(missing(Path.cwd()))
    for line in lines:
        print(f"release-check: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
