"""A page of a run that pretends, and a browser to look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

from dashboard import Dashboard
from tests.dashboard.browser import Viewer, chromium
from tests.dashboard.fakes import FakeRun
from tests.dashboard.talk import TOKEN


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def dashboard(run: FakeRun) -> Iterator[Dashboard]:
    with Dashboard("127.0.0.1:0", TOKEN, **run.functions()) as served:
        yield served


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def viewer(driver: Chrome) -> Iterator[Viewer]:
    yield Viewer(driver)
    driver.get("about:blank")
