"""This module says what each Python class of values means, once for all floors."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from unitwork._logic.values import texts
from unitwork._logic.values.texts import Change

_Kinds: TypeAlias = frozenset[type]


class ValueClass(NamedTuple):
    """What values of one Python class are to every floor."""

    kind: type
    accepts: tuple[type, ...]
    """Classes of values that may be stored where this one is held."""
    normal: Change
    """Makes a value of an accepted class one of `kind`; ValueError if this one stands for none."""
    answer: Change
    """Makes what a database may answer a value of `kind`; other values stay."""
    compared: _Kinds
    """Classes of columns that a parameter of `kind` may be compared with."""
    answered: _Kinds
    """Classes of columns whose values `answer` knows."""
    sample: object
    copied: Callable[[Any], str]
    """Writes a value as PostgreSQL's COPY reads it."""
    text: Callable[[Any], str]
    """Writes a value as the files of `unitwork dump` hold it."""
    read: Callable[[str], Any]
    """Reads what `text` writes, and what PostgreSQL's CSV holds; ValueError if it is none."""
    json: Change
    """Writes a value as JSON holds it; text where JSON has nothing as exact."""
    read_json: Change
    """Reads what JSON, or a file that knows types, holds; ValueError or TypeError if it is none."""
    tag: str = ""
    """What marks the text of a value in a cursor; without one JSON holds the value itself."""


# --- what databases answer ---


def _answered_whole(value: object) -> object:
    return int(value) if isinstance(value, decimal.Decimal | float) and value == int(value) else value


def _answered_decimal(value: object) -> object:
    return decimal.Decimal(str(value)) if isinstance(value, int | float | str) else value


def _answered_clock(value: object) -> object:
    if isinstance(value, dt.timedelta):  # MariaDB's TIME
        return (dt.datetime(1, 1, 1) + value).time()  # noqa: DTZ001  # a time of day has no zone
    return dt.time.fromisoformat(value) if isinstance(value, str) else value


