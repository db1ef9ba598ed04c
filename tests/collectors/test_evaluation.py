"""Episodes measured by SUMO's own records, each in its own process, and nothing left of any of them."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from buffers.children import start_forkserver
from collectors import episodes, side_by_side
from collectors.episodes import Conditions, run_episode
from collectors.errors import EvaluationError
from collectors.evaluation import evaluate, record
from collectors.measures import Episode
from collectors.policies import Policy
from envs import simulation
from envs.controllers import CLASSICAL, FixedTime
from envs.errors import ScenarioError
from envs.recording import Lens
from envs.scenarios import find
from envs.session import Session
from envs.signals import Frame, SignalControl
from envs.simulation import Simulation
from graph.policy import SignalPolicy
from graph.shape import PolicyShape
from tests.support.leftovers import alive
from tests.support.plans import single
from tests.support.waiting import wait_for

SHORT = Conditions(episode_seconds=300.0)


def without_wall(episode: Episode) -> Episode:
    return replace(episode, wall=0.0)


def make_policy(name: str = "policy", **changes: Any) -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Policy.of(name, SignalPolicy(PolicyShape(hidden=16, history=2)), 50.0, **changes)


def own_processes() -> list[psutil.Process]:
    """Episodes and SUMOs that live below this process."""
    episodes = [p for p in multiprocessing.active_children() if p.name.startswith("episode-")]
    below = psutil.Process().children(recursive=True)
    ids = {process.pid for process in episodes}
    return [process for process in below if process.pid in ids or process.name() == "sumo"]


class Spy(FixedTime):
    """Leaves the signals alone and adds up what TraCI says of every vehicle, second by second."""

    def __init__(self) -> None:
        self.delay: dict[str, float] = {}
        self.waited: Counter[str] = Counter()  # s
        self.co2: Counter[str] = Counter()  # mg
        self.standing: list[int] = []

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        self._vehicles = session.client.vehicle

    def act(self, frame: Frame) -> None:
        names = self._vehicles.getIDList()
        stands = [name for name in names if self._vehicles.getSpeed(name) < 0.1]
        self.waited.update(stands)
        self.standing.append(len(stands))
        for name in names:
            self.delay[name] = self._vehicles.getTimeLoss(name) + self._vehicles.getDepartDelay(name)
            self.co2[name] += self._vehicles.getCO2Emission(name)


class Stubborn:
    """Never lets go of the first phase of any signal, and notes whether it could have chosen any other."""

    def __init__(self) -> None:
        self.free = True

    def begin(self, session: Session, task: SignalControl, seed: int) -> None:
        session.install(task.programs)
        self._keep = np.zeros(task.num_signals, np.int64)

    def act(self, frame: Frame) -> NDArray[np.int64]:
        self.free &= bool(frame.allowed.all())
        return self._keep


@pytest.mark.parametrize(("max_red", "free"), [(20.0, False), (1e9, True)])
def test_the_limit_on_red_reaches_the_controller(monkeypatch: pytest.MonkeyPatch, max_red: float, free: bool) -> None:
    stubborn = Stubborn()
    monkeypatch.setitem(CLASSICAL, "stubborn", lambda: stubborn)
    run_episode(*single(), "stubborn", 1, Conditions(max_red=max_red, episode_seconds=300.0))
    assert stubborn.free == free


def test_what_policies_may_not_choose_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Noted(SignalControl):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            known = inspect.signature(SignalControl).bind(*arguments, **named).arguments
            asked.append((known["yellow_time"], known["min_green"], known["max_red"], known["max_hold"]))

    for module in (simulation, episodes):
        monkeypatch.setattr(module, "SignalControl", Noted)
    limits: dict[str, Any] = {"yellow_time": 2.0, "min_green": 6.0, "max_red": 70.0, "max_hold": 30.0}
    run_episode(*single(), "fixed", 1, Conditions(**limits, episode_seconds=60.0))
    scenario, network = single()
    Simulation(scenario, network=network, **limits).close()
    assert asked == [tuple(limits.values())] * 2


def test_figures_are_what_the_vehicles_themselves_report(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    monkeypatch.setitem(CLASSICAL, "spy", lambda: spy)
    scenario, network = single()
    episode = run_episode(scenario, network, "spy", 1, Conditions(decision_interval=1.0, episode_seconds=600.0))
    assert episode.departed == pytest.approx(len(spy.delay), abs=2)  # those of the very last second
    assert episode.delay == pytest.approx(np.mean(list(spy.delay.values())), abs=0.5)
    assert episode.never_departed == 0
    assert episode.full_delay == episode.delay
    assert 0 < episode.waiting_time < episode.travel_time
    assert 0 < episode.arrived < episode.departed
    assert episode.throughput == episode.arrived * 6  # in ten minutes
    assert episode.queue == pytest.approx(np.mean(spy.standing), rel=0.03)
    assert episode.worst_waiting == pytest.approx(max(spy.waited.values()), abs=2)
    assert episode.co2 == pytest.approx(sum(spy.co2.values()) / 1000 / len(spy.co2), rel=0.03)
    assert 0.2 < episode.stops < 5
    assert not episode.gridlocked


def test_episodes_come_back_in_order_and_equal_those_run_here() -> None:
    scenario, network = single()
    heard: list[Episode] = []
    policy = make_policy(sampled=True)
    found = evaluate(scenario, network, ["max-pressure", policy], [3, 1], SHORT, processes=3, on_episode=heard.append)
    assert [(e.controller, e.seed) for e in found] == [
        ("max-pressure", 3),
        ("max-pressure", 1),
        ("policy", 3),
        ("policy", 1),
    ]
    assert sorted(heard, key=found.index) == found
    here = [run_episode(scenario, None, c, seed, SHORT) for c in ("max-pressure", policy) for seed in (3, 1)]
    assert list(map(without_wall, here)) == list(map(without_wall, found))
    assert found[0].delay != found[1].delay
    assert not own_processes()


def test_both_backends_measure_the_same() -> None:
    scenario, network = single()
    found = [
        evaluate(scenario, network, ["fixed", "actuated", "max-pressure"], [1], replace(SHORT, backend=backend))
        for backend in ("traci", "libsumo")
    ]
    assert list(map(without_wall, found[0])) == list(map(without_wall, found[1]))


def test_a_recording_shows_the_very_episode_that_is_measured() -> None:
    scenario, network = single()
    policy = make_policy()
    lens = Lens(0.0, 300.0, 1.0)
    episodes = evaluate(scenario, network, ["max-pressure", policy], [2], SHORT)
    recordings = record(scenario, network, ["max-pressure", policy], 2, lens, SHORT)
    assert [one.controller for one in recordings] == ["max-pressure", "policy"]
    for episode, recording in zip(episodes, recordings, strict=True):
        assert recording.times.tolist() == np.arange(301).tolist()
        assert len(recording.routes) == episode.departed
        stood = (recording.speed < 0.1).sum()  # seconds, over all vehicles
        assert stood / 300 == pytest.approx(episode.queue, abs=0.1)
    assert not np.array_equal(recordings[0].lights, recordings[1].lights)
    assert not own_processes()


def test_one_policy_acts_on_any_map_greedily_or_not() -> None:
    conditions = Conditions(episode_seconds=120.0)
    for name in ("single", "resco:cologne1", "resco:cologne3"):
        policies = [make_policy("greedy"), make_policy("sampled", sampled=True)]
        greedy, sampled = evaluate(find(name), None, policies, [1], conditions)
        assert greedy.departed > 0
        assert without_wall(greedy) != without_wall(replace(sampled, controller="greedy"))


def test_what_others_have_measured_on_cologne1_comes_out() -> None:
    """Fixed time 42.7 s and max-pressure 23.5 s, by RESCO's code under the same conditions."""
    found = evaluate(find("resco:cologne1"), None, ["fixed", "max-pressure"], [1, 2])
    assert np.mean([episode.delay for episode in found[:2]]) == pytest.approx(42.7, abs=3.0)
    assert np.mean([episode.delay for episode in found[2:]]) == pytest.approx(23.5, abs=2.5)
    assert all(episode.departed > 1900 for episode in found)


