"""This module makes of a value from the database what an annotation says it is.

SQL text has no result types: SQLite gives dates as text and booleans as numbers, and a sum is a
decimal on one database and an integer on another. The annotation is the truth.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from typing import Any

from unitwork._logic.values.annotations import refuses_none, without_none
from unitwork._logic.values.classes import CLASSES
from unitwork._logic.values.texts import Change

Converter: typing.TypeAlias = Callable[[Any], Any]


class ValueTypeError(Exception):
    """A value is not what the annotation says, and cannot become it; the text tells both types."""


def converter_for(annotation: object) -> Converter | None:
    """Return what makes a value of this type; None if values are taken as they come.

    Where the type has no None, neither has the converter.
    """
    single = without_none(annotation)
    if not isinstance(single, type):
        return None
    if issubclass(single, enum.Enum):
        return _member_converter(single, none=not refuses_none(annotation))
    known = CLASSES.get(single)
    return None if known is None else _checked(single, known.answer, none=not refuses_none(annotation))


def classes_as_promised(annotation: object) -> frozenset[type]:
    """Return the classes of values that the converter of this type leaves as they are."""
    single = without_none(annotation)
    kinds = {single} if isinstance(single, type) else set[type]()
    return frozenset(kinds if refuses_none(annotation) else {*kinds, type(None)})


def _checked(kind: type, change: Change, *, none: bool) -> Converter:
    exact = (kind, type(None)) if none else (kind,)

    def convert(value: Any) -> Any:  # noqa: ANN401  # a value of any type
        if type(value) in exact:
            return value
        try:
            changed = None if value is None else change(value)
        except (ValueError, ArithmeticError):
            changed = None
        if not isinstance(changed, kind) or (kind is int and isinstance(changed, bool)):
            raise ValueTypeError(kind.__name__, type(value).__name__)
        return changed

    return convert


def _member_converter(kind: type[enum.Enum], *, none: bool) -> Converter:
    def convert(value: Any) -> Any:  # noqa: ANN401  # a value of any type
        if isinstance(value, kind) or (none and value is None):
            return value
        # SQLAlchemy stores names, other programs often values.
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        try:
            return kind(value)
        except ValueError:
            raise ValueTypeError(kind.__name__, type(value).__name__) from None

    return convert
