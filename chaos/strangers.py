"""Strangers at a run: another user at its socket, another site's page in its owner's browser, nobody with the token."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chaos.bad_requests import Page, ask_page, page_of
from chaos.harm import SINGLE, Answer, Result, ask, ends_well, learns, shown, start
from tests.support.runs import ROOT

LIMIT = 30.0  # s


@dataclass(frozen=True)
class Settings:
    """The stranger's user number; how often each one tries."""

    uid: int = 65534  # nobody
    times: int = 5


QUICK = Settings(times=2)


def harm(settings: Settings, folder: Path, seed: int) -> Result:
    """Let every stranger try to read and to steer."""
    flags = (*SINGLE, "--dashboard", "127.0.0.1:0")
    result = Result(
        "Another user, another site's page, a request without the token or with a wrong one",
        f"{shown(*flags)}. The smallest scenario: what is tried has nothing to do with traffic.",
    )
    with start(folder, *flags) as run:
        before = learns(run)
        path = run.folder / "control.sock"
        mode = path.stat().st_mode & 0o777
        result.check("the socket is its owner's alone", mode == 0o600, f"mode {mode:o}")
        _as_another_user(settings, run.folder, result, "another user's connection is refused", "Permission denied")
        path.chmod(0o666)  # as its owner might by mistake
        _as_another_user(settings, run.folder, result, "also where the socket's mode lets it", "only the run's owner")
        path.chmod(0o600)
        answers = _at_the_page(page_of(run.output), settings.times)
        wrong = [one for one in answers if not one.right]
        seen = "; ".join(f"{one.mistake}: {one.said}" for one in wrong) or f"{len(answers)} requests"
        result.check("the page refuses strangers", not wrong, seen)
        after = ask(run, "status")
        same = after["num_envs"] == before["num_envs"] and after["state"] == "running"
        result.check("nothing was changed", same, f"{after['num_envs']} envs, {after['state']}")
        ends_well(run, result)
    result.figures["requests"] = [{"request": one.mistake, "said": one.said} for one in answers[: len(_REQUESTS)]]
    return result


def _as_another_user(settings: Settings, folder: Path, result: Result, what: str, words: str) -> None:
    """Have another user ask over the socket, which only root can arrange."""
    command = [sys.executable, "-m", "chaos.another_user", str(folder), str(settings.uid)]
    said = [
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
        for _ in range(settings.times)
    ]
    refused = sum(words in one.stdout for one in said)
    result.check(what, refused == settings.times, f"{refused} of {settings.times}: {said[0].stdout}{said[0].stderr}")


# What is tried, method, path, headers, and the status that it must get.
_REQUESTS: tuple[tuple[str, str, str, dict[str, str], int], ...] = (
    ("steering without a token", "POST", "/api/scale", {"Authorization": ""}, 401),
    ("steering with a wrong token", "POST", "/api/scale", {"Authorization": "Bearer wrong"}, 401),
    ("steering with half the token", "POST", "/api/scale", {"Authorization": "Bearer HALF"}, 401),
    ("another site's page steers", "POST", "/api/scale", {"Origin": "http://other.example"}, 403),
    ("another site's page reads", "GET", "/api/status", {"Origin": "http://other.example"}, 403),
    ("a page without an origin steers", "POST", "/api/scale", {"Origin": "null"}, 403),
    ("another port's page steers", "POST", "/api/scale", {"Origin": "http://127.0.0.1:1"}, 403),
    ("the browser says: another site", "POST", "/api/scale", {"Sec-Fetch-Site": "cross-site"}, 403),
    ("a form of another site", "POST", "/api/scale", {"Content-Type": "text/plain"}, 415),
    ("DNS rebinding reads", "GET", "/api/status", {"Host": "other.example"}, 421),
    ("DNS rebinding steers", "POST", "/api/scale", {"Host": "other.example"}, 421),
    ("no host", "GET", "/api/status", {"Host": ""}, 400),
)


def _at_the_page(page: Page, times: int) -> list[Answer]:
    """What strangers are told."""
    answers = []
    for what, method, path, headers, status in _REQUESTS * times:
        given = {name: value.replace("HALF", page.token[:16]) for name, value in headers.items()}
        body = b'{"num_envs": 1}' if method == "POST" else b""
        got, said = ask_page(page, method, path, body, **{name.replace("-", "_"): text for name, text in given.items()})
        answers.append(Answer(what, f"{got} {said}", got == status))
    return answers
