from __future__ import annotations

import io
import math
import re

import pytest
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from learner.display import Display, Target

VALUES: dict[str, float | str | None] = {
    "decisions": 61_440,
    "elapsed": 124.0,
    "simulated_per_second": 4960.2,
    "decisions_per_second": 496.1,
    "queue_fill": 0.38,
    "lag": 1.25,
    "wait_share": 0.12,
    "return": -12.41,
    "delay": 23.44,
    "memory_bytes": 1.5 * 2**30,
    "version": 412,
    "episodes": 31,
    "loss": 0.012345,
    "entropy": 0.61,
    "state": "running",
}
TARGET = Target(decisions=100_000, seconds=240.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def console(width: int = 80, height: int = 25, *, terminal: bool, term: str = "xterm") -> Console:
    environ = {"TERM": term}
    return Console(
        file=io.StringIO(), width=width, height=height, force_terminal=terminal, record=True, _environ=environ
    )


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def picture(values: dict[str, float | str | None], width: int = 80, height: int = 25, target: Target = TARGET) -> str:
    """The panel as plain text."""
    on = console(width, height, terminal=True)
    display = Display(target, on)
    display.update(values)
    on.export_text()
    on.print(display.render(width, height))
    return on.export_text()


def test_everything_known_is_on_the_panel() -> None:
    text = picture(VALUES)
    for shown in (
        "61,440 of 100,000 decisions",
        "02:04 elapsed, 01:18 left",
        "61%",
        "simulation     4,960 sim s/s",
        "collection     496 decisions/s",
        "queue          38%",
        "learner waits  12%",
        "lag            1.2 versions",
        "memory         1.50 GiB",
        "return         -12.41",
        "delay          23.4 s",
        "episodes       31",
        "version        412",
        "loss           0.0123",
        "entropy        0.61",
        "running",
    ):
        assert shown in text
    assert {len(line) for line in text.splitlines()} == {80}


def test_a_narrow_terminal_puts_the_columns_below_one_another() -> None:
    text = picture(VALUES, width=50)
    assert "lag            1.2 versions" in text
    assert "entropy        0.61" in text
    assert {len(line) for line in text.splitlines()} == {50}


@pytest.mark.parametrize("absent", [{}, {"loss": None, "lag": math.nan, "return": math.inf}])
def test_what_is_not_known_is_a_dash(absent: dict[str, float | str | None]) -> None:
    text = picture(absent)
    for name in ("loss", "lag", "return", "queue", "memory"):
        assert re.search(rf"{name} +- ", text)
    assert "nan" not in text
    assert "inf" not in text


def test_values_stay_until_they_are_replaced() -> None:
    display = Display(TARGET, console(terminal=False))
    display.update(VALUES)
    display.update({"state": "paused"})
    assert "61,440 decisions" in display.line()
    assert display.line().endswith("paused")


@pytest.mark.parametrize(
    ("target", "fraction", "remaining"),
    [
        (Target(decisions=1000), 0.25, 75.0),
        (Target(seconds=100.0), 0.5, 50.0),
        (Target(decisions=1000, seconds=100.0), 0.5, 50.0),
        (Target(decisions=300, seconds=100.0), 250 / 300, 5.0),
        (Target(decisions=200), 1.0, 0.0),
        (Target(), None, None),
    ],
)
def test_progress_is_by_whatever_ends_the_run(target: Target, fraction: float | None, remaining: float | None) -> None:
    assert target.fraction(decisions=250, elapsed=50.0) == fraction
    assert target.remaining(decisions=250, elapsed=50.0, per_second=10.0) == remaining


def test_nobody_knows_how_long_a_run_takes_that_does_not_move() -> None:
    assert Target(decisions=1000).remaining(decisions=250, elapsed=50.0, per_second=0.0) is None
    text = picture({"decisions": 10}, target=Target())
    assert "left" not in text
    assert " of " not in text


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 21, 40, 55, 73, 74, 100, 500])
@pytest.mark.parametrize("height", [1, 2, 5, 11, 17, 200])
@pytest.mark.parametrize("values", [{}, VALUES, dict.fromkeys(VALUES, 1e30)])
def test_no_size_and_no_value_is_too_odd(width: int, height: int, values: dict[str, float | str | None]) -> None:
    on = console(width, height, terminal=True)
    with Display(TARGET, on) as display:
        display.update(values)
        display.message("a message that is longer than the terminal is wide")
    lines = picture(values, width, height).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height


def test_a_terminal_that_knows_only_ascii_is_enough() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    for width, height in ((80, 25), (30, 25), (80, 5), (9, 30)):
        on = Console(file=file, width=width, height=height, force_terminal=True, _environ={"TERM": "xterm"})
        with Display(TARGET, on) as display:
            display.update(VALUES)
            display.message("Gänsemarkt … [bold]")
    file.flush()
    assert b"G?nsemarkt ? [bold]" in raw.getvalue()


def test_the_panel_is_redrawn_in_place_and_not_for_every_update() -> None:
    clock, on = Clock(), console(terminal=True)
    with Display(TARGET, on, clock=clock) as display:
        for decisions in range(100):
            display.update({"decisions": 1000 + decisions, "state": "running"})
            clock.now += 0.001
        assert "1,000 of" in printed(on)
        assert "1,050 of" not in printed(on)
        clock.now += 1.0
        display.update({"decisions": 2000})
        assert "2,000 of" in printed(on)
        display.update({"decisions": 2001})
        assert "2,001 of" not in printed(on)
    assert "2,001 of" in printed(on)
    assert "\x1b[1A" in printed(on)  # the cursor went up over the old picture
    assert printed(on).endswith("\x1b[?25h")  # and can be seen again