def test_what_fails_in_the_process_is_raised_with_its_own_traceback() -> None:
    scenario, network = single()
    broken = replace(make_policy("broken"), weights=np.zeros(3, np.float32))
    with pytest.raises(EvaluationError, match=r"(?s)broken on scenario single, seed 1 failed:.*3 weights were given"):
        evaluate(scenario, network, [broken], [1], SHORT)
    assert not own_processes()


def test_a_window_in_which_no_vehicle_enters_is_the_users_mistake() -> None:
    scenario, network = single()
    with pytest.raises(ScenarioError, match="no vehicle enters"):
        evaluate(scenario, network, ["fixed"], [1], Conditions(decision_interval=0.1, episode_seconds=0.1))


def test_an_episode_that_takes_too_long_is_named_and_ended() -> None:
    scenario, network = single()
    slow = Conditions(decision_interval=0.1)
    with pytest.raises(EvaluationError, match=r"fixed on scenario single, seed \d has not ended within 0.02 s"):
        evaluate(scenario, network, ["fixed"], [1, 2, 3], slow, processes=2, timeout=0.02)
    wait_for(lambda: not own_processes(), "the end of episodes and SUMOs")


def test_a_killed_episode_is_named_and_the_others_are_ended() -> None:
    scenario, network = single()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            evaluate(scenario, network, ["fixed"], [1, 2, 3], Conditions(decision_interval=0.1), processes=2)
        except EvaluationError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    victims = wait_for(lambda: [p.pid for p in own_processes() if p.name() != "sumo"], "an episode")
    os.kill(victims[0], signal.SIGKILL)
    thread.join(30.0)
    assert not thread.is_alive()
    assert "died with exit code -9" in str(raised[0])
    wait_for(lambda: not own_processes(), "the end of episodes and SUMOs")