def _answered_day(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.date()
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


def _answered_identifier(value: object) -> object:
    if isinstance(value, bytes):
        return uuid.UUID(bytes=value)
    return uuid.UUID(value) if isinstance(value, str) else value


# bool before int, and datetime before date: each is a kind of the other.
_ALL = (
    ValueClass(
        kind=bool,
        accepts=(bool, int),
        normal=texts.truth,
        answer=lambda value: bool(value) if isinstance(value, int | decimal.Decimal) else value,
        compared=frozenset({bool, int}),
        answered=frozenset({bool, int}),
        sample=True,
        copied={True: "t", False: "f"}.__getitem__,
        text=lambda value: "t" if value else "f",
        read=texts.read_truth,
        json=texts.same,
        read_json=lambda value: texts.truth(value) if isinstance(value, int) else texts.refuse(value),
    ),
    ValueClass(
        kind=int,
        accepts=(int,),
        normal=int,
        answer=_answered_whole,
        compared=frozenset({int, float, decimal.Decimal}),
        answered=frozenset({int, float, decimal.Decimal}),
        sample=1,
        copied=int.__repr__,
        text=int.__repr__,
        read=texts.read_whole,
        json=int,
        read_json=texts.whole_of_json,
    ),
    ValueClass(
        kind=float,
        accepts=(int, float, decimal.Decimal),
        normal=float,
        answer=lambda value: float(value) if isinstance(value, int | decimal.Decimal) else value,
        compared=frozenset({float, decimal.Decimal}),
        answered=frozenset({float, decimal.Decimal, int}),
        sample=1.0,
        copied=float.__repr__,
        text=lambda value: repr(float(value)),  # SQLite answers a whole number as one
        read=lambda text: float(texts.checked_number(text)),
        json=texts.float_json,
        read_json=texts.number_of_json(float),
    ),
    ValueClass(
        kind=decimal.Decimal,
        accepts=(int, float, decimal.Decimal),
        normal=texts.exact_number,
        answer=_answered_decimal,
        compared=frozenset({decimal.Decimal, float, int}),
        answered=frozenset({decimal.Decimal, float, int, str}),
        sample=decimal.Decimal(1),
        copied=str,
        text=str,
        read=lambda text: decimal.Decimal(texts.checked_number(text)),
        json=str,
        read_json=texts.number_of_json(decimal.Decimal),
        tag="n",
    ),
    ValueClass(
        kind=dt.datetime,
        accepts=(dt.datetime,),
        normal=texts.same,
        answer=lambda value: dt.datetime.fromisoformat(value) if isinstance(value, str) else value,
        compared=frozenset({dt.datetime, dt.date}),
        answered=frozenset({dt.datetime, str}),
        sample=dt.datetime(2000, 1, 1),  # noqa: DTZ001  # columns without a zone take no other
        copied=dt.datetime.isoformat,
        text=dt.datetime.isoformat,
        read=texts.endless(dt.datetime),
        json=dt.datetime.isoformat,
        read_json=texts.only(dt.datetime),
        tag="t",
    ),
    ValueClass(
        kind=dt.date,
        accepts=(dt.date,),
        normal=texts.day,
        answer=_answered_day,
        compared=frozenset({dt.date, dt.datetime}),
        answered=frozenset({dt.date, dt.datetime, str}),
        sample=dt.date(2000, 1, 1),
        copied=dt.date.isoformat,
        text=dt.date.isoformat,
        read=texts.endless(dt.date),
        json=dt.date.isoformat,
        read_json=texts.day_of_json,
        tag="d",
    ),
    ValueClass(
        kind=dt.time,
        accepts=(dt.time,),
        normal=texts.same,
        answer=_answered_clock,
        compared=frozenset({dt.time}),
        answered=frozenset({dt.time, dt.timedelta, str}),
        sample=dt.time(1),
        copied=dt.time.isoformat,
        text=dt.time.isoformat,
        read=dt.time.fromisoformat,
        json=dt.time.isoformat,
        read_json=texts.only(dt.time),
        tag="c",
    ),
    ValueClass(
        kind=dt.timedelta,
        accepts=(dt.timedelta,),
        normal=texts.same,
        answer=texts.same,
        compared=frozenset({dt.timedelta}),
        answered=frozenset({dt.timedelta}),
        sample=dt.timedelta(1),
        copied=texts.copied_length,
        text=texts.length,
        read=texts.read_length,
        json=texts.length_json,
        read_json=texts.length_of_json,
        tag="i",
    ),
    ValueClass(
        kind=uuid.UUID,
        accepts=(uuid.UUID,),
        normal=texts.same,
        answer=_answered_identifier,
        compared=frozenset({uuid.UUID}),
        answered=frozenset({uuid.UUID, str, bytes}),
        sample=uuid.UUID(int=1),
        copied=str,
        text=str,
        read=uuid.UUID,
        json=str,
        read_json=texts.only(uuid.UUID),
        tag="u",
    ),
    ValueClass(
        kind=str,
        accepts=(str,),
        normal=texts.plain_text,
        answer=lambda value: str(value) if isinstance(value, uuid.UUID) else value,
        compared=frozenset({str}),
        answered=frozenset({str, uuid.UUID}),
        sample="x",
        copied=texts.copied_text,
        text=texts.plain_text,
        read=texts.same,
        json=texts.plain_text,
        read_json=texts.text_of_json,
    ),
    ValueClass(
        kind=bytes,
        accepts=(bytes, bytearray, memoryview),
        normal=bytes,
        answer=lambda value: bytes(value) if isinstance(value, bytearray | memoryview) else value,
        compared=frozenset({bytes}),
        answered=frozenset({bytes}),
        sample=b"x",
        copied=lambda value: f"\\{texts.as_hex(value)}",
        text=texts.as_hex,
        read=texts.read_bytes,
        json=lambda value: base64.b64encode(value).decode("ascii"),
        read_json=texts.bytes_of_json,
        tag="b",
    ),
)
CLASSES: Mapping[type, ValueClass] = {each.kind: each for each in _ALL}
SCALARS: tuple[type, ...] = tuple(CLASSES)


def class_of(value: object) -> ValueClass | None:
    """Return what is known of the class of a value, or of the first known class above it."""
    return next((CLASSES[base] for base in type(value).__mro__ if base in CLASSES), None)


def known_class(kind: object) -> ValueClass | None:
    """Return what is known of a class itself, or of the first known class above it; enums are their own."""
    if not isinstance(kind, type) or issubclass(kind, enum.Enum):
        return None
    return next((CLASSES[base] for base in kind.__mro__ if base in CLASSES), None)
