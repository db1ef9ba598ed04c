"""What is to be installed, from pyproject.toml and constraints.txt beside this file: packages.txt and versions.txt.

The packages are what the project depends on, without the project itself; the versions are those of constraints.txt,
without those of the tools that only developers need.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def name_of(requirement: str) -> str:
    """The package that a requirement is for, as all spell it alike."""
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0].lower().replace("_", "-")


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    tools = {name_of(tool) for tool in project["optional-dependencies"]["dev"]}
    versions = [line for line in Path("constraints.txt").read_text().splitlines() if name_of(line) not in tools]
    Path("packages.txt").write_text("\n".join(project["dependencies"]))
    Path("versions.txt").write_text("\n".join(versions))
