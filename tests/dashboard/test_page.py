"""The page itself, in a real browser."""

from __future__ import annotations

import http.server
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from dashboard import Dashboard
from tests.dashboard.browser import Viewer, chromium
from tests.dashboard.fakes import HISTORY, FakeRun
from tests.dashboard.talk import TOKEN, port_of
from tests.support.waiting import wait_for


@pytest.fixture
def steering(viewer: Viewer, dashboard: Dashboard) -> Viewer:
    """Somebody who has opened the link with the token, and sees the run."""
    viewer.open(f"{dashboard.url}#token={TOKEN}")
    viewer.wait("#state", "learning")
    return viewer


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a page that is somebody else's."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><link rel=icon href=data:,><p id=other>another page</p>")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def row(number: int) -> str:
    return f"#collectors tbody tr:nth-child({number + 1})"


def cell(number: int, title: str) -> str:
    return f"{row(number)} td[data-title='{title}']"


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_figures_appear_and_change(steering: Viewer) -> None:
    value = "[data-figure=decisions_per_second] .value"
    first, elapsed = steering.text(value), steering.text("#totals dd")
    assert float(first) > 100
    wait_for(lambda: steering.text(value) != first, "another value")
    wait_for(lambda: steering.text("#totals dd") != elapsed, "time goes on")
    assert steering.text("[data-figure=memory_bytes] .value").endswith(" GB")
    assert steering.run("return document.title") == "Platoon · learning"


def test_sparklines_are_drawn_from_the_history(steering: Viewer) -> None:
    def drawn() -> list[str]:
        return [path.get_attribute("d") or "" for path in steering.all(".tile .spark .line")]

    wait_for(lambda: len(paths := drawn()) == 8 and all(path.count("L") > 200 for path in paths), "eight lines")
    label = steering.find("[data-figure=delay] .spark").get_attribute("aria-label") or ""
    assert label.startswith("Delay: ")
    assert "in the last 4:59 min" in label
    assert "NaN" not in "".join(drawn())


def test_the_queue_is_shown_by_state(steering: Viewer) -> None:
    widths = steering.run("return [...document.querySelectorAll('.part')].map((part) => +part.style.flexGrow)")
    assert sum(widths[:3]) == 16
    assert widths[1] == 4
    assert "4 writing" in steering.text(".legend")


def test_every_collector_has_a_row(steering: Viewer) -> None:
    assert len(steering.all("#collectors tbody tr")) == 4
    assert steering.text(cell(1, "Envs")) == "1, 5"
    assert steering.text(cell(1, "Process")) == "40101"
    assert steering.text(cell(1, "SUMO")) == "40202, 40203"
    assert not steering.find("#ranks-section").is_displayed()


def test_several_ranks_are_listed(viewer: Viewer) -> None:
    run = FakeRun(ranks=3)
    run.silent_rank = 2
    with Dashboard(":0", TOKEN, **run.functions()) as served:
        viewer.open(served.url)
        viewer.wait("#ranks", "no answer within 2 s")
        assert len(viewer.all("#ranks tbody tr")) == 3
        assert len(viewer.all("#collectors tbody tr")) == 8
        assert viewer.text("#ranks tbody tr:nth-child(3) td[data-title=State]") == "no answer"
        viewer.wait("#silence", "No answer from rank 2.")
        assert viewer.text("#totals div:nth-child(3) dd") == "8 + 8"
        run.silent_rank = None
        viewer.wait("#ranks tbody tr:nth-child(3) td[data-title=State]", "running")
        wait_for(lambda: not viewer.find("#silence").is_displayed(), "the notice goes")


HOUR_AHEAD = """
Date = class extends Date {
  constructor(...given) { super(...(given.length ? given : [Date.now()])); }
  static now() { return super.now() + 3600e3; }
};
"""


@pytest.fixture
def hour_ahead(driver: Chrome) -> Iterator[None]:
    """Pages that are opened believe that it is an hour later."""
    made = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HOUR_AHEAD})
    yield
    driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)


