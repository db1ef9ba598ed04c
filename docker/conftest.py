"""Tests of the image are not in ``make test``: they need an engine, which ``docker/test-image.sh`` finds or makes."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Told by docker/test-image.sh."""
    parser.addoption("--engine", choices=("docker", "podman"), help="the program that runs containers")
    parser.addoption("--image", default="platoon:test", help="the image's name")


def pytest_configure(config: pytest.Config) -> None:
    """Without an engine there is nothing to test."""
    if config.getoption("--engine") is None:
        raise pytest.UsageError("the image is tested by docker/test-image.sh, which names an --engine")
