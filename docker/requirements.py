"""Print what a pyproject.toml depends on, one requirement a line: the packages without the project itself."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

print(*tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"], sep="\n")
