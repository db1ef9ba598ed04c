"""A run that only pretends: its figures change with time, and it does what it is told."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

HISTORY = 300  # points, a second apart


class FakeRun:
    """The functions that a Dashboard calls, with counts of the calls; ``trouble`` is what collector 1 last met."""

    def __init__(self, ranks: int = 1, collectors: int = 4) -> None:
        self.began = time.time() - HISTORY
        self.ranks = ranks
        self.num_envs = 2 * collectors
        self.collectors = collectors
        self.paused: set[int] = set()
        self.resting: set[int] = set()  # for want of memory
        self.trouble: str | None = None
        self.calls = 0
        self.commands: list[dict[str, Any]] = []
        self.fault: Exception | None = None
        self.health_state = "learning"
        self.hold: threading.Event | None = None  # status and commands wait for it, where there is one
        self.silent_rank: int | None = None

    def functions(self) -> dict[str, Any]:
        return {"status": self.status, "command": self.command, "history": self.history, "health": self.health}

    def status(self) -> list[dict[str, Any]]:
        self.calls += 1
        self._falter()
        return [self._rank(rank) for rank in range(self.ranks)]

    def command(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        self._falter()
        self.commands.append(message)
        if message["command"] == "scale" and message["num_envs"] > 64:
            return [{"rank": 0, "ok": False, "error": "num_envs: at most 64"}]
        meant = set(message.get("collectors") or range(self.collectors))
        if message["command"] == "scale":
            self.num_envs = message["num_envs"]
        else:
            self.paused = self.paused | meant if message["command"] == "pause" else self.paused - meant
        return [self._rank(rank) for rank in range(self.ranks)]

    def history(self) -> list[dict[str, Any]]:
        self._falter()
        now = time.time()
        return [{"time": second, **self._figures(second)} for second in range(int(now) - HISTORY, int(now))]

    def health(self) -> dict[str, Any]:
        healthy = self.health_state != "hanging"
        return {
            "healthy": healthy,
            "state": self.health_state,
            "seconds_since_progress": 0.4 if healthy else 75.0,
        }

    def _falter(self) -> None:
        if self.hold is not None:
            assert self.hold.wait(30.0), "a test has not let go"
        if self.fault is not None:
            raise self.fault

    def _figures(self, now: float) -> dict[str, Any]:
        """Something like training: rates that waver, a delay that falls."""
        age = now - self.began
        wave = math.sin(age / 17) + 0.4 * math.sin(age / 3.1)
        return {
            "decisions_per_second": 212 + 24 * wave,
            "simulated_per_second": 2080 + 260 * wave,
            "queue_fill": min(1.0, max(0.0, 0.4 + 0.2 * math.sin(age / 9))),
            "lag": 1.6 + 0.5 * math.sin(age / 5),
            "delay": 19 + 26 * math.exp(-age / 120) + 0.7 * math.sin(age / 4),
            "return": -40 * math.exp(-age / 120) - 11 + math.sin(age / 4),
            "loss": 0.2 + math.exp(-age / 100),
            "wait_share": 0.12,
            "memory_bytes": int(1.9e9 + 0.3e9 * (1 - math.exp(-age / 60))),
            "memory_budget": int(4e9),
            "elapsed": age,
            "restarts": 0 if age < 200 else 1,
            "decisions": int(212 * age),
            "entropy": math.nan,
        }

    def _rank(self, rank: int) -> dict[str, Any]:
        if rank == self.silent_rank:
            return {"rank": rank, "ok": False, "error": "no answer within 2 s"}
        age = time.time() - self.began
        everyone = set(range(self.collectors))
        ready = int(4 + 3 * math.sin(age / 9))
        return {
            "rank": rank,
            "ok": True,
            "state": "paused" if self.paused | self.resting == everyone else "running",
            "num_envs": self.num_envs,
            "max_envs": 64,
            "decisions": int(212 * age),
            "episodes": int(age / 30),
            "simulated_seconds": 2080.0 * age,
            "version": int(age * 2),
            "restarts": 1,
            "queue": {"free": 12 - ready, "writing": 4, "ready": ready, "reading": int(age) % 2},
            "collectors": [self._collector(number, age) for number in range(self.collectors)],
            "figures": self._figures(time.time()),
        }

    def _collector(self, number: int, age: float) -> dict[str, Any]:
        reasons = {"memory": self.resting, "request": self.paused}
        rests = [why for why, numbers in reasons.items() if number in numbers]
        return {
            "collector": number,
            **({"paused_for": rests} if rests else {}),
            "pid": 40100 + number,
            "sumo": [40200 + 2 * number, 40201 + 2 * number],
            "envs": list(range(number, self.num_envs, self.collectors)),
            "state": "paused" if rests else "waiting" if (number + int(age)) % 4 == 0 else "running",
            "decisions": int(212 * age / self.collectors) + number,
            "episodes": int(age / 30 / self.collectors),
            "version": int(age * 2),
            "restarts": 1 if number == 1 else 0,
            "trouble": self.trouble if number == 1 else None,
        }
