"""The scenarios of a run: one name or several."""

from __future__ import annotations

from pathlib import Path

import pytest

from collectors.places import find_places, names_in
from envs.errors import ScenarioError
from tests.support.plans import arterial, single


@pytest.mark.parametrize(
    ("text", "names"),
    [("single", ["single"]), ("single,arterial", ["single", "arterial"]), (" a , b,c ", ["a", "b", "c"])],
)
def test_names_are_separated_by_commas(text: str, names: list[str]) -> None:
    assert names_in(text) == names


def test_a_file_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a,b.sumocfg"
    path.touch()
    assert names_in(str(path)) == [str(path)]


@pytest.mark.parametrize(
    ("text", "says"),
    [("a,,b", "before or behind a comma"), ("a,", "before or behind"), ("a,b,a", "'a' is named twice")],
)
def test_what_makes_no_sense_is_said(text: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        names_in(text)


def test_each_place_has_its_own_network() -> None:
    places = find_places("single,arterial", 60.0)
    assert [place.name for place in places] == ["single", "arterial"]
    for place, alone in zip(places, (single(), arterial()), strict=True):
        assert place.network.lane_ids == alone.network.lane_ids
    words = [
        f"{count} with {place.network.num_phases} green"
        for count, place in zip(("1 signal", "5 signals"), places, strict=True)
    ]
    assert [str(place).split(" phases")[0] for place in places] == [f"single: {words[0]}", f"arterial: {words[1]}"]


def test_a_name_that_nobody_has_is_named_before_anything_is_opened() -> None:
    with pytest.raises(ScenarioError, match="unknown scenario 'singel'"):
        find_places("single,singel", 60.0)
