"""Demand that varies from episode to episode: how much of it, and when, against what SUMO says of every departure."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from envs.scenarios import Scenario, find
from envs.simulation import Simulation
from envs.variation import AS_IT_IS, Variation

VEHICLES = 40
PLANNED = [5 + 4 * number for number in range(VEHICLES)]  # s at which they depart
BACKENDS = ("traci", "libsumo")

# Runs an episode per seed on one live simulation and prints who departed when, as the simulation says it at every step.
DRIVE = """
import json, sys
from envs.backends import open_session
from envs.scenarios import find
from envs.variation import Variation

name, backend, scale, jitter, *seeds = sys.argv[1:]
session = open_session(find(name), backend, variation=Variation.of(scale, float(jitter)))
episodes = []
for seed in seeds:
    session.reset(int(seed))
    departed = {}
    for second in range(1, 301):
        session.send([], second)
        session.receive()
        departed |= dict.fromkeys(session.client.simulation.getDepartedIDList(), second)
    episodes.append(departed)
session.close()
print(json.dumps(episodes))
"""


@pytest.fixture
def timetable(tmp_path: Path) -> Scenario:
    """The network of `single`, with vehicles at fixed times: no seed changes them."""
    return written(tmp_path)


def written(folder: Path, options: str = "") -> Scenario:
    network = find("single").config.with_name("single.net.xml")
    trips = "".join(f'<trip id="{n}" depart="{at}" from="left0A0" to="A0right0"/>' for n, at in enumerate(PLANNED))
    (folder / "table.rou.xml").write_text(f"<routes>{trips}</routes>")
    config = folder / "table.sumocfg"
    config.write_text(
        f'<configuration><net-file value="{network}"/><route-files value="table.rou.xml"/>'
        f'<begin value="0"/><end value="300"/>{options}</configuration>'
    )
    return find(str(config))


def departures(
    scenario: Scenario, backend: str, scale: str = "1", jitter: float = 0.0, seeds: Sequence[int] = (1,)
) -> list[dict[str, int]]:
    """Per seed, the second at which each vehicle departed."""
    command = [sys.executable, "-c", DRIVE, str(scenario.config), backend, scale, str(jitter), *map(str, seeds)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    episodes: list[dict[str, int]] = json.loads(run.stdout)
    return episodes


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_timetable_is_kept_whatever_the_seed(timetable: Scenario, backend: str) -> None:
    one, other = departures(timetable, backend, seeds=(1, 2))
    assert one == other == {str(number): at + 1 for number, at in enumerate(PLANNED)}  # in the step from ``at`` on


@pytest.mark.parametrize("backend", BACKENDS)
def test_with_jitter_seeds_change_departures_and_the_same_seed_does_not(timetable: Scenario, backend: str) -> None:
    one, other, again = departures(timetable, backend, jitter=30.0, seeds=(1, 2, 1))
    assert one == again
    assert len(one) == len(other) == VEHICLES
    assert sum(one[name] != other[name] for name in one) > VEHICLES / 2
    late = [one[str(number)] - at - 1 for number, at in enumerate(PLANNED)]
    assert 0 <= min(late) < 6
    assert 24 < max(late) <= 30 + 6, "no room on the road for a few seconds, perhaps"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", ["0.25", "1.5", "2"])
def test_as_many_vehicles_depart_as_the_scale_says(timetable: Scenario, backend: str, scale: str) -> None:
    (found,) = departures(timetable, backend, scale)
    assert len(found) == pytest.approx(float(scale) * VEHICLES, abs=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_a_range_each_seed_has_its_own_factor(timetable: Scenario, backend: str) -> None:
    seeds = (1, 2, 3, 1)
    episodes = departures(timetable, backend, "0.5:1.5", seeds=seeds)
    factors = [Variation(0.5, 1.5).scale(seed) for seed in seeds]
    assert [len(found) for found in episodes] == pytest.approx([factor * VEHICLES for factor in factors], abs=1)
    assert len({len(found) for found in episodes}) == 3
    assert episodes[0] == episodes[3]


def test_the_scale_and_the_jitter_of_a_configuration_count_in(tmp_path: Path) -> None:
    scenario = written(tmp_path, '<scale value="0.5"/><random-depart-offset value="0:00:20"/>')
    assert (scenario.scale, scenario.departure_jitter) == (0.5, 20.0)
    (as_it_is,) = departures(scenario, "traci")
    (doubled,) = departures(scenario, "traci", "2", jitter=5.0)
    assert (len(as_it_is), len(doubled)) == (VEHICLES / 2, VEHICLES)
    late = [doubled[str(number)] - at - 1 for number, at in enumerate(PLANNED)]
    assert max(late) > 10, "the narrower range has replaced the wider one"


def test_the_scenario_as_it_is_needs_no_options(timetable: Scenario) -> None:
    assert AS_IT_IS.options(timetable, 1) == Variation.of("1", 0.0).options(timetable, 1) == []


def test_a_factor_is_drawn_from_the_seed_evenly() -> None:
    variation = Variation.of("0.8:1.2", 0.0)
    drawn = [variation.scale(seed) for seed in range(2000)]
    assert min(drawn) == pytest.approx(0.8, abs=0.002)
    assert max(drawn) == pytest.approx(1.2, abs=0.002)
    assert sum(drawn) / len(drawn) == pytest.approx(1.0, abs=0.01)
    assert drawn == [variation.scale(seed) for seed in range(2000)]


@pytest.mark.parametrize(
    ("scale", "jitter", "says"),
    [
        ("much", 0.0, "demand_scale 'much': must be a factor, as 1.2, or a range, as 0.8:1.2"),
        ("0.8:", 0.0, "demand_scale '0.8:': must be a factor"),
        ("1:2:3", 0.0, "demand_scale '1:2:3': must be a factor"),
        (0.0, 0.0, "demand_scale 0:0: must be above 0"),
        ("1.2:0.8", 0.0, "demand_scale 1.2:0.8: must be above 0, the smaller one first"),
        ("nan", 0.0, "demand_scale nan:nan: must be above 0"),
        (1.0, -1.0, "departure_jitter -1: must be 0 s or more"),
        (1.0, math.inf, "departure_jitter inf: must be 0 s or more"),
    ],
)
def test_what_cannot_be_is_named(timetable: Scenario, scale: float | str, jitter: float, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        Simulation(timetable, demand_scale=scale, departure_jitter=jitter)
