"""Generated scenarios: the network, the demand over time and by seed, and that each is built only once."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from envs import demand, generate, grid, scenarios, sumo
from envs.errors import ScenarioError, SumoError
from envs.recipes import RECIPES

SIGNALS = {"grid4x4": 16, "single": 1, "arterial": 5}


class Run(NamedTuple):
    """An hour of plain SUMO under the fixed-time program; the lists are of the vehicles that arrived."""

    departures: list[float]  # s
    delays: list[float]  # s, timeLoss + departDelay
    loaded: int
    teleports: int


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def drive(config: Path, seed: int, folder: Path) -> Run:
    trips, statistics = folder / f"trips{seed}.xml", folder / f"statistics{seed}.xml"
    command = [str(sumo.binary("sumo")), "-c", str(config), "--seed", str(seed), "--no-step-log"]
    command += ["--tripinfo-output", str(trips), "--statistic-output", str(statistics)]
    subprocess.run(command, env=sumo.environment(), check=True, timeout=60)
    arrived = ET.parse(trips).getroot().findall("tripinfo")
    totals = ET.parse(statistics).getroot()
    return Run(
        departures=[float(trip.attrib["depart"]) for trip in arrived],
        delays=[float(trip.attrib["timeLoss"]) + float(trip.attrib["departDelay"]) for trip in arrived],
        loaded=int(totals.find("vehicles").attrib["loaded"]),  # type: ignore[union-attr]
        teleports=int(totals.find("teleports").attrib["total"]),  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_crossing_has_a_signal_with_four_green_phases(name: str, cache: Path) -> None:
    programs = ET.parse(generate.build(name, cache).with_name(f"{name}.net.xml")).getroot().findall("tlLogic")
    greens = [[phase for phase in program if "y" not in phase.attrib["state"]] for program in programs]
    assert [len(phases) for phases in greens] == [4] * SIGNALS[name]


@pytest.mark.parametrize("name", RECIPES)
def test_an_approach_is_one_edge_with_its_own_lane_for_left(name: str, cache: Path) -> None:
    network = ET.parse(generate.build(name, cache).with_name(f"{name}.net.xml")).getroot()
    turns = {
        (c.attrib["from"], c.attrib["fromLane"], c.attrib["dir"])
        for c in network.iter("connection")
        if "tl" in c.attrib
    }
    approaches = {edge for edge, _, _ in turns}
    assert len(approaches) == 4 * SIGNALS[name]
    assert turns == {(edge, *turn) for edge in approaches for turn in [("0", "r"), ("0", "s"), ("1", "l")]}


@pytest.mark.parametrize("name", RECIPES)
def test_fixed_time_carries_the_demand_with_delay_but_without_gridlock(name: str, cache: Path, tmp_path: Path) -> None:
    run = drive(generate.build(name, cache), 1, tmp_path)
    assert run.teleports == 0
    assert len(run.delays) > 0.93 * run.loaded  # the rest is still under way when the window ends
    assert 25 < sum(run.delays) / len(run.delays) < 120


def test_the_seed_decides_the_traffic(cache: Path, tmp_path: Path) -> None:
    config = generate.build("single", cache)
    first = drive(config, 1, tmp_path)
    assert drive(config, 1, tmp_path) == first
    assert drive(config, 2, tmp_path).departures != first.departures


def test_the_rush_hour_shows_in_the_departures(cache: Path, tmp_path: Path) -> None:
    departures = drive(generate.build("grid4x4", cache), 3, tmp_path).departures
    per_ten_minutes = Counter(int(time // 600) for time in departures)
    assert (
        max(per_ten_minutes, key=lambda part: per_ten_minutes[part]) == 2
    )  # 1200 to 1800 s, around the peak at 1500 s
    assert per_ten_minutes[2] > 1.5 * max(per_ten_minutes[0], per_ten_minutes[5])


@pytest.mark.parametrize("name", RECIPES)
def test_the_routes_of_a_road_have_shares_that_add_up_and_never_repeat_a_place(name: str) -> None:
    recipe = RECIPES[name]
    for side in recipe.inflow:
        for index in range(recipe.rows if side in ("left", "right") else recipe.columns):
            routes = list(demand.routes(recipe, side, index))
            assert sum(share for _, share in routes) == pytest.approx(1)
            assert len({tuple(edges) for edges, _ in routes}) == len(routes)
            assert all(len(set(edges)) == len(edges) for edges, _ in routes)


def test_routes_on_a_grid_by_hand() -> None:
    recipe = replace(RECIPES["grid4x4"], columns=2, rows=2, through=0.6)
    routes = {" ".join(edges): share for edges, share in demand.routes(recipe, "left", 0)}
    assert routes == {
        "left0A0 A0B0 B0right0": pytest.approx(0.6 * 3 / 4),
        "left0A0 A0A1 A1B1 B1right1": pytest.approx(0.6 / 4 / 2),
        "left0A0 A0B0 B0B1 B1right1": pytest.approx(0.6 / 4 / 2),
        "left0A0 A0bottom0": pytest.approx(0.1),
        "left0A0 A0B0 B0bottom1": pytest.approx(0.1),
        "left0A0 A0A1 A1top0": pytest.approx(0.1),
        "left0A0 A0B0 B0B1 B1top1": pytest.approx(0.1),
    }


def test_the_same_recipe_gives_the_same_network(tmp_path: Path) -> None:
    def network(cache: Path) -> str:
        text = generate.build("arterial", cache).with_name("arterial.net.xml").read_text()
        return ET.canonicalize(text)  # without the comment, which holds the date

    assert network(tmp_path / "a") == network(tmp_path / "b")


def test_another_recipe_is_another_folder() -> None:
    recipe = RECIPES["single"]
    recipes = [recipe, replace(recipe, cycle=60), replace(recipe, through=0.5), replace(recipe, block=200)]
    assert len({generate.fingerprint("single", recipe) for recipe in recipes}) == 4


def test_a_scenario_is_built_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = generate.build("single", cache)
    monkeypatch.setattr(generate, "_network", None)  # calling it again would fail
    assert generate.build("single", cache) == config


def _build_at_once(cache: Path, barrier: threading.Barrier) -> None:
    """Build, and meet the other process between the finished draft and its rename."""
    put_into_place = generate._put_into_place

    def together(draft: Path, folder: Path) -> None:
        barrier.wait(timeout=30)
        put_into_place(draft, folder)

    generate._put_into_place = together
    scenarios.find("single", cache)


def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    builders = [context.Process(target=_build_at_once, args=(tmp_path, barrier)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(timeout=60)
    assert [builder.exitcode for builder in builders] == [0, 0]
    assert [folder.name for folder in tmp_path.iterdir()] == [generate.build("single", tmp_path).parent.name]


def test_leftovers_of_a_killed_build_are_swept_once_they_are_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".draft-old", tmp_path / ".draft-young"
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (0, 0))
    generate.build("single", tmp_path)
    assert not old.exists()
    assert young.exists()


def test_a_failing_netconvert_is_quoted_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = '<connections><connection from="A0" to="Z9"/></connections>'
    monkeypatch.setattr(grid, "connections", lambda _: nowhere)
    with pytest.raises(SumoError, match=r"^netconvert ended with code 1: .*A0.*Quitting \(on error\)\.$"):
        generate.build("single", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_netconvert_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "netconvert"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sumo, "binary", lambda _: program)
    monkeypatch.setattr(generate, "BUILD_LIMIT", 0.1)
    with pytest.raises(SumoError, match="did not finish within"):
        generate.build("single", tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ScenarioError, match=r"cannot be built in .*/file .*: set XDG_CACHE_HOME to a writable folder$"):
        generate.build("single", tmp_path / "file")


def test_the_default_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert generate.cache_folder() == tmp_path / "platoon" / "scenarios"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert generate.cache_folder() == tmp_path / ".cache" / "platoon" / "scenarios"