@pytest.mark.usefixtures("hour_ahead")
def test_lines_go_on_as_they_began_with_several_ranks_and_another_clock(viewer: Viewer) -> None:
    def label(figure: str) -> str:
        return viewer.find(f"[data-figure={figure}] .spark").get_attribute("aria-label") or ""

    def points() -> int:
        line = viewer.find("[data-figure=memory_bytes] .line")
        return (line.get_attribute("d") or "").count("L") + 1

    with Dashboard(":0", TOKEN, **FakeRun(ranks=2).functions()) as served:
        viewer.open(served.url)
        assert viewer.run("return Date.now()") / 1000 - time.time() > 3500
        wait_for(lambda: points() >= HISTORY + 3, "the history and what was heard since")
        seen = re.fullmatch(r"Memory: 1\.\d+ GB to 2\.[12]\d* GB in the last ([45]):\d\d min", label("memory_bytes"))
        assert seen, label("memory_bytes")
        assert label("restarts").startswith("Restarts: 0 to 1 in the last ")
        # What is written is what is drawn; what the others add is said beside it.
        assert viewer.text("[data-figure=memory_bytes] .value") == "2.2 GB"
        assert viewer.text("[data-figure=memory_bytes] .quiet") == "55 % of 4 GB; 4.4 GB on all ranks"
        assert viewer.text("[data-figure=restarts] .value") == "1"
        assert viewer.text("[data-figure=restarts] .quiet") == "of SUMOs and collectors; 2 on all ranks"
        assert viewer.find("#figures-note").is_displayed()


def test_one_rank_is_not_called_one_of_several(steering: Viewer) -> None:
    assert steering.text("[data-figure=memory_bytes] .quiet") == "55 % of 4 GB"
    assert steering.text("[data-figure=restarts] .quiet") == "of SUMOs and collectors"
    assert not steering.find("#figures-note").is_displayed()


def test_a_rest_for_memory_is_called_so(viewer: Viewer) -> None:
    run = FakeRun(ranks=2)
    run.resting, run.paused, run.health_state = {0, 1, 2, 3}, {2}, "paused"
    with Dashboard(":0", TOKEN, **run.functions()) as served:
        viewer.open(served.url)
        viewer.wait("#state", "paused (memory)")
        for css in (cell(0, "State"), cell(2, "State"), "#ranks tbody tr:nth-child(2) td[data-title=State]"):
            assert viewer.text(css) == "paused (memory)"
            assert viewer.find(f"{css} .pill").get_attribute("data-state") == "paused", "what gives it its colour"
        run.resting, run.health_state = set(), "learning"
        wait_for(lambda: viewer.text("#state") == "learning", "the rest is over")
        assert viewer.text(cell(2, "State")) == "paused", "somebody asked for that"
        assert "(" not in viewer.text("#ranks td[data-title=State]")


def test_a_run_that_begins_has_dashes(viewer: Viewer, run: FakeRun) -> None:
    started = run.status

    def status() -> list[dict[str, Any]]:
        bare = [{**rank, "figures": {"lag": None}} for rank in started()]
        return [{name: value for name, value in rank.items() if name != "collectors"} for rank in bare]

    functions = {**run.functions(), "status": status, "history": list}
    run.health_state = "starting"
    with Dashboard(":0", TOKEN, **functions) as served:
        viewer.open(served.url)
        viewer.wait("#state", "starting")
        assert viewer.text("[data-figure=lag] .value") == "–"
        assert "NaN" not in viewer.text("body")
        assert "undefined" not in viewer.text("body")
        assert not viewer.complaints()


def test_a_hanging_run_is_called_so(steering: Viewer, run: FakeRun) -> None:
    run.health_state = "hanging"
    steering.wait("#state", "hanging")
    steering.wait("#silence", "no progress for 1:15 min")


def test_what_a_collector_met_is_text(steering: Viewer, run: FakeRun) -> None:
    run.trouble = "<img src=x onerror=\"document.title='taken'\"><script>alert(1)</script>"
    steering.wait(cell(1, "Last trouble"), run.trouble)
    assert not steering.all("main img, main script")
    assert steering.run("return document.title") != "taken"


