"""`sumo/Signals-v0` by itself, as somebody in a notebook uses it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.backends import open_session
from envs.gym_env import SignalsEnv
from envs.scenarios import Scenario, find
from envs.signals import SignalControl
from envs.simulation import Simulation
from envs.trips import read_trips, trip_options


@contextmanager
def made(scenario: str, **settings: Any) -> Iterator[gymnasium.Env]:
    env = gymnasium.make("sumo/Signals-v0", scenario=scenario, **settings)
    try:
        yield env
    finally:
        env.close()


def played(env: gymnasium.Env, seed: int | None, steps: int) -> list[tuple[Any, ...]]:
    """What an episode's first steps give, with actions that depend on the step only."""
    observation, info = env.reset(seed=seed)
    seen: list[tuple[Any, ...]] = [(observation, info)]
    counts = env.action_space.nvec  # type: ignore[attr-defined]
    for step in range(steps):
        seen.append(env.step((np.arange(len(counts)) + step // 2) % counts))
    return seen


def same(first: object, second: object) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return np.array_equal(first, second)  # type: ignore[arg-type]


@pytest.mark.parametrize("scenario", ["single", "grid4x4", "resco:cologne1"])
def test_gymnasium_finds_nothing_to_complain_about(scenario: str, recwarn: pytest.WarningsRecorder) -> None:
    with made(scenario) as env:
        check_env(env.unwrapped, skip_render_check=True)
    complaints = [str(warning.message) for warning in recwarn]
    # Positions and waiting times are metres and seconds, without a bound.
    assert all("A Box observation space m" in complaint and "infinity" in complaint for complaint in complaints)


@pytest.mark.parametrize("backend", ["traci", "libsumo"])
def test_every_observation_is_in_its_space(backend: str) -> None:
    with made("single", backend=backend, episode_seconds=200) as env:
        for observation, *_ in played(env, 1, 20):
            assert env.observation_space.contains(observation)


def test_the_next_episode_uses_the_same_sumo(live_sumos: Callable[[], list[psutil.Process]]) -> None:
    with made("single", episode_seconds=100) as env:
        (sumo,) = live_sumos()
        for _ in range(3):
            env.reset()
            truncated = False
            while not truncated:
                _, _, terminated, truncated, info = env.step(env.action_space.sample())
                assert not terminated
            assert info["time"] == 100
            assert live_sumos() == [sumo]
    assert not sumo.is_running()
    env.close()


def test_seeds_decide_the_episodes_that_follow() -> None:
    with made("resco:cologne1") as env, made("resco:cologne1") as other:
        first, second = played(env, 3, 25), played(env, None, 25)
        assert same(first, played(env, 3, 25))
        assert same(first, played(other, 3, 25))
        assert same(second, played(other, None, 25))
        assert not same(first, second)
        assert not same(first, played(env, 4, 25))


def test_an_episode_ends_with_the_window_in_truncation(lone_vehicle: Scenario) -> None:
    with made(str(lone_vehicle.config), decision_interval=30) as env:
        steps = played(env, 1, 7)[1:]  # 200 s are no multiple of 30 s
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in steps] == [(False, False)] * 6 + [
        (False, True)
    ]
    assert [info["time"] for *_, info in steps] == [30, 60, 90, 120, 150, 180, 200]
    assert steps[-1][0]["time"] == pytest.approx([1.0])
    assert steps[-1][4]["throughput"] == 1


def test_info_tells_the_episode_in_numbers() -> None:
    with made("single") as env:
        *_, (observation, reward, _, _, info) = played(env, 1, 60)
        returns = sum(step[1] for step in played(env, 1, 60)[1:])
    names = {"delay", "queue", "waiting_time", "throughput", "teleports", "collisions", "cost", "running", "return"}
    assert names <= info.keys()
    assert reward == pytest.approx(info["rewards"].mean())
    assert info["cost"] == info["costs"].sum()
    assert info["return"] == pytest.approx(returns)  # one signal: its reward is the mean
    vehicles, phases = observation["vehicles"], observation["phases"]
    standing = vehicles[:, 2] < 0.1
    assert info["queue"] == standing.sum()
    assert info["waiting_time"] == pytest.approx(vehicles[standing, 6].mean())
    assert info["running"] == len(vehicles) > 10
    assert info["delay"] > 0
    assert phases[:, 0].sum() == 1
    assert (phases[:, 2] == info["action_mask"]).all()


def test_the_phases_count_the_vehicles_that_they_serve() -> None:
    with made("resco:cologne8") as env:
        network = env.unwrapped.network  # type: ignore[attr-defined]
        *_, (observation, *_) = played(env, 1, 30)
    lanes, standing = observation["vehicles"][:, 8], observation["vehicles"][:, 2] < 0.1
    served = [lanes_ for signal in network.signals for lanes_ in signal.served]
    assert observation["phases"][:, 3].tolist() == [np.isin(lanes, of).sum() for of in served]
    assert observation["phases"][:, 4].tolist() == [np.isin(lanes[standing], of).sum() for of in served]


def test_mistakes_say_what_would_be_right(live_sumos: Callable[[], list[psutil.Process]]) -> None:
    with pytest.raises(ValueError, match="render_mode 'human': this env renders nothing; leave it out"):
        SignalsEnv("single", render_mode="human")
    with pytest.raises(envs.ScenarioError, match=r"unknown scenario 'singel' .*did you mean single"):
        SignalsEnv("singel")
    with pytest.raises(ValueError, match="backend 'tracy': must be"):
        SignalsEnv("single", backend="tracy")
    with made("single") as env:
        env.reset(seed=1)
        with pytest.raises(ValueError, match=r"signal A0: phase 9, must be 0 to 3"):
            env.unwrapped.step(np.array([9]))
    assert live_sumos() == []


def test_the_delay_of_a_whole_episode_counts_those_under_way() -> None:
    """Against the trip records of an evaluation: same controller, same seed, and too little time for most to arrive."""
    scenario = find("single")
    simulation = Simulation(scenario, episode_seconds=200.0)
    try:
        for seed in (3, 7):  # nothing of the first episode may be left in the second
            simulation.reset(seed)
            truncated = False
            while not truncated:
                simulation.send([0])
                truncated = simulation.receive().truncated
            info = simulation.info()
    finally:
        simulation.close()
    with tempfile.TemporaryFile() as file:
        session = open_session(scenario, "traci", extra_options=trip_options(file))
        task = SignalControl(session.network, 3.0, 5.0, 120.0, max_hold=60.0)
        session.reset(seed=7)
        session.install(task.programs)
        session.send([], 200.0)
        session.receive()
        session.finish()
        session.close()
        trips = read_trips(file)
    assert 0 < trips.arrived.sum() < trips.departed.sum() - 20
    delay = (trips.time_loss + trips.depart_delay)[trips.departed].mean()
    assert info["delay"] == pytest.approx(delay, abs=0.05)
