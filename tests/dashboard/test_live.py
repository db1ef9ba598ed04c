"""A real run, watched and steered by somebody with a browser; what the page says is held against the control socket."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from selenium.webdriver import Keys

from collectors.client import request
from collectors.wire import socket_name
from tests.dashboard.browser import Viewer
from tests.support.runs import TrainRun
from tests.support.waiting import wait_for

PATIENCE = 10.0  # s for the run to answer
LIMIT = 60.0  # s for simulations to start

ROWS = """
return [...document.querySelectorAll("#collectors tbody tr")].map((row) => Object.fromEntries(
  [...row.querySelectorAll("td:not(.steer)")].map((cell) => [cell.dataset.title, cell.textContent])));
"""
LINES = 'return [...document.querySelectorAll(".tile .spark .line")].map((line) => line.getAttribute("d") ?? "")'
TILES = """
return Object.fromEntries([...document.querySelectorAll(".tile")].map((tile) => [tile.dataset.figure,
  [...tile.querySelectorAll(".value, .quiet")].map((text) => text.textContent).join(" | ")]));
"""
# Whatever the collectors do, as long as they are the same.
LASTING = ("Collector", "Envs", "Process", "SUMO")


def tell(run: TrainRun, command: str) -> dict[str, Any]:
    return request(run.folder, socket_name(0), {"command": command}, PATIENCE)


def rows_of(status: dict[str, Any]) -> list[dict[str, str]]:
    """What the page should say of each collector."""
    return [
        {
            "Rank": "0",
            "Collector": str(row["collector"]),
            "State": row["state"],
            "Envs": ", ".join(map(str, row["envs"])),
            **{title: f"{row[title.lower()]:,}" for title in ("Decisions", "Episodes", "Version", "Restarts")},
            "Process": str(row["pid"]),
            "SUMO": ", ".join(map(str, row["sumo"])),
            "Last trouble": "–",
        }
        for row in status["collectors"]
    ]


def lasting(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    return [tuple(row[title] for title in LASTING) for row in rows]


@pytest.mark.timeout(300)  # a run's start, its first episodes, two starts of simulations and its end, each with a bound
def test_a_real_run_is_seen_and_steered(viewer: Viewer, tmp_path: Path) -> None:
    with TrainRun(tmp_path, "--time-limit", "none", "--dashboard", "127.0.0.1:0", "--num-collectors", "1") as run:
        run.wait_for_output("#token=")
        found = re.search(r"web page ((http://127\.0\.0\.1:\d+/)#token=\S+)", run.output)
        assert found is not None
        viewer.open(found[1])
        assert viewer.driver.current_url == found[2], "the token is out of sight"

        # Figures in every tile
        run.wait_for(lambda: viewer.text("#state") == "learning", "the page says that it learns")
        run.wait_for(lambda: len(tiles := viewer.run(TILES)) == 8 and "–" not in str(tiles), "figures in every tile")
        run.wait_for(lambda: all("L" in line for line in viewer.run(LINES)), "a line in every tile")
        assert "NaN" not in str(viewer.run(LINES))
        assert float(viewer.text("[data-figure=decisions_per_second] .value").replace(",", "")) > 0
        assert int(viewer.text("#totals div:nth-child(2) dd").replace(",", "")) > 0, "the version of the weights"
        assert "–" not in viewer.text("#totals")

        # Pause: nothing moves, so that everything must agree
        viewer.find("#pause button").click()
        viewer.wait("#outcome", "pause all: done")
        run.wait_for(lambda: tell(run, "status")["state"] == "paused", "the run rests")
        viewer.wait("#state", "paused")
        paused = tell(run, "status")
        run.wait_for(lambda: viewer.run(ROWS) == rows_of(paused), f"a table that says {rows_of(paused)}")
        assert rows_of(tell(run, "status")) == rows_of(paused)
        with urllib.request.urlopen(found[2] + "metrics", timeout=PATIENCE) as reply:
            families = {family.name: family for family in text_string_to_metric_families(reply.read().decode())}
        assert [sample.value for sample in families["platoon_decisions"].samples] == [paused["decisions"]]
        assert [sample.value for sample in families["platoon_collector_up"].samples] == [1.0]

        # Resume
        viewer.find("#resume button").click()
        viewer.wait("#outcome", "resume all: done")
        run.wait_for(lambda: tell(run, "status")["decisions"] > paused["decisions"], "more decisions")
        viewer.wait("#state", "learning")
        run.wait_for(lambda: viewer.run(ROWS)[0]["State"] in ("running", "waiting"), "the collector is at work")

        # Scale
        number = viewer.find("#num-envs")
        assert number.get_attribute("value") == "2"
        number.send_keys(Keys.BACKSPACE, "3")
        viewer.find("#scale button").click()
        viewer.wait("#outcome", "scale to 3 simulations: done")
        wait_for(lambda: len(tell(run, "status")["collectors"][0]["sumo"]) == 3, "three SUMOs", LIMIT)
        scaled = tell(run, "status")
        assert (scaled["num_envs"], scaled["collectors"][0]["envs"]) == (3, [0, 1, 2])
        run.wait_for(lambda: lasting(viewer.run(ROWS)) == lasting(rows_of(scaled)), "three simulations in the table")
        assert viewer.text("#totals div:nth-child(3) dd") == "3"
        wait_for(lambda: viewer.text("#state") == "learning", "it goes on")
        assert not viewer.complaints()

        # The end
        tell(run, "stop")
        viewer.wait("#state", "no answer")
        run.finish()
