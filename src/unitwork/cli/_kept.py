"""This module knows which values a column would take, but not keep as they are, and which it has kept.

Databases round and cut without a word: digits after the point, fractions of a second, time zones. What a
person loads from a file must not change so.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, Float, Numeric, Uuid, cast, type_coerce

from unitwork._logic.values.columns import inner_type
from unitwork._logic.values.texts import UnreadableValueError

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork._logic.values import ColumnValues

Check = Callable[[Any], str | None]
"""Returns why a value, not None, would not come back as it is; None if it does."""

Held = Callable[[Any], Any]
"""Makes of what the database holds the value that comes back to it as it is."""

_FINEST = 6
_MARIADB = ("mysql", "mariadb")
_ENDLESS = "is not finite, and MariaDB keeps finite numbers only"
_HEX_OF_UUID = re.compile("[0-9a-fA-F]{32}")
_SINGLE = 24
"""Bits of the digits of a FLOAT of MariaDB; with more it is a DOUBLE."""


def check_for(values: ColumnValues, dialect: Dialect) -> Check | None:
    """Return what looks at each value of a column; None if whatever fits its class is kept."""
    if values.changed or values.kind is None:
        return None
    if values.kind is decimal.Decimal:
        return _decimals(_scale(inner_type(values.type, dialect), dialect), dialect)
    if values.kind is float:
        return _floats(dialect)
    if values.kind is str and isinstance(values.inner, Uuid) and not dialect.supports_native_uuid:
        return _uuids
    return _times(values, dialect) if values.kind in (dt.datetime, dt.time) else None


def held(values: ColumnValues, column: Any, dialect: Dialect) -> tuple[Any, Held | None]:  # noqa: ANN401  # SQL
    """Return what to select of a column to see all that it holds, and what makes values of that.

    SQLAlchemy and drivers show some numbers rounded, or with digits that nobody wrote.
    """
    inner: Any = inner_type(values.type, dialect)
    if values.changed or values.kind not in (float, decimal.Decimal):
        return column, None
    by_float = isinstance(inner, Float) or (isinstance(inner, Numeric) and dialect.name == "sqlite")
    if not by_float:
        return column, None
    single = isinstance(inner, Float) and (inner.precision or 0) <= _SINGLE and not isinstance(inner, Double)
    as_double = dialect.name in _MARIADB and single
    selected: Any = cast(column, Double()) if as_double else type_coerce(column, Double())
    if values.kind is float:
        return (selected, None) if as_double else (column, None)
    return selected, partial(_held_decimal, _scale(inner, dialect))


def _held_decimal(scale: int | None, value: Any) -> decimal.Decimal:  # noqa: ANN401  # a number
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UnreadableValueError(f"a {type(value).__name__} in a column of numbers") from None
    exact = decimal.Decimal(repr(number))
    if scale is None or not exact.is_finite():
        return exact
    if _digits(exact) > scale:
        exact = decimal.Decimal(repr(float(f"{number:.{scale}f}")))  # as every SELECT shows it
    return decimal.Decimal(f"{exact:.{scale}f}")


def _scale(inner: Any, dialect: Dialect) -> int | None:  # noqa: ANN401  # a type
    """Return how many digits after the point a column keeps; None if nothing is known of a bound."""
    scale: int | None = getattr(inner, "scale", None)
    if scale is not None or not isinstance(inner, Numeric) or isinstance(inner, Float):
        return scale
    bare = dialect.name == "sqlite" or (dialect.name == "postgresql" and inner.precision is None)
    return None if bare else 0


def _digits(value: decimal.Decimal) -> int:
    """Count the digits after the point, without zeros at the end."""
    _sign, figures, exponent = value.as_tuple()
    return len("".join(map(str, figures)).rstrip("0")) - len(figures) - int(exponent) if value else 0


def _decimals(scale: int | None, dialect: Dialect) -> Check:
    by_float = dialect.name == "sqlite"
    beyond_numbers = _floats(dialect)

    def check(value: decimal.Decimal) -> str | None:
        if not value.is_finite():
            return beyond_numbers(value) if beyond_numbers is not None else None
        digits = _digits(value)
        if scale is not None and digits > scale:
            return f"has {digits} digits after the point, and the column keeps {scale}"
        if by_float and decimal.Decimal(repr(float(value))) != value:
            return f"has more digits than {dialect.name} keeps"
        return None

    return check


def _floats(dialect: Dialect) -> Check | None:
    if dialect.name in _MARIADB:
        return lambda value: None if math.isfinite(value) else _ENDLESS
    if dialect.name != "sqlite":
        return None
    return lambda value: "is not a number, which SQLite keeps as NULL" if math.isnan(value) else None


def _uuids(value: str) -> str | None:
    # Stored as text, of which SQLAlchemy could not make a value again.
    return None if _HEX_OF_UUID.fullmatch(value.replace("-", "")) else "is no UUID"


def _times(values: ColumnValues, dialect: Dialect) -> Check:
    inner: Any = inner_type(values.type, dialect)
    fine = _FINEST if dialect.name not in _MARIADB else getattr(inner, "fsp", None) or 0
    step = 10 ** (_FINEST - fine)
    zoned = bool(getattr(values.inner, "timezone", False))
    keeps_zones = zoned and dialect.name == "postgresql"

    def check(value: Any) -> str | None:  # noqa: ANN401  # a time or datetime
        if value.microsecond % step:
            return f"has parts of a second, of which the column keeps {fine} digits"
        if value.tzinfo is None or keeps_zones or (zoned and not value.utcoffset()):
            return None
        return "has a time zone, which the column does not keep"

    return check