def test_two_controllers_of_one_name_could_not_be_told_apart() -> None:
    scenario, network = single()
    with pytest.raises(ValueError, match="a name of its own"):
        evaluate(scenario, network, [make_policy(), make_policy()], [1])


def test_whatever_the_listener_raises_ends_all_episodes() -> None:
    def interrupt(_: Episode) -> None:
        raise KeyboardInterrupt

    scenario, network = single()
    with pytest.raises(KeyboardInterrupt):
        evaluate(scenario, network, ["fixed"], range(1, 6), SHORT, processes=2, on_episode=interrupt)
    wait_for(lambda: not own_processes(), "the end of episodes and SUMOs")


@dataclass(frozen=True)
class LongAnswer:
    """Work whose answer is longer than a pipe holds."""

    def __str__(self) -> str:
        return "a long answer"

    def run(self) -> bytes:
        return bytes(1 << 24)


@dataclass(frozen=True)
class Endless:
    """Work that is never done."""

    def run(self) -> None:
        threading.Event().wait()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (signal.SIGKILL, "a long answer: its process died with exit code -9"),
        (signal.SIGSTOP, "a long answer has stopped in the middle of its result"),
    ],
)
def test_one_that_is_killed_or_stopped_in_the_middle_of_its_answer_says_so_too(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, says: str
) -> None:
    def next_ended(running: Sequence[Any], ended: Callable[..., list[Any]] = side_by_side._next_ended) -> list[Any]:
        found = ended(running)
        for one in found:  # its answer has begun, and goes on as fast as it is read
            os.kill(one._process.pid, number)
            if number == signal.SIGKILL:
                one._process.join()
        return found

    monkeypatch.setattr(side_by_side, "_ANSWER_LIMIT", 0.5)
    monkeypatch.setattr(side_by_side, "_next_ended", next_ended)
    with pytest.raises(EvaluationError, match=f"^{says}"):
        side_by_side.run_all([LongAnswer()])


def test_a_process_that_jobs_are_forked_from_and_stands_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    os.kill(start_forkserver([]), signal.SIGSTOP)
    monkeypatch.setattr(side_by_side, "_START_LIMIT", 0.5)
    says = r"^a long answer could not be started: the process that it is forked from did not answer within 0.5 s"
    with pytest.raises(EvaluationError, match=says):
        side_by_side.run_all([LongAnswer()])


def test_nor_is_it_waited_for_when_a_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what tells of the end of a process."""

    def next_ended(running: Sequence[Any], ended: Callable[..., list[Any]] = side_by_side._next_ended) -> list[Any]:
        os.kill(start_forkserver([]), signal.SIGSTOP)
        return ended(running)

    monkeypatch.setattr(side_by_side, "_LAST_MOMENTS", 0.5)
    monkeypatch.setattr(side_by_side, "_next_ended", next_ended)
    assert side_by_side.run_all([LongAnswer()]) == [bytes(1 << 24)]
    assert multiprocessing.active_children() == []


def test_no_job_outlives_the_process_that_jobs_are_forked_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python's own processes take for ended when it has died, is not."""

    def next_ended(running: Sequence[Any]) -> list[Any]:
        if len(running) < 2:
            return []
        pids.extend(one._process.pid for one in running)
        server = start_forkserver([])
        os.kill(server, signal.SIGKILL)
        wait_for(lambda: not alive(server), "its end")
        raise KeyboardInterrupt

    pids: list[int] = []
    monkeypatch.setattr(side_by_side, "_next_ended", next_ended)
    with pytest.raises(KeyboardInterrupt):
        side_by_side.run_all([Endless(), Endless()], processes=2)
    assert not any(map(alive, pids))


def test_webster_counts_as_long_as_an_episode_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[float] = []

    def count(session: Session, end: float) -> dict[tuple[str, str], float]:
        counted.append(end)
        return {}

    monkeypatch.setattr("envs.controllers.webster._count", count)
    place = single()
    run_episode(*place, "webster", 1, Conditions(episode_seconds=300.0))
    assert counted == [place.scenario.begin + 300.0]
