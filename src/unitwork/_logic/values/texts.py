"""This module writes single values as text, JSON and COPY data, and reads them again."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

Change: TypeAlias = Callable[[Any], Any]

_TRUE = frozenset({"t", "true", "yes", "y", "1"})
_FALSE = frozenset({"f", "false", "no", "n", "0"})
# What files hold, not what Python's source may: no `1_000`, no digits of other alphabets.
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf(?:inity)?)", re.IGNORECASE
)
_LENGTH = re.compile(r"(?:(-?[0-9]+) days?,? ?)?(?:([+-]?)([0-9]+):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,6})?))?")
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_MICROSECOND = dt.timedelta(microseconds=1)
_HEX = "\\x"
_AS_IN_URLS = str.maketrans("-_", "+/")
"""Pydantic writes base64 so that it may stand in a URL."""
_EXACT_MICROSECONDS = 2**53


class UnreadableValueError(ValueError):
    """Text or JSON does not stand for a value of a class; the text says of which."""


def same(value: Any) -> Any:  # noqa: ANN401  # a value of any class
    return value


def refuse(value: object) -> Any:  # noqa: ANN401  # never returns
    raise UnreadableValueError(type(value).__name__)


# --- truth ---


def truth(value: object) -> bool:
    if value not in (0, 1):
        raise UnreadableValueError("a number that is neither 0 nor 1")
    return bool(value)


def read_truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise UnreadableValueError(word)
    return word in _TRUE


# --- numbers ---


def read_whole(text: str) -> int:
    if _WHOLE.fullmatch(text.strip()) is None:
        raise UnreadableValueError(text)
    return int(text)


def whole_of_json(value: Any) -> int:  # noqa: ANN401  # of JSON
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        return refuse(value)  # type: ignore[no-any-return]  # it raises
    if value != int(value):
        raise UnreadableValueError(str(value))
    return int(value)


def checked_number(text: str) -> str:
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped) is None:
        raise UnreadableValueError(text)
    return stripped


def number_of_json(kind: type) -> Change:
    def read(value: object) -> Any:  # noqa: ANN401  # a number
        if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
            return refuse(value)
        # By way of the text: 0.1 is meant, not the nearest binary number.
        return value if type(value) is kind else kind(str(value))

    return read


def exact_number(value: Any) -> decimal.Decimal:  # noqa: ANN401  # a number
    if isinstance(value, float):
        return decimal.Decimal(repr(float(value)))
    return decimal.Decimal(int(value)) if isinstance(value, int) else value


def float_json(value: float) -> object:
    return value if math.isfinite(value) else repr(value)


# --- text and bytes ---


def plain_text(value: str) -> str:
    # An enum that is also a text says its name in str().
    return str.__str__(value) if isinstance(value, enum.Enum) else str(value)


def text_of_json(value: object) -> str:
    if isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool):
        return str(value)
    return refuse(value)  # type: ignore[no-any-return]  # it raises


def as_hex(value: bytes | bytearray | memoryview) -> str:
    return f"{_HEX}{bytes(value).hex()}"


def read_bytes(text: str) -> bytes:
    if text.startswith(_HEX):
        return bytes.fromhex(text[2:])
    return base64.b64decode(text.translate(_AS_IN_URLS), validate=True)


def bytes_of_json(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else refuse(value)


# --- JSON ---


def json_text(value: object) -> str:
    """Write JSON in characters that UTF-8 has: halves of a pair stay escapes, as databases hold them."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _HALF_OF_A_PAIR.search(text) else text


# --- times ---


DAYS = (dt.date, dt.datetime)
ENDS_OF_TIME = frozenset({"infinity", "-infinity"})


def endless(kind: Any) -> Callable[[str], Any]:  # noqa: ANN401  # date or datetime
    """Read a day or time; PostgreSQL has an end of time, which asyncpg takes for Python's."""
    ends = {"infinity": kind.max, "-infinity": kind.min}

    def read(text: str) -> Any:  # noqa: ANN401  # a date or datetime
        return ends[text] if text in ends else kind.fromisoformat(text)

    return read


def day(value: dt.date) -> dt.date:
    return value.date() if isinstance(value, dt.datetime) else value


def day_of_json(value: object) -> dt.date:
    if isinstance(value, dt.datetime) and value.time() != dt.time():
        return refuse(value)  # type: ignore[no-any-return]  # it raises
    return day(value) if isinstance(value, dt.date) else refuse(value)


def only(kind: type) -> Change:
    return lambda value: value if isinstance(value, kind) else refuse(value)


def length(value: dt.timedelta) -> str:
    seconds = decimal.Decimal(value // _MICROSECOND).scaleb(-6)
    return f"{seconds.normalize():f}"


def read_length(text: str) -> dt.timedelta:
    """Read seconds, or what Python's `str()` and PostgreSQL write: `1 day, 2:03:04.5`."""
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped) is not None:
        return of_seconds(decimal.Decimal(stripped))
    found = _LENGTH.fullmatch(stripped)
    if found is None or not stripped:
        raise UnreadableValueError(text)
    days, sign, hours, minutes, seconds = found.groups()
    clock = dt.timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) + of_seconds(
        decimal.Decimal(seconds or 0)
    )
    return dt.timedelta(days=int(days or 0)) + (-clock if sign == "-" else clock)


def of_seconds(value: decimal.Decimal) -> dt.timedelta:
    microseconds = value.scaleb(6)
    return dt.timedelta(microseconds=int(microseconds.to_integral_value()))


def length_json(value: dt.timedelta) -> object:
    exact = abs(value // _MICROSECOND) < _EXACT_MICROSECONDS
    return value.total_seconds() if exact else length(value)


def length_of_json(value: Any) -> dt.timedelta:  # noqa: ANN401  # of JSON
    if isinstance(value, dt.timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        return refuse(value)  # type: ignore[no-any-return]  # it raises
    return of_seconds(decimal.Decimal(str(value)))


def copied_length(value: dt.timedelta) -> str:
    # Days apart, as the drivers bind them; the sign of each, whatever the server's interval style is.
    rest = value - dt.timedelta(days=value.days)
    return f"{value.days} days +{rest // _MICROSECOND} microseconds"


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copied_text(value: str) -> str:
    """Write a text as COPY reads it."""
    return value.translate(_ESCAPES)
