"""Rows are written as PostgreSQL reads them."""

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitwork._logic.copytext import block, column_text


class Number(enum.IntEnum):
    """A number with a name."""

    ONE = 1


class Word(str, enum.Enum):  # noqa: UP042  # its str() is not its value
    """A word with a name."""

    TAB = "a\tb"


def written(values: list[Any]) -> list[str]:
    """The values of one column, as text."""
    return list(column_text(values, set(map(type, values))))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\\N"),
        (True, "t"),
        (7, "7"),
        (1.5, "1.5"),
        (Decimal("1.50"), "1.50"),
        ("ü\t\\\n\r", "ü\\t\\\\\\n\\r"),
        ("\\N", "\\\\N"),
        (b"\x00\xff", "\\\\x00ff"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=dt.UTC), "2024-02-29T01:02:03.000004+00:00"),
        (dt.timedelta(days=-1, microseconds=1), "-1 days +1 microseconds"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Number.ONE, "1"),
        (Word.TAB, "a\\tb"),
    ],
)
def test_value_is_written_as_copy_reads_it(value: object, text: str) -> None:
    """Alone, and beside values of another class."""
    assert written([value]) == [text]
    assert written([value, None]) == [text, "\\N"]


@given(st.lists(st.tuples(st.text(), st.none() | st.integers()), min_size=1))
def test_what_is_written_can_be_read_again(rows: list[tuple[str, int | None]]) -> None:
    """Every text survives, whatever it holds."""
    data = block([written([row[0] for row in rows]), written([row[1] for row in rows])]).decode()

    lines = data.removesuffix("\n").split("\n")
    read = [tuple(_read(part) for part in line.split("\t")) for line in lines]
    assert read == [(text, None if number is None else str(number)) for text, number in rows]


def _read(text: str) -> str | None:
    if text == "\\N":
        return None
    marks = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    found, place = "", 0
    while place < len(text):
        escaped = text[place] == "\\"
        found += marks[text[place + 1]] if escaped else text[place]
        place += 2 if escaped else 1
    return found


def test_unknown_class_is_refused() -> None:
    """What COPY has no text for is not guessed."""
    with pytest.raises(TypeError, match="object"):
        written([object()])
