"""What a pool of collectors is, whatever processes they live in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from buffers.errors import SharedMemoryError
from buffers.slots import Slots
from buffers.weights import WeightsChannel
from collectors.board import Activity, Board, Wish
from collectors.errors import ControlError
from collectors.holds import REQUEST

ANSWER = 1.5  # s after which a request is answered with how far it has come
NEWS = 100  # lines kept for somebody to ask for


class Pool(Protocol):
    """Collectors at work, in processes of their own or in this one.

    ``pause``, ``resume`` and ``scale`` say what is wanted, in any state of any collector; they return when it is so,
    or after ``ANSWER`` s while it is still becoming so: ``status`` tells.
    """

    board: Board

    def start(self, on_wait: Callable[[], object] | None = None) -> None:
        """Start collecting; returns when every collector has its simulations. Raises ``CollectorError``.

        ``on_wait`` is called now and then while it lasts, and may raise.
        """

    def check(self) -> None:
        """Raise ``CollectorError`` when something has failed too often to be tried again."""

    def pause(self, collectors: Sequence[int] | None = None, seconds: float | None = None, why: str = REQUEST) -> None:
        """Let some collectors, or all, rest before their next decision, for ``seconds`` at most."""

    def resume(self, collectors: Sequence[int] | None = None, why: str = REQUEST) -> None:
        """Let some collectors, or all, go on where they stand, unless they rest for another reason too."""

    def scale(self, num_envs: int) -> None:
        """Have so many envs. Raises ``ControlError`` where that is impossible."""

    def status(self) -> dict[str, Any]:
        """What every collector is doing."""

    def news(self) -> list[str]:
        """What has gone wrong and was mended since this was last asked, one line each."""

    def close(self, timeout: float = 10.0) -> None:
        """End everything within ``timeout`` s, by force where asking does not help; closing twice is fine."""

    work: Callable[[], None] | None  # what collects in serial mode; None where collectors do it themselves


def check_numbers(collectors: Sequence[int] | None, count: int) -> list[int]:
    """The collectors meant, all of them by default; raises ``ControlError`` for one that does not exist."""
    if collectors is None:
        return list(range(count))
    if not isinstance(collectors, list | tuple):
        raise ControlError(f"collectors {collectors!r}: must be a list of numbers, or null for all of them")
    for number in collectors:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
            raise ControlError(f"collector {number!r}: this run has collectors 0 to {count - 1}")
    return sorted(set(collectors))


def resize(board: Board, slots: Slots, num_envs: Any) -> None:
    """Want so many envs from now on, and have slots for them; raises ``ControlError`` where that is impossible."""
    if not isinstance(num_envs, int) or isinstance(num_envs, bool) or not 1 <= num_envs <= slots.capacity:
        raise ControlError(
            f"{num_envs!r} envs: must be a whole number from 1 to {slots.capacity}, the run's --max-envs per rank"
        )
    try:
        for env in range(board.num_envs, num_envs):
            slots.furnish(env)
    except SharedMemoryError as error:
        raise ControlError(f"{num_envs} envs: {error}") from error
    board.num_envs = num_envs


def refuse_when(closing: bool) -> None:
    """Raise ``ControlError`` where a pool is closing, or closed."""
    if closing:
        raise ControlError("the run is ending, and its collectors with it")


def describe(board: Board, slots: Slots, weights: WeightsChannel, members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A pool in numbers: totals, the queue, and a row per collector that has something to do or did something."""
    rows, envs, num_envs = board.rows.copy(), board.envs.copy(), board.num_envs
    collectors = []
    for number, (member, row) in enumerate(zip(members, rows, strict=True)):
        own = slice(number, num_envs, slots.collectors)
        state = member.pop("state", None) or _state(board, number, row)
        restarts = member.pop("restarts", 0) + int(envs["losses"][number :: slots.collectors].sum())
        if state == "stopped" and not row["decisions"] and not restarts and number >= num_envs:
            continue  # in reserve
        collectors.append(
            {
                "collector": number,
                **member,
                "sumo": [int(pid) for pid in envs["sumo"][number :: slots.collectors] if pid],
                "envs": list(range(num_envs))[own],
                "state": state,
                "decisions": int(row["decisions"]),
                "episodes": int(row["episodes"]),
                "version": int(row["version"]),
                "restarts": restarts,
            }
        )
    return {
        "state": _overall([row for row in collectors if row["envs"]]),
        "num_envs": num_envs,
        "max_envs": slots.capacity,
        "decisions": int(rows["decisions"].sum()),
        "fragments": int(envs["fragments"].sum()),
        "episodes": int(rows["episodes"].sum()),
        "simulated_seconds": float(rows["seconds"].sum()),
        "restarts": sum(row["restarts"] for row in collectors),
        "version": weights.version,
        "queue": slots.counts(),
        "collectors": collectors,
    }


def _overall(rows: Sequence[dict[str, Any]]) -> str:
    """What the pool does as a whole, from what its collectors do."""
    states = {row["state"] for row in rows}
    if states <= {"stopped"}:
        return "stopped"
    if all(row.get("paused_for") for row in rows):
        return "pausing" if "pausing" in states else "paused"
    return "starting" if states <= {"starting"} else "running"


def _state(board: Board, number: int, row: Any) -> str:
    """What a collector does, or is about to do because it was told to."""
    activity = Activity(int(row["activity"]))
    if activity in (Activity.STARTING, Activity.STOPPED) or board.has_obeyed(number):
        return activity.name.lower()
    wish = board.ordered(number)[1]
    return {Wish.RUN: "resuming", Wish.PAUSE: "pausing", Wish.STOP: "stopping"}[wish]
