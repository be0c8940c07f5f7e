"""This module writes rows as PostgreSQL's COPY reads them: as text, with a tab between values."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from unitwork._logic.values.classes import CLASSES
from unitwork._logic.values.texts import copied_text

Writer: TypeAlias = Callable[[Any], str]

NULL = "\\N"
_SPECIAL = ("\\", "\t", "\n", "\r")
_DAYS = {dt.date, dt.datetime}
_END_YEARS = {dt.MINYEAR, dt.MAXYEAR}
_ENDS: Mapping[type, Mapping[dt.date, str]] = {
    dt.date: {dt.date.max: "infinity", dt.date.min: "-infinity"},
    dt.datetime: {dt.datetime.max: "infinity", dt.datetime.min: "-infinity"},  # noqa: DTZ901  # as asyncpg compares
}


def writer_for(kind: type) -> Writer | None:
    """Return how values of a class are written; None if COPY cannot take them."""
    if kind is type(None):
        return lambda _value: NULL
    # An enum alone is stored by its name or its value: its type knows which.
    if not issubclass(kind, enum.Enum) or issubclass(kind, str | int):
        for base in kind.__mro__:
            if base in CLASSES:
                return CLASSES[base].copied
    if issubclass(kind, bytearray | memoryview):
        return CLASSES[bytes].copied
    return _wrapped_json if hasattr(kind, "obj") and hasattr(kind, "dumps") else None


def _wrapped_json(value: Any) -> str:  # noqa: ANN401  # psycopg's Json and Jsonb
    dumps: Callable[[object], str | bytes] = value.dumps or json.dumps
    written = dumps(value.obj)
    return copied_text(written.decode() if isinstance(written, bytes) else written)


def with_ends_of_time(values: Sequence[Any]) -> Sequence[Any]:
    """Return days and times, of which asyncpg takes the first and the last for PostgreSQL's ends of time."""
    kinds = set(map(type, values))
    if not kinds & _DAYS or not kinds <= {*_DAYS, type(None)}:
        return values
    if not _END_YEARS & {value.year for value in values if value is not None}:
        return values
    return [_ENDS[type(value)].get(_in_utc(value), value) if value is not None else None for value in values]


def _in_utc(value: dt.date) -> dt.date:
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        return value
    try:
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    except OverflowError:
        return value


def column_text(values: Sequence[Any], kinds: set[type]) -> Iterable[str]:
    """Write the values of one column; `kinds` are their classes."""
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is str:
            # Looking for what must be escaped costs far less than escaping.
            together = "".join(values)
            return values if not any(mark in together for mark in _SPECIAL) else map(copied_text, values)
        return map(_known(kind), values)
    writers = {kind: _known(kind) for kind in kinds}
    return [writers[type(value)](value) for value in values]


def _known(kind: type) -> Writer:
    writer = writer_for(kind)
    if writer is None:
        raise TypeError(kind.__name__)
    return writer


def block(columns: Iterable[Iterable[str]]) -> bytes:
    """Join written columns to the lines of one piece of COPY data."""
    lines: Iterator[str] = map("\t".join, zip(*columns, strict=True))
    return ("\n".join(lines) + "\n").encode()
