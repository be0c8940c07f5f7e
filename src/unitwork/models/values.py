"""This module converts single values to what JSON can hold, and back."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import types
from sqlalchemy.types import TypeEngine

from unitwork.errors import OptionError
from unitwork.models.timestamps import UTCDateTime

__all__: list[str] = []

_TO: tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...] = (
    (enum.Enum, lambda value: value.value),
    ((dt.date, dt.time), lambda value: value.isoformat()),
    (dt.timedelta, lambda value: value.total_seconds()),
    ((uuid.UUID, decimal.Decimal), str),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode("ascii")),
)

# Most special first: an Enum is a String for SQLAlchemy.
_FROM: tuple[tuple[tuple[type[TypeEngine[Any]], ...], Callable[[str], object]], ...] = (
    ((types.Uuid,), uuid.UUID),
    ((types.DateTime, UTCDateTime), dt.datetime.fromisoformat),
    ((types.Date,), dt.date.fromisoformat),
    ((types.Time,), dt.time.fromisoformat),
    ((types.Float,), float),
    ((types.Numeric,), decimal.Decimal),
    ((types.LargeBinary,), base64.b64decode),
)


def to_json(name: str, value: object) -> object:
    """Return what `json.dumps` can write.

    Raises:
        OptionError: There is no such form for this value.
    """
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(name, item) for item in value]
    convert = next((convert for kinds, convert in _TO if isinstance(value, kinds)), None)
    if convert is None:
        raise OptionError(f"dump_model, for {name},", type(value).__name__, ["`to_dict`", "other `fields`"])
    return convert(value)


def from_json(name: str, value: object, kind: TypeEngine[Any]) -> object:
    """Return what a column of this type holds for a value that JSON held.

    Raises:
        OptionError: The value cannot be read.
    """
    convert = _converter(kind)
    if convert is None or not isinstance(value, str | int | float) or isinstance(value, enum.Enum):
        return value
    try:
        return convert(value)
    except (ValueError, ArithmeticError):
        # The value itself is left out: it may be a secret.
        raise OptionError(name, type(value).__name__, [f"what {kind!r} can hold"]) from None


def _converter(kind: TypeEngine[Any]) -> Callable[[Any], object] | None:
    if isinstance(kind, types.Enum):
        return kind.enum_class
    if isinstance(kind, types.Interval):
        return lambda value: dt.timedelta(seconds=float(value))
    found = next((convert for kinds, convert in _FROM if isinstance(kind, kinds)), None)
    return None if found is None else _of_text(found)


def _of_text(convert: Callable[[str], object]) -> Callable[[Any], object]:
    return lambda value: convert(value) if isinstance(value, str) else value
