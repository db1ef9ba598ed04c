"""What a person sees while a run trains: a live panel on a terminal, one aligned line now and then anywhere else."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Values = Mapping[str, float | str | None]

REDRAW = 0.2  # seconds between two pictures on a terminal
NOTHING = "-"  # shown for a value that is not known; ASCII, because some terminals are
_WIDEST = 100  # characters; wider than that, the eye loses its row
_TWO_COLUMNS = 74  # characters below which the values stand below one another
_DELAY_ON = "delay/"  # and the name of a scenario
_LABEL = 14  # characters of a label
_ONE_LINE = 56  # characters below which decisions and times stand below one another
_STATE_STYLES = {
    "starting": "cyan",
    "running": "green",
    "pausing": "yellow",
    "paused": "yellow",
    "recovering": "magenta",
    "memory": "bold magenta",  # waits for memory
    "stopping": "red",
    "done": "bold green",
}


@dataclass(frozen=True)
class Target:
    """What ends the run: decisions of all envs together, seconds of training, whichever comes first, or neither."""

    decisions: int | None = None
    seconds: float | None = None

    def fraction(self, decisions: float, elapsed: float) -> float | None:
        """How much of the run is done, 0 to 1, or None when nothing but a request ends it."""
        parts = [
            done / goal for done, goal in ((decisions, self.decisions), (elapsed, self.seconds)) if goal and done >= 0
        ]
        return min(max(parts), 1.0) if parts else None

    def remaining(self, decisions: float, elapsed: float, per_second: float) -> float | None:
        """Seconds until the run ends if it goes on at `per_second` decisions, or None when that cannot be said."""
        parts = []
        if self.decisions and per_second > 0:
            parts.append(max(self.decisions - decisions, 0.0) / per_second)
        if self.seconds:
            parts.append(max(self.seconds - elapsed, 0.0))
        return min(parts, default=None)


class Display:
    """Shows the newest values of a run; a context manager.

    On a terminal it is a panel that is redrawn in place, elsewhere one plain line at once, every `interval` seconds, at
    each change of state, and at the end. It is drawn by whoever calls `update`; there is no thread behind it.
    """

    def __init__(
        self,
        target: Target,
        console: Console | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._console = console or Console()
        self._interval = interval
        self._clock = clock
        self._started = clock()
        self._values: dict[str, float | str | None] = {}
        self._drawn_at = -math.inf
        self._drawn_state: object = None
        self._dirty = False
        on_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = self._panel() if on_terminal else None

    def update(self, values: Values) -> None:
        """Take in new values and draw if it is time; a name that has not come yet, None and NaN show as a dash.

        Known names: decisions, elapsed (s of training; without it the time since the start), simulated_per_second,
        decisions_per_second, queue_fill (0 to 1), lag (policy versions), wait_share (0 to 1), return, delay (s),
        delay/SCENARIO (s, where there are several), memory_bytes, version, episodes, loss, entropy, state (starting,
        running, pausing, paused, recovering, memory, stopping, done).
        """
        self._values.update(values)
        self._dirty = True
        pause = REDRAW if self._live else self._interval
        if self._clock() - self._drawn_at >= pause or self._values.get("state") != self._drawn_state:
            self._draw()

    def message(self, text: str) -> None:
        """Print lines that stay, above the panel."""
        encoding = self._console.encoding
        printable = text.encode(encoding, "replace").decode(encoding)
        with self._forgiving():
            self._console.print(Text(printable), soft_wrap=self._live is None)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the terminal to others inside the block: the last picture stays, the cursor shows; then draw anew."""
        if self._live:
            with self._forgiving():
                self._live.stop()
        yield
        if self._live:
            # One that has been stopped would go up by the height of its last picture, over what others have written.
            self._live = self._panel()
            with self._forgiving():
                self._live.start()
        self._draw()

    def render(self, width: int, height: int) -> RenderableType:
        """The picture for a terminal of `width` by `height` characters: the panel, or `line` where it does not fit."""
        values = self._table(columns=2 if width >= _TWO_COLUMNS else 1)
        progress = self._progress(stacked=width < _ONE_LINE)
        if values.row_count + len(progress) + 3 > height:
            return Group(_uncut(Text(" ".join(self.line().split()))))
        state = self._text("state")
        return Panel(
            Group(*progress, "", values),
            title=Text("Platoon", style="bold"),
            title_align="left",
            subtitle=Text(state, style=_STATE_STYLES.get(state, "dim")),
            subtitle_align="right",
            border_style="dim",
            padding=(0, 1),
            width=min(width, _WIDEST),
        )

    def line(self) -> str:
        """The same in one line, in columns that stay where they are from line to line."""
        percent = NOTHING if (fraction := self._fraction()) is None else f"{fraction:.0%}"
        parts = [f"{_duration(self._elapsed()):>8} {percent:>4}"]
        parts += [
            f"{self._text('decisions'):>11} decisions",
            f"{self._text('simulated_per_second'):>7} sim s/s",
            f"{self._text('decisions_per_second'):>6} dec/s",
            f"queue {self._text('queue_fill'):>4}",
            f"wait {self._text('wait_share'):>4}",
            f"lag {self._text('lag'):>5}",
            f"return {self._text('return'):>8}",
            f"delay {self._text('delay'):>7}",
            *(f"{label} {self._text(name):>7}" for label, name in self._delays()),
            f"{self._text('memory_bytes'):>8}",
            self._text("state"),
        ]
        return "  ".join(parts)

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._live:
            with self._forgiving():
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._dirty:
            self._draw()
        if self._live:
            with self._forgiving():
                self._live.stop()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Go quiet when nobody can read any more: a closed terminal or pipe must not end the run.

        Rich ends the process where a pipe is broken; that becomes an exception again.
        """
        try:
            yield
        except (OSError, SystemExit):
            self._console.quiet = True
            self._live = None

    def _panel(self) -> Live:
        return Live(console=self._console, auto_refresh=False)

    def _draw(self) -> None:
        with self._forgiving():
            if self._live:
                self._live.update(self.render(*self._console.size), refresh=True)
            else:
                self._console.print(Text(self.line()), soft_wrap=True)
        self._drawn_at, self._drawn_state, self._dirty = self._clock(), self._values.get("state"), False

    def _progress(self, stacked: bool) -> list[RenderableType]:
        """Two rows, or three where the first has to be broken."""
        fraction, remaining = self._fraction(), self._remaining()
        goal = f" of {self._target.decisions:,}" if self._target.decisions else ""
        done = Text.assemble((self._text("decisions") + goal, "bold"), " decisions")
        times = Text(f"{_duration(self._elapsed())} elapsed")
        if remaining is not None:
            times.append(f", {_duration(remaining)} left")
        percent = Text(NOTHING if fraction is None else f"{fraction:.0%}")
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(width=4, justify="right", no_wrap=True, overflow="crop")
        bar.add_row(ProgressBar(total=1.0, completed=fraction or 0.0, finished_style="green"), percent)
        if stacked:
            return [_uncut(done), _uncut(times), bar]
        words = _grid(2)
        words.columns[1].justify = "right"
        words.add_row(done, times)
        return [words, bar]

    def _table(self, columns: int) -> Table:
        """Speed and flow on the left, learning on the right; below one another where there is no room."""
        left: list[tuple[str, RenderableType]] = [
            ("simulation", self._unit("simulated_per_second", "sim s/s")),
            ("collection", self._unit("decisions_per_second", "decisions/s")),
            ("queue", self._gauge("queue_fill", "cyan")),
            ("learner waits", self._gauge("wait_share", "yellow")),
            ("lag", self._unit("lag", "versions")),
            ("memory", self._unit("memory_bytes")),
        ]
        right: list[tuple[str, RenderableType]] = [
            ("return", self._unit("return")),
            ("delay", self._unit("delay")),
            *((label, self._unit(name)) for label, name in self._delays()),
            ("episodes", self._unit("episodes")),
            ("version", self._unit("version")),
            ("loss", self._unit("loss")),
            ("entropy", self._unit("entropy")),
        ]
        table = _grid(2 * columns)
        for label in table.columns[::2]:
            label.ratio, label.min_width, label.style = None, _LABEL, "dim"
        if columns == 1:
            for name, value in left + right:
                table.add_row(name, value)
        else:
            for first, second in itertools.zip_longest(left, right, fillvalue=("", "")):
                table.add_row(*first, *second)
        return table

    def _delays(self) -> list[tuple[str, str]]:
        """A label and the name of the value for the delay on each of several scenarios."""
        names = [name for name in self._values if name.startswith(_DELAY_ON)]
        return [(Path(name.removeprefix(_DELAY_ON)).stem[:_LABEL], name) for name in names]

    def _gauge(self, name: str, style: str) -> RenderableType:
        share = _number(self._values.get(name))
        if share is None:
            return Text(NOTHING, style="dim")
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=min(max(share, 0.0), 1.0), width=10, complete_style=style)
        bar.finished_style = style
        row.add_row(Text(f"{self._text(name):<4}"), bar)
        return row

    def _unit(self, name: str, unit: str = "") -> Text:
        text = self._text(name)
        return Text(NOTHING, style="dim") if text == NOTHING else Text.assemble(text, (f" {unit}", "dim"))

    def _text(self, name: str) -> str:
        return _format(name, self._values.get(name))

    def _elapsed(self) -> float:
        known = _number(self._values.get("elapsed"))
        return self._clock() - self._started if known is None else known

    def _fraction(self) -> float | None:
        return self._target.fraction(_number(self._values.get("decisions")) or 0.0, self._elapsed())

    def _remaining(self) -> float | None:
        decisions, rate = (_number(self._values.get(name)) or 0.0 for name in ("decisions", "decisions_per_second"))
        return self._target.remaining(decisions, self._elapsed(), rate)


def _grid(columns: int) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in range(columns):
        grid.add_column(ratio=1, no_wrap=True, overflow="crop")
    return grid


def _uncut(text: Text) -> Text:
    """The text in one line, without the ellipsis that an ASCII terminal cannot show."""
    text.no_wrap, text.overflow = True, "crop"
    return text


def _number(value: float | str | None) -> float | None:
    """The value if it is a number that can be shown."""
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _format(name: str, value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    number = _number(value)
    if number is None:
        return NOTHING
    match name:
        case "queue_fill" | "wait_share":
            return f"{number:.0%}"
        case "memory_bytes":
            return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
        case "decisions" | "episodes" | "version" | "simulated_per_second" | "decisions_per_second":
            return f"{number:,.0f}"
        case "lag":
            return f"{number:.1f}"
    if name == "delay" or name.startswith(_DELAY_ON):
        return f"{number:.1f} s"
    return f"{number:,.2f}" if abs(number) >= 1 else f"{number:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
