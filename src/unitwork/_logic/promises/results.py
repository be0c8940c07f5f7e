"""This module decides whether a column of rows fits what is promised of it."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any, get_origin

from sqlalchemy import ARRAY, Enum, Float, Numeric
from sqlalchemy.types import TypeEngine

from unitwork._logic.promises.parameters import of_literal
from unitwork._logic.values.annotations import NOTHING, element_of, plain_type, without_none
from unitwork._logic.values.classes import CLASSES
from unitwork._logic.values.columns import class_of_type
from unitwork._logic.values.parameters import fits_result

_IN_TIME = frozenset({dt.datetime, dt.date, dt.time})
# What the text of a column may be, and may not be.
_READ_FROM_TEXT = _IN_TIME | {uuid.UUID, decimal.Decimal}
_LENGTHS_OF_UUID = (32, 36)
_BYTES_OF_UUID = 16
_PYTHON_ONLY = (dict, list, set, frozenset, tuple)


class Fit(enum.Enum):
    """How a column fits a promise."""

    RIGHT = enum.auto()
    """Or nothing is known that speaks against it."""
    WRONG = enum.auto()
    LOSES = enum.auto()
    """It becomes what is promised, and loses something."""
    UNCONVERTED = enum.auto()
    """It could become what is promised, but nobody converts it."""
    BY_VALUE = enum.auto()
    """Some texts can become what is promised, and others cannot."""


@dataclass(frozen=True, slots=True)
class Result:
    """One column of the rows.

    Args:
        name: As the rows call it.
        answered: What the driver answers; None if the database does not tell.
        null_reason: Why it may be NULL, if it may for sure.
        stored: The type of the column in a table that it is, if it is one.
        made: The class that a mapped type makes of it, where one does.
    """

    name: str
    answered: TypeEngine[Any] | None
    null_reason: str = ""
    stored: TypeEngine[Any] | None = None
    made: type | None = None

    @property
    def given(self) -> type | None:
        """The class of the values that come, from the driver or a mapped type."""
        if self.made is not None:
            return self.made
        return None if self.answered is None else class_of_type(self.answered)

    @property
    def holds(self) -> type | None:
        """The class that the column holds, where the driver answers text for times."""
        stored = None if self.stored is None else class_of_type(self.stored)
        return stored if self.given is str and stored in _IN_TIME else self.given


def fit_of(annotation: Any, result: Result, *, converts: bool) -> Fit:  # noqa: ANN401  # a type
    """Say how a column fits an annotation; with `converts`, its values become what that says if they can."""
    annotation, given = of_literal(annotation), result.given
    single = without_none(annotation)
    own = get_origin(single) if get_origin(single) in _PYTHON_ONLY else plain_type(annotation)
    if own is None or given is None:
        return Fit.RIGHT
    if isinstance(result.answered, ARRAY):
        return _fit_of_list(annotation, result.answered)
    if given not in CLASSES:
        other = issubclass(given, enum.Enum) and own in CLASSES and not issubclass(given, own)
        return Fit.WRONG if other else Fit.RIGHT
    if element_of(annotation) is not NOTHING or own in _PYTHON_ONLY:
        return Fit.WRONG
    if not converts and isinstance(own, type) and not issubclass(own, enum.Enum):
        return _as_it_comes(own, given)
    found = _fit_of_enum(own, result, given) if issubclass(own, enum.Enum) else _fit_of_class(own, result)
    comes = issubclass(given, own)
    return Fit.UNCONVERTED if found is Fit.RIGHT and not converts and not comes else found


def _fit_of_list(annotation: Any, kind: ARRAY[Any]) -> Fit:  # noqa: ANN401  # a type
    element, given = element_of(annotation), class_of_type(kind.item_type)
    if element is NOTHING:
        return Fit.WRONG if plain_type(annotation) in CLASSES else Fit.RIGHT
    own = plain_type(element)
    if own is None or given is None or kind.dimensions or element_of(element) is not NOTHING:
        return Fit.RIGHT
    return _as_it_comes(own, given)


def _as_it_comes(own: type, given: type) -> Fit:
    """Say how a class fits where nobody converts the values."""
    if own is dt.date and given is dt.datetime:
        return Fit.LOSES
    if issubclass(given, own) or (own, given) in ((float, int), (float, bool)):
        return Fit.RIGHT
    return Fit.UNCONVERTED if fits_result(own, given) and own in CLASSES else Fit.WRONG


def _fit_of_class(own: type, result: Result) -> Fit:
    given, holds = result.given, result.holds
    stored = result.answered if isinstance(result.answered, Enum) else result.stored
    if given is None or not fits_result(own, given) or (own is int and _has_fractions(stored)):
        return Fit.WRONG
    if (own, given) == (dt.date, dt.datetime) or (own, given, holds) == (dt.datetime, str, dt.date):
        return Fit.LOSES
    if given is str and holds in _IN_TIME and own in _READ_FROM_TEXT:
        return Fit.RIGHT if own is holds else Fit.WRONG
    if own is uuid.UUID and given in (str, bytes):
        return Fit.RIGHT if _holds_uuids(given, stored) else Fit.BY_VALUE
    if given is str and own in _READ_FROM_TEXT:
        return Fit.WRONG if isinstance(stored, Enum) else Fit.BY_VALUE
    return Fit.RIGHT


def _holds_uuids(given: type, stored: TypeEngine[Any] | None) -> bool:
    length = getattr(stored, "length", None)
    declared = stored is not None and class_of_type(stored) is uuid.UUID
    return declared or length in ((_BYTES_OF_UUID,) if given is bytes else _LENGTHS_OF_UUID)


def _has_fractions(stored: TypeEngine[Any] | None) -> bool:
    return isinstance(stored, Float) or (isinstance(stored, Numeric) and bool(stored.scale))


def _fit_of_enum(own: type, result: Result, given: type) -> Fit:
    members: list[enum.Enum] = list(own)  # type: ignore[call-overload]  # of an enum
    if given is str:
        kind = next((each for each in (result.answered, result.stored) if isinstance(each, Enum)), None)
        if kind is None:
            return Fit.BY_VALUE
        known = {
            label for member in members for label in (member.name, member.value) if isinstance(label, str)
        }
        return Fit.RIGHT if set(kind.enums) <= known else Fit.WRONG
    kinds = {type(member.value) for member in members} - {str}
    return Fit.RIGHT if any(fits_result(kind, given) for kind in kinds) else Fit.WRONG
