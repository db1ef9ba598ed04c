"""What the tests of the envs share: a cache of their own, and a scenario in which a single vehicle drives through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from envs.scenarios import Scenario, find


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Generated scenarios are built for this test run, not into the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def lone_vehicle(tmp_path: Path) -> Scenario:
    """The network of `single`, with one vehicle that departs at 5 s and has left long before 200 s."""
    network = find("single").config.with_name("single.net.xml")
    (tmp_path / "lone.rou.xml").write_text('<routes><trip id="a" depart="5" from="left0A0" to="A0right0"/></routes>')
    config = tmp_path / "lone.sumocfg"
    config.write_text(
        f'<configuration><net-file value="{network}"/><route-files value="lone.rou.xml"/>'
        '<begin value="0"/><end value="200"/></configuration>'
    )
    return find(str(config))


@pytest.fixture
def live_sumos() -> Callable[[], list[psutil.Process]]:
    """The SUMO processes that belong to this one."""
    return lambda: [child for child in psutil.Process().children() if child.name() == "sumo"]
