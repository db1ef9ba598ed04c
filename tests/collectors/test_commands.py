"""Commands on a real pool, for one rank and for several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collectors.commands import AllRanks, commands_of
from collectors.control import Command, ControlServer
from collectors.errors import ControlError
from collectors.serial import SerialPool
from collectors.wire import socket_name


@pytest.fixture
def stops() -> list[str]:
    return []


@pytest.fixture
def commands(pool: SerialPool, stops: list[str]) -> dict[str, Command]:
    health = {"healthy": True, "state": "learning", "seconds_since_progress": 0.5}
    return commands_of(pool, 1, lambda: {"delay": 3.5, "lag": None}, lambda: health, lambda: stops.append("stop"))


def test_each_command_does_what_it_says_and_answers_with_the_status(
    commands: dict[str, Command], stops: list[str]
) -> None:
    status = commands["status"]({})
    assert (status["rank"], status["state"], status["num_envs"], status["max_envs"]) == (1, "running", 2, 4)
    assert status["figures"] == {"delay": 3.5, "lag": None}
    assert commands["pause"]({"collectors": [0], "seconds": 100})["state"] == "paused"
    assert commands["resume"]({"collectors": None})["state"] == "running"
    scaled = commands["scale"]({"num_envs": 3})
    assert scaled["num_envs"] == 3
    assert len(scaled["collectors"][0]["sumo"]) == 3
    assert len(commands["scale"]({"num_envs": 1})["collectors"][0]["sumo"]) == 1
    assert commands["health"]({}) == {"rank": 1, "healthy": True, "state": "learning", "seconds_since_progress": 0.5}
    assert stops == []
    commands["stop"]({})
    assert stops == ["stop"]


@pytest.mark.parametrize(
    ("name", "message", "says"),
    [
        ("pause", {"collectors": [1]}, "collector 1: this run has collectors 0 to 0"),
        ("pause", {"collectors": "all"}, "must be a list of numbers"),
        ("pause", {"collectors": [True]}, "collector True"),
        ("pause", {"collectors": {"0": 1}}, "must be a list of numbers"),
        ("pause", {"seconds": 0}, "seconds 0: must be a number above 0"),
        ("pause", {"seconds": "10m"}, "seconds '10m'"),
        ("pause", {"seconds": float("nan")}, "seconds nan"),
        ("pause", {"seconds": float("inf")}, "seconds inf"),
        ("pause", {"seconds": 10**400}, "must be a number above 0"),
        ("pause", {"seconds": True}, "seconds True"),
        ("resume", {"collectors": [0.0]}, "collector 0.0"),
        ("scale", {}, "must be a whole number from 1 to 4"),
        ("scale", {"num_envs": 5}, "--max-envs"),
        ("scale", {"num_envs": "3"}, "'3' envs"),
        ("scale", {"num_envs": 10**400}, "must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    commands: dict[str, Command], name: str, message: dict[str, Any], says: str
) -> None:
    with pytest.raises(ControlError, match=says):
        commands[name](message)
    status = commands["status"]({})
    assert (status["state"], status["num_envs"]) == ("running", 2)


def test_one_libsumo_is_all_that_a_process_can_have(pool: SerialPool, monkeypatch: pytest.MonkeyPatch) -> None:
    object.__setattr__(pool._plan, "backend", "libsumo")
    with pytest.raises(ControlError, match="one process holds one libsumo simulation"):
        pool.scale(2)


def test_all_ranks_are_asked_and_a_dead_one_is_an_error_of_its_own(tmp_path: Path) -> None:
    def answer(rank: int) -> Command:
        def command(message: dict[str, Any]) -> dict[str, Any]:
            if message.get("collectors") == [rank]:
                raise ControlError(f"not on rank {rank}")
            return {"state": f"paused by {message['command']}"}

        return command

    with ControlServer(tmp_path, socket_name(0), {"pause": answer(0)}):
        everyone = AllRanks({"pause": answer(1)}, rank=1, size=3, folder=tmp_path)
        replies = everyone.ask({"command": "pause"})
        assert [(reply["rank"], reply["ok"]) for reply in replies] == [(0, True), (1, True), (2, False)]
        assert replies[0]["state"] == replies[1]["state"] == "paused by pause"
        assert "there is no control.rank2.sock" in replies[2]["error"]
        replies = everyone.ask({"command": "pause", "collectors": [0]})
        assert [reply.get("error") for reply in replies[:2]] == ["not on rank 0", None]


def test_what_one_rank_did_not_expect_costs_no_reply_of_another(tmp_path: Path) -> None:
    def stumble(message: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("something unforeseen")

    with ControlServer(tmp_path, socket_name(0), {"pause": lambda message: {"state": "paused"}}):
        mine, other = AllRanks({"pause": stumble}, rank=1, size=2, folder=tmp_path).ask({"command": "pause"})[::-1]
    assert other == {"rank": 0, "ok": True, "state": "paused"}
    assert mine == {"rank": 1, "ok": False, "error": "pause failed: KeyError: 'something unforeseen'"}
