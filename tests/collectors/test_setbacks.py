from __future__ import annotations

import pytest

from collectors.holds import MEMORY, REQUEST, Holds
from collectors.setbacks import Setbacks


def test_each_failure_in_a_row_waits_longer_and_there_is_an_end() -> None:
    setbacks = Setbacks(limit=9)
    delays = [setbacks.add() for _ in range(10)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, None]
    assert setbacks.total == setbacks.in_a_row == 10


def test_a_success_makes_the_next_failure_the_first_again() -> None:
    setbacks = Setbacks(limit=1)
    for _ in range(5):
        assert setbacks.add() == 0.5
        setbacks.forget()
    assert setbacks.total == 5
    setbacks.add()
    assert setbacks.add() is None


def test_never_giving_up_is_possible() -> None:
    setbacks = Setbacks(limit=10**6)
    assert [setbacks.add() for _ in range(2000)][-1] == 30.0


def test_with_a_limit_of_none_the_first_failure_is_the_end() -> None:
    assert Setbacks(limit=0).add() is None


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr("collectors.holds.time.monotonic", lambda: clock[0])
    return clock


def test_reasons_hold_until_each_is_lifted_or_has_run_out(now: list[float]) -> None:
    holds = Holds()
    assert not holds
    holds.put(REQUEST, 10.0)
    holds.put(MEMORY)
    assert holds.reasons() == [MEMORY, REQUEST]
    now[0] = 111.0
    assert not holds.expire(), "there is still a reason"
    assert holds.reasons() == [MEMORY]
    holds.lift(MEMORY)
    holds.lift(MEMORY)
    assert not holds


def test_the_end_of_the_last_reason_is_told_once(now: list[float]) -> None:
    holds = Holds()
    holds.put(REQUEST, 10.0)
    assert not holds.expire()
    now[0] = 110.0
    assert holds.expire()
    assert not holds.expire()


def test_the_latest_request_decides_for_how_long(now: list[float]) -> None:
    holds = Holds()
    holds.put(REQUEST, 10.0)
    holds.put(REQUEST)
    now[0] = 1e9
    assert not holds.expire()
    assert holds
