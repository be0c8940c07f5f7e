"""This module writes and reads the ranges and multiranges of PostgreSQL, as PostgreSQL itself does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Date, DateTime, Integer, Numeric
from sqlalchemy.types import TypeEngine

from unitwork._logic.values.texts import UnreadableValueError
from unitwork._sqlalchemy.dialects import is_of, postgresql

_TYPES = "sqlalchemy.dialects.postgresql.ranges"
_BOUNDS: Mapping[str, TypeEngine[Any]] = {
    "INT4RANGE": Integer(),
    "INT8RANGE": Integer(),
    "NUMRANGE": Numeric(),
    "DATERANGE": Date(),
    "TSRANGE": DateTime(),
    "TSTZRANGE": DateTime(timezone=True),
    "INT4MULTIRANGE": Integer(),
    "INT8MULTIRANGE": Integer(),
    "NUMMULTIRANGE": Numeric(),
    "DATEMULTIRANGE": Date(),
    "TSMULTIRANGE": DateTime(),
    "TSTZMULTIRANGE": DateTime(timezone=True),
}
_EMPTY = "empty"
_BOUND = r'("(?:[^"\\]|\\.|"")*"|[^,()\[\]{}"]*)'
_RANGE = re.compile(rf"\s*(?:([\[(]){_BOUND},{_BOUND}([\])])|({_EMPTY}))\s*", re.IGNORECASE | re.DOTALL)
_ESCAPED = re.compile(r'\\(.)|""', re.DOTALL)


def is_range(kind: object) -> bool:
    """Say whether a type holds ranges, or several of them."""
    return is_of(kind, _TYPES, "AbstractRange")


def bound_type(kind: object) -> TypeEngine[Any] | None:
    """Return the type of the ends of a range; None if nobody has said it."""
    return next((bound for name, bound in _BOUNDS.items() if is_of(kind, _TYPES, name)), None)


def range_text(value: Any, write: Callable[[Any], str]) -> str:  # noqa: ANN401  # a Range, or several
    """Write a range, or several; `write` writes the ends, which hold none of `,()[]{}"`."""
    if not is_of(value, _TYPES, "Range"):
        return "{" + ",".join(range_text(each, write) for each in value) + "}"
    if value.empty:
        return _EMPTY
    lower, upper = ("" if end is None else write(end) for end in (value.lower, value.upper))
    return f"{value.bounds[0]}{lower},{upper}{value.bounds[1]}"


def read_range(text: str, kind: object, read: Callable[[str], Any]) -> Any:  # noqa: ANN401  # a Range, or several
    """Read what `range_text` and PostgreSQL write.

    Raises:
        ValueError: It is none.
    """
    several = is_of(kind, _TYPES, "AbstractMultiRange")
    stripped = text.strip()
    if several and not (stripped.startswith("{") and stripped.endswith("}")):
        raise UnreadableValueError(text)
    found = list(_ranges(stripped[1:-1] if several else stripped, read))
    if several:
        return postgresql.ranges.MultiRange(found)
    if len(found) != 1:
        raise UnreadableValueError(text)
    return found[0]


def _ranges(text: str, read: Callable[[str], Any]) -> Iterator[Any]:
    place = 0
    while place < len(text):
        match = _RANGE.match(text, place)
        place = match.end() if match is not None else place
        if match is None or (place < len(text) and text[place] != ","):
            raise UnreadableValueError(text)
        if place == len(text) - 1:
            raise UnreadableValueError(text)  # nothing after the comma
        place += 1
        opening, lower, upper, closing, empty = match.groups()
        if empty:
            yield postgresql.Range(empty=True)
            continue
        bounds: Any = opening + closing
        yield postgresql.Range(_end(lower, read), _end(upper, read), bounds=bounds)


def _end(text: str, read: Callable[[str], Any]) -> Any:  # noqa: ANN401  # a bound
    if not text:
        return None
    return read(_ESCAPED.sub(lambda mark: mark[1] or '"', text[1:-1]) if text.startswith('"') else text)
