"""This module knows which values a column would take, but not keep as they are.

Databases round and cut without a word: digits after the point, fractions of a second, time zones. What a
person loads from a file must not change so.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unitwork._logic.values.columns import inner_type

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from unitwork._logic.values import ColumnValues

Check = Callable[[Any], str | None]
"""Returns why a value, not None, would not come back as it is; None if it does."""

_FINEST = 6


def check_for(values: ColumnValues, dialect: Dialect) -> Check | None:
    """Return what looks at each value of a column; None if whatever fits its class is kept."""
    if values.changed or values.kind is None:
        return None
    if values.kind is decimal.Decimal:
        return _decimals(getattr(inner_type(values.type, dialect), "scale", None), dialect)
    if values.kind is float:
        return _floats(dialect)
    return _times(values, dialect) if values.kind in (dt.datetime, dt.time) else None


def _decimals(scale: int | None, dialect: Dialect) -> Check:
    by_float = dialect.name == "sqlite"

    def check(value: decimal.Decimal) -> str | None:
        if not value.is_finite():
            return None
        _sign, figures, exponent = value.as_tuple()
        digits = len("".join(map(str, figures)).rstrip("0")) - len(figures) - int(exponent) if value else 0
        if scale is not None and digits > scale:
            return f"has {digits} digits after the point, and the column keeps {scale}"
        if by_float and decimal.Decimal(repr(float(value))) != value:
            return f"has more digits than {dialect.name} keeps"
        return None

    return check


def _floats(dialect: Dialect) -> Check | None:
    if dialect.name != "sqlite":
        return None
    return lambda value: "is not a number, which SQLite keeps as NULL" if math.isnan(value) else None


def _times(values: ColumnValues, dialect: Dialect) -> Check:
    inner: Any = inner_type(values.type, dialect)
    fine = _FINEST if dialect.name not in ("mysql", "mariadb") else getattr(inner, "fsp", None) or 0
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
