"""This module compares what a declared query promises with what its database tells of it."""

from __future__ import annotations

import datetime as dt
import enum
import typing
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, JSON, Enum
from sqlalchemy.types import TypeDecorator, TypeEngine

from unitwork._logic.findings import Finding, Severity
from unitwork._logic.records import field_types_of, required_fields_of
from unitwork._logic.shape import Item, Shape
from unitwork._logic.values.annotations import (
    NOTHING,
    allows_none,
    element_of,
    plain,
    plain_type,
    refuses_none,
)
from unitwork._logic.values.columns import class_of_type
from unitwork._logic.values.parameters import fits_parameter, fits_result

# Text stands for these on databases that have no such type, or take it in text form.
_WRITTEN_AS_TEXT = frozenset({dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, bool})
# What a mapped type and the database's own must agree in; others are stored in several ways.
_STORED_ALIKE = frozenset({int, str, dt.datetime, dt.date})


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one parameter.

    Args:
        mapped: Its type in SQLAlchemy, which converts its values.
        server: Its type as the server infers it.
        stored: The type of the column that it meets, from the catalog.
        expands: It stands for the values of a list.
        refuses_null: It is stored in a column that cannot be NULL.
    """

    mapped: TypeEngine[Any] | None = None
    server: TypeEngine[Any] | None = None
    stored: TypeEngine[Any] | None = None
    expands: bool = False
    refuses_null: str = ""

    @property
    def type(self) -> TypeEngine[Any] | None:
        """The type that its values must fit; None if nobody tells."""
        for known in (self.mapped, self.server, self.stored):
            if known is not None and (
                class_of_type(known) is not None or isinstance(known, ARRAY | JSON | Enum)
            ):
                return known
        return None


@dataclass(frozen=True, slots=True)
class Result:
    """One column of the rows; `null_reason` says why it may be NULL, if it may for sure."""

    name: str
    type: TypeEngine[Any] | None
    null_reason: str = ""


class Promise:
    """What one query promises. Lives: one check of it."""

    def __init__(self, name: str, shape: Shape, parameters: Mapping[str, Any]) -> None:
        self._name = name
        self._shape = shape
        self._parameters = {each: plain(annotation) for each, annotation in parameters.items()}

    def wrong(self, problem: str, fix: str = "", severity: Severity = Severity.ERROR) -> Finding:
        """Return a finding about this query."""
        return Finding(self._name, severity, problem, fix)

    # -- parameters ----------------------------------------------------------------------------

    def parameter_findings(self, told: Iterable[tuple[str, Told]]) -> Iterator[Finding]:
        """Compare the annotations of parameters with what is known of them."""
        for name, known in told:
            if name in self._parameters:
                wrong = self._parameter_finding(name, self._parameters[name], known)
                if wrong is not None:
                    yield wrong

    def _parameter_finding(self, name: str, annotation: Any, told: Told) -> Finding | None:  # noqa: ANN401  # a type
        unknown = _unknown_labels(annotation, told)
        if unknown:
            return self.wrong(
                f"the parameter {name!r} may be {min(unknown)!r}, which the database's enum does not have.",
                "use its values, or migrate the database.",
            )
        wanted = None if told.type is None else _misfit(annotation, told)
        if wanted is not None:
            return self.wrong(
                f"the parameter {name!r} is {_name_of(annotation)}, but the database compares it with {wanted}.",  # noqa: E501  # one sentence
                f"annotate it as `{name}: {wanted}`.",
            )
        if told.refuses_null and annotation is not Any and allows_none(annotation):
            return self.wrong(
                f"the parameter {name!r} may be None, but the column {told.refuses_null!r} cannot be NULL.",
                "take a value, without `| None`.",
                Severity.WARNING,
            )
        return None

    # -- columns -------------------------------------------------------------------------------

    def column_findings(self, results: Sequence[Result]) -> Iterator[Finding]:
        """Compare the columns of the rows with the promise."""
        shape, names = self._shape, [result.name for result in results]
        if shape.item is Item.SCALAR and len(results) > 1:
            yield self.wrong(
                f"it promises one value for each row, but selects {len(results)} columns.",
                f"select one of: {', '.join(names)}.",
            )
        elif shape.item is Item.SCALAR and results:
            yield from self._result_findings(results[0], shape.annotation, "it")
        elif shape.item is Item.RECORD:
            yield from self.missing(sorted(required_fields_of(shape.kind)), names)
            types = field_types_of(shape.kind)
            for result in results:
                who = f"{shape.kind.__name__}.{result.name}"
                yield from self._result_findings(result, types.get(result.name), who)

    def missing(self, wanted: Iterable[str], names: Sequence[str]) -> Iterator[Finding]:
        """Tell which of the columns that the promise needs are not there."""
        for name in wanted:
            if name not in names:
                yield self.wrong(
                    f"{self._shape.kind.__name__} needs the column {name!r}, which it does not select.",
                    f"select it, or promise another record; the columns are: {', '.join(names)}.",
                )

    def _result_findings(self, result: Result, annotation: Any, who: str) -> Iterator[Finding]:  # noqa: ANN401  # a type
        if annotation is None or annotation is Any:
            return
        refuses = refuses_none(annotation)
        annotation = plain(annotation)
        given = None if result.type is None else class_of_type(result.type)
        if given is not None and not fits_result(_of_literal(annotation), given):
            yield self.wrong(
                f"{who} is {_name_of(annotation)}, but the column {result.name!r} holds {given.__name__}.",
                f"annotate it as {given.__name__}, or convert it with `CAST(... AS ...)`.",
            )
        elif result.null_reason and refuses:
            yield self.wrong(
                f"{who} is {_name_of(annotation)}, but the column {result.name!r} {result.null_reason}.",
                f"promise `{_name_of(annotation)} | None`, or exclude NULL in the text.",
                Severity.WARNING,
            )

    def mapped_findings(
        self, mapped: Sequence[tuple[str, TypeEngine[Any]]], results: Sequence[Result]
    ) -> Iterator[Finding]:
        """Compare the types of mapped columns with those that the database has."""
        if len(mapped) != len(results):
            return
        for (name, kind), result in zip(mapped, results, strict=True):
            ours, theirs = class_of_type(kind), None if result.type is None else class_of_type(result.type)
            alike = ours in _STORED_ALIKE and not isinstance(kind, TypeDecorator)
            if alike and ours is not None and theirs is not None and not fits_result(ours, theirs):
                yield self.wrong(
                    f"the column {name!r} is mapped as {ours.__name__}, but holds {theirs.__name__}.",
                    "change the model, or migrate the database.",
                )

    # -- what nobody knows ---------------------------------------------------------------------

    def unseen(self, told: Mapping[str, Told], results: Sequence[Result] | None) -> list[str]:
        """Return what nobody could compare with the promise."""
        found = [
            f"the type of the parameter {name!r}"
            for name, annotation in self._parameters.items()
            if name in told and told[name].type is None and plain_type(_of_literal(annotation)) is not None
        ]
        if self._shape.item in (Item.SCALAR, Item.RECORD):
            if results is None:
                found.append("the columns of its rows")
            else:
                names = [
                    repr(result.name)
                    for result in results
                    if result.type is None and self._needs(result.name)
                ]
                found += [f"the type of {', '.join(names)}"] if names else []
        return found

    def _needs(self, column: str) -> bool:
        if self._shape.item is Item.SCALAR:
            return plain_type(self._shape.kind) is not None
        return plain_type(field_types_of(self._shape.kind).get(column)) is not None


def _unknown_labels(annotation: Any, told: Told) -> set[str]:  # noqa: ANN401  # a type
    """Return the texts that a parameter may send, and that the enum which it meets does not have."""
    single = element_of(annotation) if element_of(annotation) is not NOTHING else annotation
    enums = [each.enums for each in (told.server, told.stored, told.mapped) if isinstance(each, Enum)]
    if not enums:
        return set()
    sent: set[object] = set(told.mapped.enums) if isinstance(told.mapped, Enum) else set()
    if typing.get_origin(single) is typing.Literal:
        sent = set(typing.get_args(single)) - {None}
    return {value for value in sent if isinstance(value, str)} - set(enums[0])


def _misfit(annotation: Any, told: Told) -> str | None:  # noqa: ANN401  # a type
    """Return what the annotation should name; None if it fits, or nobody knows."""
    kind = told.type
    assert kind is not None  # noqa: S101  # asked before
    given = _of_literal(annotation)
    is_list = element_of(given) is not NOTHING
    if isinstance(kind, ARRAY):
        wanted = class_of_type(kind.item_type)
        fits = wanted is None or plain_type(given) is None or (is_list and fits_parameter(given, wanted))
        return None if fits else f"list[{getattr(wanted, '__name__', 'Any')}]"
    wanted = class_of_type(kind)
    if wanted is None or isinstance(kind, JSON):
        return None
    own = plain_type(given)
    enums = isinstance(own, type) and issubclass(own, enum.Enum) and issubclass(wanted, enum.Enum)
    if (enums and own is not wanted) or (is_list and not told.expands) or not fits_parameter(given, wanted):
        by_catalog = kind is told.stored and (wanted in _WRITTEN_AS_TEXT or own in _WRITTEN_AS_TEXT)
        return None if by_catalog else wanted.__name__
    return None


def _of_literal(annotation: Any) -> Any:  # noqa: ANN401  # a type
    """Return the class of the values of a Literal; any other annotation as it is."""
    if typing.get_origin(annotation) is typing.Literal:
        kinds = {type(value) for value in typing.get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else Any
    return annotation


def _name_of(annotation: Any) -> str:  # noqa: ANN401  # a type
    if element_of(annotation) is not NOTHING:
        return str(annotation)
    return getattr(plain_type(annotation), "__name__", str(annotation))
