"""Tables that nobody's terminal breaks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from report import statistics, tables
from tests.report.trials import FIXED, TRIALS, Trial, WatchedTrial


def shown(trials: Sequence[statistics.Trial], details: bool = False, **console: Any) -> str:
    file = io.StringIO()
    tables.show(trials, Console(file=file, **console), title="Delay on single", details=details)
    return file.getvalue()


def test_the_plain_table_is_aligned_and_uncut() -> None:
    lines = shown(TRIALS, width=20).splitlines()
    assert lines[0] == "Delay on single"
    header, fixed, policy = lines[1:4]
    assert len(header) == len(fixed) == len(policy)
    assert header.split()[:5] == ["controller", "delay", "median", "vs", "fixed"]
    assert fixed.split()[:5] == ["fixed", "91.3", "±", "3.3", "91.0"]
    assert "-49.0 ±" in policy
    assert policy.split()[-2:] == ["1,500", "5"]
    assert "vs" not in shown(FIXED)


def test_one_episode_has_no_interval_and_no_difference_is_negative() -> None:
    one = shown([Trial("fixed", 1, 30.0), Trial("policy", 1, 29.97)])
    assert "±" not in one
    assert "+0.0" in one
    assert "-0.0" not in one


def test_details_come_in_a_table_of_their_own_with_the_number_of_gridlocked_seeds() -> None:
    watched = [WatchedTrial("max-pressure", seed, 30.0 + seed, gridlocked=seed == 2) for seed in (1, 2, 3)]
    fluent = [replace(one, gridlocked=False) for one in watched]
    short, both = shown(fluent), shown(watched)
    assert len(short) < len(both) == len(shown(fluent, details=True)), "a gridlock is not kept from anybody"
    assert both.startswith(short)
    header, row, *_ = both.removeprefix(short).strip().splitlines()
    assert len(header) == len(row)
    assert header.split()[0] == "controller"
    assert header.endswith("gridlocked")
    assert row.endswith("1 of 3")
    assert shown(FIXED, details=True).splitlines()[-3].split()[-1] == "–", "nobody has looked"


def test_the_tables_on_a_terminal_fit_eighty_columns() -> None:
    text = shown(TRIALS, details=True, width=80, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("91.3 ± 3.3", "42.3 ±", "-49.0 ±", "policy", "Delay on single", "gridlocked"):
        assert part in text


def test_the_best_is_who_has_the_least_delay_with_those_that_never_got_in() -> None:
    @dataclass(frozen=True)
    class Counted(Trial):
        full_delay: float = 0.0

    blocked = Counted("blocks the entrances", 1, delay=20.0, full_delay=90.0)
    rows = statistics.results([blocked, Counted("fluent", 1, delay=30.0, full_delay=30.0)])
    assert tables._best(rows) == 1
