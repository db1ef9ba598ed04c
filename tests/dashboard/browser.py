"""A headless Chromium of this machine, and what a test looks for in a page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.waiting import wait_for

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1360,1000"
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """A browser with a fresh profile; skips, or fails where CI runs, when there is none."""
    missing = [str(path) for path in (CHROMIUM, DRIVER) if not path.exists()]
    if missing:
        why = f"{' and '.join(missing)} missing: install Debian's packages chromium and chromium-driver"
        if "CI" in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*_FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    try:
        driver.set_page_load_timeout(30)
        driver.set_script_timeout(30)
        yield driver
    finally:
        driver.quit()


class Viewer:
    """Somebody who looks at a page."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        driver.get("about:blank")
        self.complaints()
        self.requests()

    def open(self, url: str) -> None:
        self.driver.get("about:blank")  # another fragment alone would not load the page anew
        self.driver.get(url)

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """What the element says now; read in one go, as the page may change at any time."""
        found = self.run("return document.querySelector(arguments[0])?.textContent ?? ''", css)
        assert isinstance(found, str)
        return found

    def wait(self, css: str, text: str) -> None:
        wait_for(lambda: text in self.text(css), f"{text!r} in {css}, which says {self.text(css)!r}")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def run_async(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_async_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the console says since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since this was last asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [parameters["request"]["url"] for parameters in sent]
