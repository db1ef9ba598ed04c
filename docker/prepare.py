"""Do once what every start would do: compile loops, build the scenarios that come with the project, look for fonts."""

from __future__ import annotations

import matplotlib.font_manager

from collectors.warm import warm_up
from envs.generate import build
from envs.recipes import RECIPES

warm_up()
for name in RECIPES:
    build(name)
assert matplotlib.font_manager.fontManager.ttflist
