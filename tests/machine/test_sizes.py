from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine.memory import available_memory
from machine.sizes import parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("4096B", 4096),
        ("800M", 800 * 2**20),
        ("800 mb", 800 * 2**20),
        ("12G", 12 * 2**30),
        ("12GiB", 12 * 2**30),
        (" 1.5GiB ", 3 * 2**29),
        ("0.5k", 512),
        ("2T", 2**41),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_shares_are_of_all_memory() -> None:
    assert parse_size("100%") == available_memory()
    assert parse_size("50%") == available_memory() // 2
    assert parse_size("12.5 %") == available_memory() // 8


@pytest.mark.parametrize(
    "text",
    ["", "G", "%", "-1G", "+1G", "1e9", "1,5G", "1.G", ".5G", "12 G B", "12iB", "12X", "nan", "1٣", "101%", "0", "0%"],
)
def test_what_is_no_size_is_said_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|must be") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_an_error_of_one_line(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError as error:
        size, said = 1, str(error)
    else:
        said = "fine"
    assert size >= 1
    assert len(said.splitlines()) == 1


@given(st.integers(1, 2**60), st.sampled_from(["", "K", "M", "G", "T"]), st.sampled_from(["", "B"]))
def test_whole_numbers_of_any_unit_are_exact(number: int, unit: str, byte: str) -> None:
    assert parse_size(f"{number}{unit}{byte}") == number * 1024 ** " KMGT".index(unit or " ")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 MiB"), (812 * 2**20, "812 MiB"), (2**30, "1.0 GiB"), (12 * 2**30 + 2**29, "12.5 GiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
