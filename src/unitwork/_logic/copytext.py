"""This module writes rows as PostgreSQL's COPY reads them: as text, with a tab between values."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

Writer: TypeAlias = Callable[[Any], str]

NULL = "\\N"
_SPECIAL = ("\\", "\t", "\n", "\r")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_TRUTH = {True: "t", False: "f"}
_MICROSECOND = dt.timedelta(microseconds=1)


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _interval(value: dt.timedelta) -> str:
    return f"{value // _MICROSECOND} microseconds"


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return f"\\\\x{value.hex()}"


def _null(_value: None) -> str:
    return NULL


_WRITERS: dict[type, Writer] = {
    type(None): _null,
    bool: _TRUTH.__getitem__,
    int: int.__repr__,
    float: float.__repr__,
    str: _escaped,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    decimal.Decimal: str,
    dt.datetime: dt.datetime.isoformat,
    dt.date: dt.date.isoformat,
    dt.time: dt.time.isoformat,
    dt.timedelta: _interval,
    uuid.UUID: str,
}


def writer_for(kind: type) -> Writer | None:
    """Return how values of a class are written; None if COPY cannot take them."""
    found = _WRITERS.get(kind)
    if found is None and not (issubclass(kind, enum.Enum) and not issubclass(kind, str | int)):
        found = next((_WRITERS[base] for base in kind.__mro__ if base in _WRITERS), None)
    if found is None and hasattr(kind, "obj") and hasattr(kind, "dumps"):
        return _wrapped_json
    return found


def _wrapped_json(value: Any) -> str:  # noqa: ANN401  # psycopg's Json and Jsonb
    dumps: Callable[[object], str | bytes] = value.dumps or json.dumps
    written = dumps(value.obj)
    return _escaped(written.decode() if isinstance(written, bytes) else written)


def column_text(values: Sequence[Any], kinds: set[type]) -> Iterable[str]:
    """Write the values of one column; `kinds` are their classes."""
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is str:
            # Looking for what must be escaped costs far less than escaping.
            together = "".join(values)
            return values if not any(mark in together for mark in _SPECIAL) else map(_escaped, values)
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
