"""This module builds statements from SQL text: a WHERE condition, or a whole statement."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Double,
    Enum,
    Numeric,
    String,
    Uuid,
    bindparam,
)
from sqlalchemy import Table as SQLTable
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.types import TypeEngine

from unitwork._logic.sql.clause import clause_of
from unitwork._logic.sql.meetings import InsertPlace, Meeting, meetings, resolved
from unitwork._logic.sql.parts import expanding_in, in_parentheses, part_of, without_parentheses
from unitwork._logic.sql.reading import read, readings
from unitwork._logic.sql.scopes import Scopes, Table
from unitwork._logic.values.annotations import NOTHING, element_of, plain_type
from unitwork._logic.values.columns import class_of_type

if TYPE_CHECKING:
    from sqlalchemy import Column as SQLColumn
    from sqlalchemy import MetaData, TextClause
    from sqlalchemy.orm import Mapper

    from unitwork._logic.sql.reading import SQLText
    from unitwork.errors import QueryDeclarationError
    from unitwork.query.signature import QuerySignature

_LIST_TYPES: Mapping[Any, TypeEngine[Any]] = {
    int: BigInteger(),
    str: String(),
    float: Double(),
    decimal.Decimal: Numeric(),
    dt.datetime: DateTime(),
    dt.date: Date(),
}


def mapper_of(entity: type | None) -> Mapper[Any] | None:
    """Return the mapper of an entity, if there is one."""
    return inspect_entity(entity, raiseerr=False) if entity is not None else None


class DeclaredText:
    """The SQL text of a declared query, as those databases read it in which its parameters fit.

    Lives: one declaration.

    Args:
        signature: The query.
        sql: Its text.
        besides: Parameters that are not in the text.

    Raises:
        QueryDeclarationError: It has a name without a parameter, or a parameter that it does not use.
    """

    def __init__(self, signature: QuerySignature, sql: str, *, besides: frozenset[str] = frozenset()) -> None:
        self._signature = signature
        self.guessed: set[str] = set()
        """The parameters whose types nothing says but their annotations."""
        wanted = {name for name in signature.parameters if name not in besides}
        ways = readings(sql)
        self._readings = [way for way in ways if set(way.binds) == wanted]
        if not self._readings:
            nearest = min(ways, key=lambda way: len(wanted ^ set(way.binds)))
            raise _misfit(signature, nearest, list(wanted & signature.parameters.keys()))

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return any(way.writes for way in self._readings)

    @property
    def calls(self) -> bool:
        """Whether it calls a procedure, which alone knows what it answers."""
        return any(each.verb in ("CALL", "EXECUTE") for each in self._readings[0].statements)

    @property
    def returns_rows(self) -> bool:
        """Whether it answers with rows."""
        return any(way.returns_rows for way in self._readings)

    @property
    def is_ordered(self) -> bool:
        """Whether its outermost statement has an order or a limit."""
        return any(statement.is_ordered for way in self._readings for statement in way.statements)

    def clause(self, mapper: Mapper[Any] | None, *, before: str = "", after: str = "") -> TextClause:
        """Make a clause of the whole, whose parameters have the types that their values need."""
        return self._typed([f"{before}{part_of(way)}{after}" for way in self._readings], mapper)

    def condition(self, mapper: Mapper[Any]) -> TextClause:
        """Make a condition on an entity, which means the same next to others."""
        around = [
            Table(table.name, table.schema or "") for table in mapper.tables if isinstance(table, SQLTable)
        ]
        return self._typed([in_parentheses(way) for way in self._readings], mapper, around)

    def _typed(
        self, parts: Sequence[str], mapper: Mapper[Any] | None, around: Sequence[Table] = ()
    ) -> TextClause:
        parameters = self._signature.parameters
        lists = {name for name, annotation in parameters.items() if takes_list(annotation)}
        ways = [read(part, way.grammar) for part, way in zip(parts, self._readings, strict=True)]
        plain = [without_parentheses(way, lists) for way in ways]
        clause = clause_of(plain)
        columns = _types_met(plain[0], mapper, around, parameters)
        after_in = expanding_in(plain[0])
        for name in after_in & lists:
            self._signature.needs_values(name)
        for name in plain[0].binds:
            many = name in after_in
            annotation = parameters.get(name, int)  # the limits of a page
            if name not in columns:
                self.guessed.add(name)
            kind = columns.get(name) or (_list_type(annotation) if many else _plain_type(annotation))
            if many or kind is not None:
                clause = clause.bindparams(bindparam(name, type_=kind, expanding=many))
        return clause


def _misfit(signature: QuerySignature, way: SQLText, given: Sequence[str]) -> QueryDeclarationError:
    missing = [name for name in way.binds if name not in given]
    if missing:
        known = [name for name in signature.parameters if name in given]
        return signature.wrong(
            f"the text uses :{missing[0]}, but there is no parameter {missing[0]!r}",
            f"add the parameter `{missing[0]}`, or use one of: {', '.join(known) or 'none yet'}.",
        )
    unused = next(name for name in signature.parameters if name in given and name not in way.binds)
    return signature.wrong(
        f"the parameter {unused!r} is not used in the text",
        f"use `:{unused}` in the text, or remove the parameter.",
    )


def _types_met(
    way: SQLText, mapper: Mapper[Any] | None, around: Sequence[Table], parameters: Mapping[str, Any]
) -> dict[str, TypeEngine[Any]]:
    """Return the types of the mapped columns that parameters meet: these convert the values."""
    if mapper is None or not isinstance(mapper.local_table, SQLTable):
        return {}
    found: dict[str, TypeEngine[Any]] = {}
    columns = MappedColumns(mapper.local_table.metadata)
    for statement in way.statements:
        for meeting in meetings(Scopes(statement, around)):
            column = resolved(meeting.column, columns)
            if column is not None and _is_meant(meeting, column.type, parameters.get(meeting.bind)):
                found.setdefault(meeting.bind, column.type)
    return found


def _is_meant(meeting: Meeting, kind: TypeEngine[Any], annotation: object) -> bool:
    """Say whether the values of a parameter are those of the column, and not only a part of them."""
    value = plain_type(annotation)
    if isinstance(meeting.column, InsertPlace):  # a text may be what the database itself stores
        return value is not str or (isinstance(kind, String) and not isinstance(kind, Enum))
    return meeting.exact or value is class_of_type(kind)


class MappedColumns:
    """The columns of the tables that a program maps. Lives: one declaration."""

    def __init__(self, metadata: MetaData) -> None:
        self._tables = {(table.schema or "", table.name.lower()): table for table in metadata.tables.values()}
        self._schema = metadata.schema or ""

    def __call__(self, table: Table) -> Mapping[str, SQLColumn[Any]] | None:
        """Return the columns of a table by name, or None if it is not mapped."""
        found = self._tables.get((table.schema or self._schema, table.name.lower()))
        return None if found is None else {column.name.lower(): column for column in found.columns}


def takes_list(annotation: object) -> bool:
    """Say whether a parameter takes several values."""
    return element_of(annotation) is not NOTHING


def _list_type(annotation: object) -> TypeEngine[Any] | None:
    # An empty list needs a type too, or PostgreSQL compares text with an integer.
    element = element_of(annotation)
    return _plain_type(element) or _LIST_TYPES.get(element)


def _plain_type(annotation: object) -> TypeEngine[Any] | None:
    if not isinstance(annotation, type):
        return None
    if issubclass(annotation, uuid.UUID):
        return Uuid()
    if issubclass(annotation, enum.Enum):
        return Enum(annotation)
    return JSON() if issubclass(annotation, dict) else None
