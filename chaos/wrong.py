"""Settings, files, messages and requests that are wrong: said in one line, and a live run does not mind."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos import bad_messages, bad_requests, bad_settings
from chaos.harm import SINGLE, Answer, Result, ask, ends_well, learns, shown, start

_LIVE = (*SINGLE, "--dashboard", "127.0.0.1:0", "--checkpoint-every", "1")


@dataclass(frozen=True)
class Settings:
    """One of how many wrong settings and files is tried; pieces of noise; clients at once."""

    every: int = 1
    noise: int = 500
    socket_crowd: int = 100
    page_crowd: int = 250
    slow: bool = True  # what takes some seconds each, too


QUICK = Settings(every=26, noise=20, socket_crowd=40, page_crowd=50, slow=False)


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Make every mistake while a run is under way."""
    result = Result(
        "Wrong settings, files, messages and requests of every kind, while a run is training",
        f"{shown(*_LIVE)}. Of the mistakes on a command line each takes a process of its own: the smallest scenario "
        "leaves them some processor time.",
    )
    with start(folder / "live", *_LIVE) as run:
        run.wait_for(lambda: list(run.folder.glob("checkpoints/step-*.pt")), "a checkpoint")
        version, began = learns(run)["version"], time.monotonic()
        wrong = folder / "wrong"
        bad_settings.prepare(wrong, next(run.folder.glob("checkpoints/step-*.pt")))
        tried = bad_settings.MISTAKES[seed % settings.every :: settings.every]
        found = list(bad_settings.make(tried, wrong, run.folder))
        _judge(result, "settings and files: one line that names it and says what is right, exit code 2", found)
        messages = list(bad_messages.send(run.folder, settings.noise, settings.socket_crowd, seed, settings.slow))
        _judge(result, "messages on the socket: one line that says what is right", messages)
        page = bad_requests.page_of(run.output)
        requests = list(bad_requests.send(page, settings.noise, settings.page_crowd, seed, settings.slow))
        _judge(result, "requests to the web page: a status that fits, and one line", requests)
        steps, seconds = ask(run, "status")["version"] - version, time.monotonic() - began
        seen = f"{steps} steps in {seconds:.0f} s"
        result.check("the run goes on learning meanwhile, a step per second or more", steps > seconds, seen, timed=True)
        ends_well(run, result)
    result.figures["mistakes"] = [asdict(one) for one in (*found, *messages, *requests)]
    return result


def _judge(result: Result, what: str, answers: Iterable[Answer]) -> None:
    """Note how many mistakes were answered rightly, and which were not."""
    answers = list(answers)
    wrong = [one for one in answers if not one.right]
    seen = "; ".join(f"{one.mistake}: {one.said}" for one in wrong) or f"all {len(answers)}"
    result.check(what, not wrong, seen)
