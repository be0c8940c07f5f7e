"""This module decides whether the values of a parameter fit what they meet, and their driver."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import typing
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, JSON, Enum
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

from unitwork._logic.values.annotations import NOTHING, element_of, plain_type
from unitwork._logic.values.classes import CLASSES
from unitwork._logic.values.columns import changes_values, class_of_type, column_kind
from unitwork._logic.values.parameters import fits_classes

_Pairs: TypeAlias = Mapping[tuple[type, type], bool]

# Text stands for these on databases that have no such type, or take it in text form.
_WRITTEN_AS_TEXT = frozenset({dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID})
# What the catalog of one database calls this, another calls that.
_CALLED_ALIKE = ({bool, int}, {dt.time, dt.timedelta})
_SENT_AS: Mapping[type, str] = {decimal.Decimal: "float"}


@dataclass(frozen=True, slots=True)
class Sending:
    """What a driver makes of the values that it sends.

    Args:
        refused: Classes of values that it cannot send, unless a type converts them.
        alone: For a class of values and one of columns whether they are compared rightly, where this
            differs from the rule, and no mapped type is in the way.
        mapped: The same where the type of a mapped column is in the way: it may be written as a cast.
        enums: Members of an enum may be sent where text is wanted.
    """

    refused: frozenset[type] = frozenset()
    alone: _Pairs = field(default_factory=dict)
    mapped: _Pairs = field(default_factory=dict)
    enums: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one parameter.

    Args:
        mapped: Its type in SQLAlchemy, which converts its values.
        guessed: That type is only a guess from the annotation: no column has it.
        server: Its type as the server infers it.
        stored: The type of the column that it meets, from the catalog.
        expands: It stands for the values of a list.
        compared: It is compared with that column, and nowhere stored.
        refuses_null: It is stored in a column that cannot be NULL.
    """

    mapped: TypeEngine[Any] | None = None
    guessed: bool = False
    server: TypeEngine[Any] | None = None
    stored: TypeEngine[Any] | None = None
    expands: bool = False
    compared: bool = False
    refuses_null: str = ""

    @property
    def type(self) -> TypeEngine[Any] | None:
        """The type that its values must fit; None if nobody tells."""
        mapped = None if self.guessed else self.mapped
        if mapped is not None and changes_values(mapped):  # only it knows what it takes
            return mapped if column_kind(mapped) is not None else None
        for known in (mapped, self.server, self.stored):
            if known is not None and (
                class_of_type(known) is not None or isinstance(known, ARRAY | JSON | Enum)
            ):
                return known
        return None


def of_literal(annotation: Any) -> Any:  # noqa: ANN401  # a type
    """Return the class of the values of a Literal; any other annotation as it is."""
    if typing.get_origin(annotation) is typing.Literal:
        kinds = {type(value) for value in typing.get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else Any
    return annotation


def unknown_labels(annotation: Any, told: Told) -> set[str]:  # noqa: ANN401  # a type
    """Return the texts that a parameter may send, and that the enum which it meets does not have."""
    single = element_of(annotation) if element_of(annotation) is not NOTHING else annotation
    enums = [each.enums for each in (told.server, told.stored, told.mapped) if isinstance(each, Enum)]
    if not enums:
        return set()
    sent: set[object] = set(told.mapped.enums) if isinstance(told.mapped, Enum) else set()
    if typing.get_origin(single) is typing.Literal:
        sent = set(typing.get_args(single)) - {None}
    return {value for value in sent if isinstance(value, str)} - set(enums[0])


def _is_no_text(kind: type) -> bool:
    return _base(kind) in CLASSES and not issubclass(kind, str)


def wanted_by(told: Told, annotation: Any, sending: Sending) -> str | None:  # noqa: ANN401  # a type
    """Return what the annotation should name; None if it fits, or nobody knows."""
    kind = told.type
    given = of_literal(annotation)
    own, is_list = plain_type(given), element_of(given) is not NOTHING
    if kind is None or isinstance(kind, JSON):
        sent_bare = kind is not None and kind is told.server and _is_bare(told)
        return "str" if sent_bare and own is not None and _is_no_text(own) else None
    if isinstance(kind, ARRAY):
        wanted = class_of_type(kind.item_type)
        fits = own is None or (is_list and (wanted is None or _fits(own, wanted, told, sending)))
        return None if fits else f"list[{getattr(wanted, '__name__', 'Any')}]"
    wanted = column_kind(kind)
    if wanted is None:
        return None
    if is_list and not told.expands:
        return wanted.__name__
    if own is None or _fits(own, wanted, told, sending):
        return None
    by_catalog = kind is told.stored and _stands_for(_base(own), wanted)
    return None if by_catalog else wanted.__name__


def refused_by(sending: Sending, annotation: Any, told: Told) -> str | None:  # noqa: ANN401  # a type
    """Return the class that the driver takes in place of values which it cannot send; None if it can."""
    own = plain_type(of_literal(annotation))
    if own is None or isinstance(told.mapped, TypeDecorator | JSON):
        return None
    base = _base(own)
    cannot = base in sending.refused or (issubclass(base, enum.Enum) and enum.Enum in sending.refused)
    if not cannot:
        return None
    mapped = None if _is_bare(told) or told.mapped is None else class_of_type(told.mapped)
    converted = mapped is base or isinstance(told.mapped, Enum) or {mapped, base} == {float, decimal.Decimal}
    return None if converted else _SENT_AS.get(base, "str")


def _fits(own: type, wanted: type, told: Told, sending: Sending) -> bool:
    base = _base(own)
    mapped = not told.guessed and told.mapped is not None and class_of_type(told.mapped) is not None
    if issubclass(own, enum.Enum) and (isinstance(told.mapped, Enum) or issubclass(base, enum.Enum)):
        if issubclass(wanted, enum.Enum):
            return own is wanted
        # SQLAlchemy sends the name of a member, whatever its value is.
        return wanted is str and (isinstance(told.mapped, Enum) or sending.enums)
    if issubclass(wanted, enum.Enum):  # SQLAlchemy looks the value up among names and members
        return own is wanted or base is str or issubclass(wanted, base)
    known = (sending.mapped if mapped else sending.alone).get((base, wanted))
    if known is False or (known and told.compared):
        return known
    return fits_classes(base, wanted)


def _is_bare(told: Told) -> bool:
    """Say whether the driver gets the values as they are."""
    return told.mapped is None or isinstance(told.mapped, NullType)


def _base(own: type) -> type:
    """Return the known class that a class is made of, such as that of a `StrEnum`; else itself."""
    return next((base for base in own.__mro__ if base in CLASSES), own)


def _stands_for(own: type, wanted: type) -> bool:
    """Say whether values of one class may stand in a column that the catalog calls another."""
    if str in (own, wanted):
        return not _WRITTEN_AS_TEXT.isdisjoint({own, wanted})
    return {own, wanted} in _CALLED_ALIKE