def test_a_change_of_state_is_seen_at_once() -> None:
    for terminal in (True, False):
        clock, on = Clock(), console(terminal=terminal)
        with Display(TARGET, on, clock=clock) as display:
            display.update({"state": "running"})
            display.update({"state": "stopping"})
            assert "stopping" in printed(on)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_without_a_terminal_it_is_a_plain_aligned_line_now_and_then(term: str) -> None:
    clock, on = Clock(), console(width=40, terminal=term == "dumb", term=term)
    with Display(TARGET, on, interval=5.0, clock=clock) as display:
        for second in range(11):
            clock.now = float(second)
            display.update({**VALUES, "decisions": 10**second, "elapsed": clock.now})
        clock.now = 10.5
        display.update({"decisions": 123})
    lines = printed(on).splitlines()
    assert [line.split()[2] for line in lines] == ["1", "100,000", "10,000,000,000", "123"]
    assert len({line.index("sim s/s") for line in lines if "000,000,000" not in line}) == 1
    assert all("queue  38%" in line and line.endswith("running") for line in lines)
    assert "\x1b" not in printed(on)


def test_a_line_with_nothing_new_is_not_said_twice() -> None:
    clock, on = Clock(), console(terminal=False)
    with Display(TARGET, on, clock=clock) as display:
        display.update(VALUES)
    assert len(printed(on).splitlines()) == 1


def test_a_message_is_one_line_above_and_no_markup() -> None:
    on = console(width=40, terminal=False)
    with Display(TARGET, on) as display:
        display.message("checkpoint [red]/runs/a/very/long/path/checkpoints/step-000000000012.pt")
    assert printed(on) == "checkpoint [red]/runs/a/very/long/path/checkpoints/step-000000000012.pt\n"


def test_time_runs_from_the_start_when_nobody_says_otherwise() -> None:
    clock = Clock()
    clock.now = 50.0
    display = Display(Target(seconds=7200.0), console(terminal=False), clock=clock)
    with display:
        clock.now = 50.0 + 3725.0
        assert display.line().split()[:2] == ["1:02:05", "52%"]


def test_the_terminal_is_given_back_when_the_run_fails() -> None:
    on = console(terminal=True)
    with pytest.raises(ZeroDivisionError), Display(TARGET, on) as display:
        display.message(f"{1 / 0}")
    assert printed(on).endswith("\x1b[?25h")


@pytest.mark.parametrize("terminal", [True, False])
def test_while_the_process_is_suspended_the_terminal_belongs_to_others(terminal: bool) -> None:
    on = console(terminal=terminal)
    with Display(TARGET, on, clock=Clock()) as display:
        display.update(VALUES)
        with display.suspended():
            before = printed(on)
            assert before.endswith("\x1b[?25h" if terminal else "running\n")  # a visible cursor on a line of its own
            on.file.write("$ fg\n")
        anew = printed(on).removeprefix(before + "$ fg\n")
        assert "61,440" in anew
        assert "\x1b[1A" not in anew, "it went up over what the shell has written"
        assert anew.startswith("\x1b[?25l") == terminal
        display.update({"state": "stopping"})
        assert ("\x1b[1A" in printed(on).removeprefix(before)) == terminal
    assert not terminal or printed(on).endswith("\x1b[?25h")


@pytest.mark.parametrize(
    "state", ["starting", "running", "pausing", "paused", "recovering", "memory", "stopping", "done"]
)
def test_every_state_has_its_colour(state: str) -> None:
    assert "dim" not in shown_in(state)
    assert "dim" in shown_in("unheard of")


def shown_in(state: str) -> str:
    """The style that a state is shown in."""
    display = Display(TARGET, console(terminal=True))
    display.update({"state": state})
    panel = display.render(80, 25)
    assert isinstance(panel, Panel)
    assert isinstance(panel.subtitle, Text)
    assert panel.subtitle.plain == state
    return str(panel.subtitle.style)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_goes_on_when_nobody_can_read_any_more(terminal: bool) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("Input/output error")

    on = Console(file=Gone(), force_terminal=terminal, _environ={"TERM": "xterm"})
    with Display(TARGET, on) as display:
        display.message("hello")
        display.update({"decisions": 3})
        with display.suspended():
            pass
        display.update({"state": "paused"})
    assert on.quiet


def test_of_several_scenarios_each_has_its_delay() -> None:
    values = {**VALUES, "delay/resco:cologne8": 21.04, "delay/maps/of/mine/town.sumocfg": None}
    text = picture(values)
    assert "resco:cologne8 21.0 s" in text
    assert re.search(r"town +- ", text)
    assert {len(line) for line in text.splitlines()} == {80}
    assert re.search(r"resco:cologne8 +21.0 s +$", picture(values, width=50).replace("│", ""), re.MULTILINE)
    display = Display(TARGET, console(terminal=False))
    display.update(values)
    assert "delay  23.4 s  resco:cologne8  21.0 s  town       -" in display.line()