@pytest.mark.usefixtures("steering")
def test_the_console_stays_empty_and_nothing_is_fetched_elsewhere(viewer: Viewer, dashboard: Dashboard) -> None:
    seen: list[str] = []

    def polled() -> bool:
        seen.extend(viewer.requests())
        return seen.count(f"{dashboard.url}api/status") >= 3

    wait_for(polled, "three polls")
    assert {url for url in seen if not url.startswith((dashboard.url, "about:"))} == set()
    assert not [url for url in seen if "token" in url.partition("#")[0]]
    assert not viewer.complaints()


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (768, False), (1366, True)])
def test_it_fits_the_screen(steering: Viewer, width: int, dark: bool) -> None:
    commands = steering.driver.execute_cdp_cmd
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    try:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        commands("Emulation.setDeviceMetricsOverride", metrics)
        commands("Emulation.setEmulatedMedia", {"features": scheme})
        assert steering.run("return document.documentElement.scrollWidth") <= width
        ground, text = steering.run(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        assert (brightness(ground) < brightness(text)) is dark
    finally:
        commands("Emulation.clearDeviceMetricsOverride", {})
        commands("Emulation.setEmulatedMedia", {"features": []})


def brightness(colour: str) -> int:
    """Of ``rgb(1, 2, 3)``."""
    return sum(int(part) for part in colour.strip("rgba()").split(",")[:3])


def test_everything_that_can_be_used_has_a_name(steering: Viewer) -> None:
    nameless = [
        element.get_attribute("outerHTML")
        for element in steering.all("button, input, table, meter, svg")
        if element.is_displayed() and not element.accessible_name
    ]
    assert not nameless
    assert steering.find("#state").aria_role == "status"
    assert steering.find("#collectors").aria_role == "table"


# --- what is done ----------------------------------------------------------------------------------------------------


def test_the_token_leaves_the_address_bar_and_survives_a_reload(steering: Viewer, dashboard: Dashboard) -> None:
    assert steering.driver.current_url == dashboard.url
    steering.driver.refresh()
    steering.wait("#state", "learning")
    assert steering.find("#pause button").is_enabled()


def test_pause_and_resume_all(steering: Viewer, run: FakeRun) -> None:
    steering.find("#pause button").click()
    steering.wait("#outcome", "pause all: done")
    steering.wait(cell(3, "State"), "paused")
    steering.find("#resume button").click()
    steering.wait("#outcome", "resume all: done")
    assert run.commands == [{"command": "pause", "collectors": None}, {"command": "resume", "collectors": None}]


def test_pause_for_some_minutes(steering: Viewer, run: FakeRun) -> None:
    steering.find("#minutes").send_keys("2.5")
    steering.find("#pause button").click()
    steering.wait("#outcome", "pause all for 2.5 minutes: done")
    assert run.commands == [{"command": "pause", "collectors": None, "seconds": 150.0}]


def test_pause_and_resume_one_collector(steering: Viewer, run: FakeRun) -> None:
    steering.find("[aria-label='Pause collector 2, rank 0']").click()
    steering.wait(cell(2, "State"), "paused")
    steering.find("[aria-label='Resume collector 2, rank 0']").click()
    steering.wait("#outcome", "resume collector 2: done")
    assert run.commands == [{"command": "pause", "collectors": [2]}, {"command": "resume", "collectors": [2]}]


def test_resuming_what_rests_for_memory_says_that_it_still_does(steering: Viewer, run: FakeRun) -> None:
    run.resting = {0, 1, 2, 3}
    steering.find("#resume button").click()
    steering.wait("#outcome", "resume all: done, but 4 collectors still rest for memory")
    steering.find("[aria-label='Resume collector 2, rank 0']").click()
    steering.wait("#outcome", "resume collector 2: done, but 1 collector still rests for memory")
    run.resting = {3}
    steering.find("[aria-label='Resume collector 1, rank 0']").click()
    wait_for(lambda: steering.text("#outcome") == "resume collector 1: done", "nothing keeps that one")


def test_scale(steering: Viewer, run: FakeRun) -> None:
    number = steering.find("#num-envs")
    assert number.get_attribute("value") == "8"
    assert number.get_attribute("max") == "64"
    number.clear()
    number.send_keys("12")
    steering.find("#scale button").click()
    steering.wait("#outcome", "scale to 12 simulations: done")
    assert run.commands == [{"command": "scale", "num_envs": 12}]
    steering.wait("#totals div:nth-child(3) dd", "12")


def test_a_refusal_is_shown(steering: Viewer) -> None:
    steering.run("document.getElementById('scale').noValidate = true")
    number = steering.find("#num-envs")
    number.clear()
    number.send_keys("65")
    steering.find("#scale button").click()
    steering.wait("#outcome", "rank 0: num_envs: at most 64")


def test_focus_stays_where_it_is_while_rows_change(steering: Viewer) -> None:
    steering.run("document.querySelector(\"[aria-label='Pause collector 1, rank 0']\").focus()")
    before = steering.text(cell(1, "Decisions"))
    wait_for(lambda: steering.text(cell(1, "Decisions")) != before, "another reading")
    assert steering.run("return document.activeElement.ariaLabel") == "Pause collector 1, rank 0"


def test_without_a_token_one_may_only_look(viewer: Viewer, dashboard: Dashboard, run: FakeRun) -> None:
    viewer.open(dashboard.url)
    viewer.wait("#state", "learning")
    assert not [control for control in viewer.all("button, input") if control.is_enabled()]
    assert "Look only" in viewer.find("#locked").text
    viewer.run("location.hash = arguments[0]", f"token={TOKEN}")
    wait_for(lambda: viewer.find("#pause button").is_enabled(), "the token is taken from the open page's address")
    assert not viewer.find("#locked").is_displayed()


def test_a_wrong_token_is_told(viewer: Viewer, dashboard: Dashboard, run: FakeRun) -> None:
    viewer.open(f"{dashboard.url}#token=wrong")
    viewer.wait("#state", "learning")
    viewer.find("#pause button").click()
    viewer.wait("#outcome", "send Authorization: Bearer TOKEN")
    assert not run.commands


# --- others ----------------------------------------------------------------------------------------------------------

ATTEMPT = """
const [url, options, done] = arguments;
fetch(url, options).then(async (answer) => done(answer.type + ":" + await answer.text()), (error) => done(error.name));
"""
LOAD = """
const [tag, attribute, url, done] = arguments;
const made = Object.assign(document.createElement(tag), {
  onload: () => done("loaded"), onerror: () => done("refused"), [attribute]: url
});
document.body.append(made);
"""


def test_another_page_can_neither_read_nor_command(
    viewer: Viewer, dashboard: Dashboard, run: FakeRun, elsewhere: str
) -> None:
    for origin in (elsewhere, elsewhere.replace("127.0.0.1", "localhost")):
        viewer.open(origin)
        for path in ("", "api/status", "api/history", "metrics", "healthz", "page.js"):
            assert viewer.run_async(ATTEMPT, dashboard.url + path, {}) == "TypeError"
            # Without CORS the request is made; even its sight is withheld.
            assert viewer.run_async(ATTEMPT, dashboard.url + path, {"mode": "no-cors"}) in ("opaque:", "TypeError")
        assert viewer.run_async(LOAD, "script", "src", dashboard.url + "api/status") == "refused"
        assert viewer.run_async(LOAD, "img", "src", dashboard.url + "icon.svg") == "refused"
        json = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        for options in (
            {"method": "POST", "body": "{}", "headers": json},
            {"method": "POST", "body": "{}", "headers": json, "credentials": "include"},
            {"method": "POST", "body": "{}", "mode": "no-cors"},
        ):
            assert viewer.run_async(ATTEMPT, f"{dashboard.url}api/pause", options) in ("opaque:", "TypeError")
    assert not run.commands


def test_another_page_cannot_frame_it(viewer: Viewer, dashboard: Dashboard, elsewhere: str) -> None:
    viewer.open(elsewhere)
    script = "document.body.append(Object.assign(document.createElement('iframe'), {src: arguments[0]}))"
    viewer.run(script, dashboard.url)
    complaints = wait_for(viewer.complaints, "the browser says that it was refused")
    assert "frame-ancestors" in " ".join(complaints)


# --- silence ---------------------------------------------------------------------------------------------------------


def test_silence_is_told_and_ends(viewer: Viewer, run: FakeRun) -> None:
    with Dashboard(":0", TOKEN, **run.functions()) as first:
        viewer.open(f"{first.url}#token={TOKEN}")
        viewer.wait("#state", "learning")
    viewer.wait("#state", "no answer")
    wait_for(lambda: viewer.find("#silence").is_displayed(), "the notice")
    viewer.wait("#silence", "No answer for 2 s: the run cannot be reached")
    assert "stale" in (viewer.find("#main").get_attribute("class") or "")
    with Dashboard(f":{port_of(first)}", TOKEN, **run.functions()):
        viewer.wait("#state", "learning")
        wait_for(lambda: not viewer.find("#silence").is_displayed(), "the notice goes")
        assert not viewer.find("#main").get_attribute("class")
        viewer.find("#pause button").click()
        viewer.wait("#outcome", "pause all: done")


def test_a_run_that_fails_to_answer_is_told(steering: Viewer, run: FakeRun) -> None:
    run.fault = RuntimeError("<b>the pool is gone</b>")
    steering.wait("#silence", "failed: RuntimeError: <b>the pool is gone</b>")
    assert not steering.all("#silence b")
    run.fault = None
    steering.wait("#state", "learning")


def test_a_run_that_takes_long_is_told_meanwhile(steering: Viewer, run: FakeRun) -> None:
    run.hold = threading.Event()
    try:
        steering.wait("#silence", "it takes long")
    finally:
        run.hold.set()
    run.hold = None
    steering.wait("#state", "learning")


def test_a_missing_browser_skips_with_the_reason_and_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.dashboard.browser.CHROMIUM", tmp_path / "chromium")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="packages chromium and chromium-driver"), chromium(tmp_path):
        pass
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="packages chromium and chromium-driver"), chromium(tmp_path):
        pass
