"""A position says how far a server has come, in each stream of changes that it has."""

import pytest

from unitwork._logic.positions import Position

PRIMARY = Position.of({"0": 57, "1": 12})


@pytest.mark.parametrize(
    ("numbers", "covers"),
    [
        ({"0": 57, "1": 12}, True),
        ({"0": 58, "1": 12, "2": 1}, True),
        ({"0": 56, "1": 12}, False),
        ({"0": 57}, False),
        ({}, False),
    ],
)
def test_position_covers_what_it_has_in_every_stream(numbers: dict[str, int], *, covers: bool) -> None:
    """Position covers what it has in every stream."""
    assert Position.of(numbers).covers(PRIMARY) is covers


def test_nothing_is_covered_by_everything() -> None:
    """Nothing is covered by everything."""
    assert Position().covers(Position())
    assert PRIMARY.covers(Position())


def test_position_comes_back_from_its_text() -> None:
    """Position comes back from its text."""
    assert Position.read(str(PRIMARY)) == PRIMARY


@pytest.mark.parametrize("text", ["", "0", "0=", "=1", "0=x", "0=-1", "0=1,", "0=٣", "0=1" * 1_000])
def test_text_of_no_position_is_none(text: str) -> None:
    """Text of no position is none."""
    assert Position.read(text) is None
