"""What a collector's process does around its collector."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collectors.worker import _say


def test_where_there_is_no_room_for_words_nothing_but_the_words_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        _say("a SUMO is lost")
