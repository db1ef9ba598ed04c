"""The rooms of the design, held against the imports of every module, those inside functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("buffers", "collectors", "dashboard", "envs", "graph", "learner", "machine", "report")
AROUND = ("pages", "benchmarks", "chaos", "results")
TOPS = ("arguments", "closing", "config", "evaluate", "operations", "train_rl")

MAY_KNOW = {
    "buffers": set(),
    "envs": set(),
    "dashboard": set(),
    "machine": set(),
    "graph": {"buffers", "envs"},
    "collectors": {"buffers", "envs", "graph", "machine"},
    "learner": {"buffers", "graph"},
    "report": {"envs"},
    "pages": {"machine"},
    "benchmarks": {*ROOMS, "pages"},
    "chaos": {*ROOMS, "pages"},
    "results": {*ROOMS, "pages", "benchmarks"},
    "arguments": {"collectors", "envs", "report"},
    "closing": {"buffers", "collectors", "learner", "report"},
    "config": set(),
}
# Frame-to-graph code runs wherever there is numpy, and collectors start in a second.
WITHOUT_TORCH = (
    "buffers",
    "collectors",
    "dashboard",
    "envs",
    "machine",
    "report",
    "graph.acting",
    "graph.build",
    "graph.graphs",
    "graph.history",
    "graph.inference",
    "graph.ragged",
    "graph.schema",
    "graph.shape",
    "graph.topology",
)
# What a graph may know of envs: the words that frames are written in, nothing that runs a simulation.
WORDS_OF_A_FRAME = {"envs.compiled", "envs.network", "envs.session", "envs.signals"}
# And a report: the words that recordings are written in.
WORDS_OF_A_RECORDING = {"envs.network", "envs.recording"}
# SUMO needs an environment of its own, and a cache folder is named by one; all else comes from settings.
READ_THE_ENVIRONMENT = {"envs.sumo", "envs.libsumo_session", "envs.generate"}


def path_of(module: str) -> Path | None:
    """The file of one of our modules."""
    base = ROOT / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def modules() -> list[str]:
    """Every module of the rooms and beside them."""
    return modules_in(ROOMS) + [name for name in TOPS if path_of(name)]


def modules_in(rooms: Iterable[str]) -> list[str]:
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]
    return [name.removesuffix(".__init__") for name in names]


@cache
def tree(module: str) -> ast.Module:
    path = path_of(module)
    assert path is not None
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(module: str) -> frozenset[str]:
    """Modules that it imports anywhere; of ``from package import name``, ``package.name`` where that is a module."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if room(node.module) in (*ROOMS, *AROUND) and path_of(name)}
            found |= {node.module} if any(not path_of(name) for name in inner) else set()
    return frozenset(found)


def at_load(module: str) -> Iterator[str]:
    """Our own modules that it imports when it is loaded, those for type checkers left out."""
    for node in tree(module).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if path_of(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module is not None and path_of(node.module):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if path_of(inner) else node.module


def room(module: str) -> str:
    return module.split(".")[0]


def inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


def test_there_is_something_to_look_at() -> None:
    assert {room(module) for module in modules()} >= {*ROOMS, "config", "train_rl"}
    assert "graph.build" in imports("graph.dataset"), "the reader of imports is blind"
    assert "buffers.slots" in imports("collectors.collector")


@pytest.mark.parametrize("name", MAY_KNOW)
def test_a_room_knows_only_the_rooms_below(name: str) -> None:
    below = MAY_KNOW[name] | {name}
    wrong = {
        module: sorted(other)
        for module in ([name] if name in TOPS else modules_in([name]))
        if (other := {m for m in imports(module) if room(m) in {*ROOMS, *AROUND} - below})
    }
    assert not wrong


def test_what_is_around_is_known_by_nothing_that_people_run() -> None:
    assert "results.targets" in imports("results.report"), "the reader of imports is blind"
    assert not {module for module in TOPS if path_of(module) and {room(m) for m in imports(module)} & set(AROUND)}


def test_nobody_imports_the_settings_or_the_programs() -> None:
    wrong = {
        module: sorted(found)
        for module in modules()
        if room(module) in ROOMS and (found := {m for m in imports(module) if room(m) in TOPS})
    }
    assert not wrong
    programs = {"train_rl", "evaluate"}
    own = {"closing", "operations"}  # of train_rl.py
    assert not {module for module in TOPS if module != "train_rl" and own & imports(module)}
    assert not {module for module in ("config", *programs) if path_of(module) and imports(module) & programs - {module}}


@pytest.mark.parametrize("module", [module for module in modules() if inside(module, WITHOUT_TORCH)])
def test_torch_stays_out(module: str) -> None:
    assert not {name for name in imports(module) if room(name) in ("torch", "torch_geometric")}


@pytest.mark.parametrize("module", [module for module in modules() if room(module) == "graph"])
def test_graphs_know_the_words_of_a_frame_and_no_simulation(module: str) -> None:
    assert {name for name in imports(module) if room(name) == "envs"} <= WORDS_OF_A_FRAME


@pytest.mark.parametrize("module", [module for module in modules() if room(module) == "report"])
def test_reports_know_the_words_of_a_recording_and_no_simulation(module: str) -> None:
    assert {name for name in imports(module) if room(name) == "envs"} <= WORDS_OF_A_RECORDING


def test_no_module_needs_itself_to_be_loaded() -> None:
    graph = {module: set(at_load(module)) - {module} for module in modules()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")
    assert order.index("buffers.slots") < order.index("collectors.collector")


def test_the_environment_is_read_at_the_top_and_where_sumo_needs_it() -> None:
    readers = {
        module
        for module in modules()
        for node in ast.walk(tree(module))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    }
    assert readers - set(TOPS) <= READ_THE_ENVIRONMENT
