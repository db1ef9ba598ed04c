"""libsumo gives what TraCI gives, to the bit; each libsumo simulation has a process of its own, as in a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envs.scenarios import Scenario

# Drives an episode, then another one, and prints everything that an agent would see as one digest per decision.
DRIVE = """
import hashlib, sys
import numpy as np
from envs.scenarios import find
from envs.simulation import Simulation

name, backend, decisions = sys.argv[1], sys.argv[2], int(sys.argv[3])
simulation = Simulation(find(name), backend)
counts = [len(signal.greens) for signal in simulation.network.signals]
for seed in (1, 2):
    random = np.random.default_rng(seed)
    frame = simulation.reset(seed)
    rewards = costs = np.zeros(0, np.float32)
    for _ in range(decisions):
        arrays = (frame.vehicles, frame.lanes, frame.shown, frame.elapsed, frame.allowed, rewards, costs)
        content = b"".join(array.tobytes() for array in arrays) + repr(simulation.info()).encode()
        print(len(frame.lanes), hashlib.sha256(content).hexdigest())
        simulation.send(random.integers(counts))
        outcome = simulation.receive()
        frame, rewards, costs = outcome.frame, outcome.rewards, outcome.costs
simulation.close()
"""


def driven(name: str, backend: str, decisions: int) -> list[str]:
    command = [sys.executable, "-c", DRIVE, name, backend, str(decisions)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("name", ["single", "resco:cologne1", "resco:cologne8"])
def test_both_backends_give_the_same_frames_to_the_bit(name: str) -> None:
    frames = driven(name, "traci", 40)
    assert driven(name, "libsumo", 40) == frames
    assert len(set(frames)) == 80 - 1  # the two episodes begin alike, with nobody on the road
    assert max(int(frame.split()[0]) for frame in frames) > 10


def test_both_backends_agree_on_an_empty_network(lone_vehicle: Scenario) -> None:
    name = str(lone_vehicle.config)
    frames = driven(name, "traci", 20)
    assert driven(name, "libsumo", 20) == frames
    vehicles = [int(frame.split()[0]) for frame in frames]
    for episode in (vehicles[:20], vehicles[20:]):
        assert (episode[0], max(episode), episode[-1]) == (0, 1, 0)  # empty again, after a vehicle


def refused(code: str) -> str:
    """What the code prints, run in a process of its own."""
    begin = (
        "from pathlib import Path; from envs.errors import SumoError; from envs.scenarios import Scenario, find;"
        " from envs.backends import open_session; from envs.session import PhaseCommand\n"
    )
    run = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_second_simulation_in_one_process_is_refused_and_a_later_one_is_not() -> None:
    said = refused("""
first = open_session(find("single"), "libsumo")
try:
    open_session(find("single"), "libsumo")
except SumoError as error:
    print(error)
first.close()
first.close()
open_session(find("single"), "libsumo").close()
print("again")
""")
    assert said == ("libsumo holds one simulation per process and this process has one: use --backend traci\nagain\n")


def test_what_sumo_refuses_is_quoted_with_the_scenario(lone_vehicle: Scenario) -> None:
    (lone_vehicle.config.parent / "lone.rou.xml").write_text(
        '<routes><trip id="a" depart="5" from="x" to="y"/></routes>'
    )
    said = refused(f"""
scenario = Scenario("broken", Path({str(lone_vehicle.config)!r}), 0, 100)
try:
    open_session(scenario, "libsumo")
except SumoError as error:
    print(error)
session = open_session(find("single"), "libsumo")
try:
    session.send([PhaseCommand("nowhere", 0)], 10)
except SumoError as error:
    print(error)
session.close()
""")
    broken, unknown = said.splitlines()
    assert "in scenario broken" in broken
    assert "The edge 'x' within the route for trip 'a' is not known" in broken
    assert "'nowhere' is not known" in unknown
    assert "in scenario single" in unknown


def test_libsumo_writes_nothing_beside_the_scenario(lone_vehicle: Scenario) -> None:
    folder = lone_vehicle.config.parent
    before = sorted(Path(folder).iterdir())
    driven(str(lone_vehicle.config), "libsumo", 3)
    assert sorted(Path(folder).iterdir()) == before
