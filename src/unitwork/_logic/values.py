"""This module makes of a value from the database what an annotation says it is.

SQL text has no result types: SQLite gives dates as text and booleans as numbers, and a sum is a
decimal on one database and an integer on another. The annotation is the truth.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Any

Converter: typing.TypeAlias = Callable[[Any], Any]


class ValueTypeError(Exception):
    """A value is not what the annotation says, and cannot become it; the text tells both types."""


def _whole(value: object) -> object:
    if isinstance(value, decimal.Decimal | float) and value == int(value):
        return int(value)
    return value


def _number(value: object) -> object:
    return float(value) if isinstance(value, int | decimal.Decimal) else value


def _decimal(value: object) -> object:
    # By way of the text: 0.1 is meant, not the nearest binary number.
    return decimal.Decimal(str(value)) if isinstance(value, int | float | str) else value


def _truth(value: object) -> object:
    return bool(value) if isinstance(value, int | decimal.Decimal) else value


def _moment(value: object) -> object:
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value


def _day(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.date()
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


def _clock(value: object) -> object:
    if isinstance(value, dt.timedelta):  # MariaDB's TIME
        return (dt.datetime(1, 1, 1) + value).time()  # noqa: DTZ001  # a time of day has no zone
    return dt.time.fromisoformat(value) if isinstance(value, str) else value


def _identifier(value: object) -> object:
    if isinstance(value, bytes):
        return uuid.UUID(bytes=value)
    return uuid.UUID(value) if isinstance(value, str) else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID) else value


def _binary(value: object) -> object:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


# bool before int, and datetime before date: each is a kind of the other.
_CONVERTERS: Mapping[type, Converter] = {
    bool: _truth,
    int: _whole,
    float: _number,
    decimal.Decimal: _decimal,
    dt.datetime: _moment,
    dt.date: _day,
    dt.time: _clock,
    dt.timedelta: lambda value: value,
    uuid.UUID: _identifier,
    str: _text,
    bytes: _binary,
}
SCALARS: tuple[type, ...] = tuple(_CONVERTERS)


def converter_for(annotation: object) -> Converter | None:
    """Return what makes a value of this type; None if values are taken as they come."""
    optional = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and type(None) in optional:
        members = [member for member in optional if member is not type(None)]
        return converter_for(members[0]) if len(members) == 1 else None
    if not isinstance(annotation, type):
        return None
    if issubclass(annotation, enum.Enum):
        return _member_converter(annotation)
    change = _CONVERTERS.get(annotation)
    return None if change is None else _checked(annotation, change)


def _checked(kind: type, change: Converter) -> Converter:
    exact = (kind, type(None))

    def convert(value: Any) -> Any:  # noqa: ANN401  # a value of any type
        if type(value) in exact:
            return value
        try:
            changed = change(value)
        except (ValueError, ArithmeticError):
            changed = None
        if not isinstance(changed, kind) or (kind is int and isinstance(changed, bool)):
            raise ValueTypeError(kind.__name__, type(value).__name__)
        return changed

    return convert


def _member_converter(kind: type[enum.Enum]) -> Converter:
    def convert(value: Any) -> Any:  # noqa: ANN401  # a value of any type
        if value is None or isinstance(value, kind):
            return value
        # SQLAlchemy stores names, other programs often values.
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        try:
            return kind(value)
        except ValueError:
            raise ValueTypeError(kind.__name__, type(value).__name__) from None

    return convert
