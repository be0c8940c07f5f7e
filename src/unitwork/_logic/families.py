"""This module decides whether values of one type can stand where a database has another."""

from __future__ import annotations

import collections.abc
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any

from unitwork._logic.paging import CursorRequest, PageRequest

# What a parameter of this type may be compared with or stored in.
_AS_PARAMETER: Mapping[type, frozenset[type]] = {
    bool: frozenset({bool, int}),
    int: frozenset({int, float, decimal.Decimal}),
    float: frozenset({float, decimal.Decimal}),
    decimal.Decimal: frozenset({decimal.Decimal, float, int}),
    str: frozenset({str}),
    bytes: frozenset({bytes}),
    dt.datetime: frozenset({dt.datetime, dt.date}),
    dt.date: frozenset({dt.date, dt.datetime}),
    dt.time: frozenset({dt.time}),
    dt.timedelta: frozenset({dt.timedelta}),
    uuid.UUID: frozenset({uuid.UUID}),
}
# What a column may be whose values become this type; see `values`.
_AS_RESULT: Mapping[type, frozenset[type]] = {
    **_AS_PARAMETER,
    float: frozenset({float, decimal.Decimal, int}),
    decimal.Decimal: frozenset({decimal.Decimal, float, int, str}),
    str: frozenset({str, uuid.UUID}),
    dt.datetime: frozenset({dt.datetime, str}),
    dt.date: frozenset({dt.date, dt.datetime, str}),
    dt.time: frozenset({dt.time, dt.timedelta, str}),
    uuid.UUID: frozenset({uuid.UUID, str, bytes}),
}
_SAMPLES: Mapping[type, object] = {
    bool: True,
    int: 1,
    float: 1.0,
    decimal.Decimal: decimal.Decimal(1),
    str: "x",
    bytes: b"x",
    dt.datetime: dt.datetime(2000, 1, 1),  # noqa: DTZ001  # columns without a zone take no other
    dt.date: dt.date(2000, 1, 1),
    dt.time: dt.time(1),
    dt.timedelta: dt.timedelta(1),
    uuid.UUID: uuid.UUID(int=1),
    dict: {},
    PageRequest: PageRequest(),
    CursorRequest: CursorRequest(),
}
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_LISTS_TOO = (*_LISTS, collections.abc.Collection, collections.abc.Set)


def fits_parameter(annotation: object, wanted: type) -> bool:
    """Say whether values with this annotation can be compared with values of this type."""
    return _fits(annotation, wanted, _AS_PARAMETER)


def fits_result(annotation: object, given: type) -> bool:
    """Say whether values of this type can become what the annotation says."""
    return _fits(annotation, given, _AS_RESULT)


def _fits(annotation: object, other: type, table: Mapping[type, frozenset[type]]) -> bool:
    kind = plain_type(annotation)
    if kind not in table or other not in table:
        return True  # what is not known is not refused
    return other in table[kind]


def plain_type(annotation: object) -> Any:  # noqa: ANN401  # a class, or None
    """Return the class of one value, without `| None` and lists; None if it is not known."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not type(None)]
        return plain_type(members[0]) if len(members) == 1 else None
    if origin in _LISTS_TOO:
        return plain_type(arguments[0]) if arguments else None
    return annotation if isinstance(annotation, type) else None


def sample(annotation: object) -> Any:  # noqa: ANN401  # a value of any type
    """Return a value that a parameter with this annotation may have; None if none is known."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not type(None)]
        return sample(members[0]) if members else None
    if origin is typing.Literal:
        return arguments[0]
    if (origin or annotation) in _LISTS_TOO:
        return [sample(arguments[0]) if arguments else None]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return next(iter(annotation), None)
    kind: Any = origin or annotation
    return _SAMPLES.get(kind)
