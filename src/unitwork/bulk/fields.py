"""This module knows the attributes of a model: what they take, and what fills them when nobody does."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Column, Enum, TypeDecorator
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

from unitwork._logic.remembered import remembered
from unitwork.errors import DeclarationError, RowError

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper

Processor = Callable[[Any], Any]

NONE = type(None)
_KNOWN = "unitwork_bulk"
_NUMBERS = (int, float, decimal.Decimal)
_ACCEPTED: Mapping[type, tuple[type, ...]] = {
    bool: (bool, int),
    int: (int,),
    float: _NUMBERS,
    decimal.Decimal: _NUMBERS,
    str: (str,),
    bytes: (bytes, bytearray, memoryview),
    dt.datetime: (dt.datetime,),
    dt.date: (dt.date,),
    dt.time: (dt.time,),
    dt.timedelta: (dt.timedelta,),
    uuid.UUID: (uuid.UUID,),
}


class Field:
    """One column attribute. Lives: as long as its model."""

    def __init__(self, name: str, column: Column[Any]) -> None:
        self.name = name
        self.column = column
        self.kind = _python_type(column.type)
        self.accepted = _ACCEPTED.get(self.kind) if self.kind is not None else None
        self._choices = frozenset(column.type.enums) if isinstance(column.type, Enum) else frozenset[str]()
        default: Any = column.default
        self.default: Any = None if default is None or default.is_clause_element else default
        """What Python fills in, or None."""
        self.by_expression = default is not None and (default.is_clause_element or default.is_sequence)
        if default is not None and default.is_sequence:
            self.default = None

    @property
    def may_be_left_out(self) -> bool:
        """Whether a row without it can be stored."""
        return self.default is not None or self.filled_by_database or bool(self.column.nullable)

    @property
    def filled_by_database(self) -> bool:
        """Whether the database gives it a value when the statement does not."""
        column = self.column
        counted: bool = column is getattr(column.table, "_autoincrement_column", None)
        return self.by_expression or counted or column.server_default is not None

    def check(self, values: Sequence[Any], kinds: set[type], numbers: Sequence[int]) -> None:
        """Refuse values that this attribute does not take.

        Raises:
            RowError: Names the first row and this attribute.
        """
        wrong = {kind for kind in kinds if not self._takes(kind)}
        if wrong:
            place = next(i for i, value in enumerate(values) if type(value) in wrong)
            raise RowError(numbers[place], self.name, self._complaint(type(values[place])))
        if self._choices:
            self._check_choices(values, numbers)

    def _check_choices(self, values: Sequence[Any], numbers: Sequence[int]) -> None:
        # SQLAlchemy lets any text pass, and cannot read it back.
        for number, value in zip(numbers, values, strict=True):
            if isinstance(value, str) and not isinstance(value, enum.Enum) and value not in self._choices:
                raise RowError(number, self.name, f"takes one of {', '.join(sorted(self._choices))}")

    def _takes(self, kind: type) -> bool:
        if kind is NONE:
            return bool(self.column.nullable) or self.default is not None or self._keeps_none
        if issubclass(kind, ClauseElement):
            return False
        return self.accepted is None or issubclass(kind, self.accepted)

    @property
    def _keeps_none(self) -> bool:
        kind = self.column.type
        return isinstance(kind, JSON) and not kind.none_as_null

    def _complaint(self, kind: type) -> str:
        if kind is NONE:
            return "must have a value"
        if issubclass(kind, ClauseElement):
            return "holds a value, not a SQL expression"
        return f"holds {getattr(self.kind, '__name__', 'another type')}, not {kind.__name__}"

    def processor(self, dialect: Dialect) -> Processor | None:
        """Return what SQLAlchemy does to a value before it gives it to the driver."""
        kind = self.column.type.dialect_impl(dialect)
        if isinstance(kind, Boolean) and not isinstance(self.column.type, TypeDecorator):
            return bool_or_none
        return kind.bind_processor(dialect)


def bool_or_none(value: Any) -> bool | None:  # noqa: ANN401  # a checked value
    """Make a number that stands for a truth value one."""
    return None if value is None else bool(value)


def _python_type(kind: TypeEngine[Any]) -> type | None:
    """Return the class of a type's values, if the type alone decides it."""
    if isinstance(kind, TypeDecorator | Enum):
        # What they take is their own matter; they say so when they are applied.
        return None
    try:
        return kind.python_type
    except NotImplementedError:
        return None


class Model:
    """A mapped class as bulk writes see it. Lives: as long as the class."""

    @classmethod
    def of(cls, entity: type[Any]) -> Model:
        """Return what is known of a class; looked at once."""
        return remembered(entity, _KNOWN, cls)

    def __init__(self, entity: type[Any], mapper: Mapper[Any]) -> None:
        self.entity = entity
        self.mapper = mapper
        self.whole = len(mapper.tables) == 1
        """Whether all columns are of one table, so that its rows can be written past the ORM."""
        self.table: Table = mapper.local_table  # type: ignore[assignment]  # a Table, where it is whole
        self.fields: dict[str, Field] = {}
        for attribute in mapper.column_attrs:
            column = attribute.columns[0]
            if isinstance(column, Column) and column.computed is None:
                self.fields[attribute.key] = Field(attribute.key, column)
        self.by_column: dict[Any, Field] = {field.column: field for field in self.fields.values()}
        self.required = frozenset(
            name
            for name, field in self.fields.items()
            if not field.may_be_left_out and not self._fixed(field)
        )

    @property
    def version(self) -> Field | None:
        """The attribute that counts the changes of a row, if the model has one."""
        column: Any = self.mapper.version_id_col
        return None if column is None else self.by_column.get(column)

    def _fixed(self, field: Field) -> bool:
        return field.column is self.mapper.polymorphic_on or not self.whole

    @property
    def key(self) -> tuple[Field, ...]:
        """The attributes of the primary key."""
        return tuple(self.by_column[column] for column in self.mapper.primary_key)

    def refuse_several_tables(self, what: str) -> None:
        """Refuse what cannot be said in one statement.

        Raises:
            DeclarationError: The model is stored in several tables.
        """
        if not self.whole:
            raise DeclarationError(
                f"Model {self.entity.__name__}",
                f"it is stored in {len(self.mapper.tables)} tables, and {what} needs one",
                "change such entities through the session; `bulk_insert` with on_conflict='fail' takes them.",
            )

    def check_names(self, names: Sequence[str], row: int) -> None:
        """Refuse attributes that do not exist.

        Raises:
            RowError: Names the attribute, and those that exist.
        """
        for name in names:
            if name not in self.fields:
                known = ", ".join(self.fields)
                raise RowError(row, str(name), f"is no attribute of {self.entity.__name__} ({known})")

    def check_complete(self, names: Sequence[str], row: int) -> None:
        """Refuse rows without an attribute that must be there.

        Raises:
            RowError: Names the attribute.
        """
        missing = self.required.difference(names)
        if missing:
            first = next(name for name in self.fields if name in missing)
            raise RowError(row, first, "is missing, and nothing fills it in")

    def check_key(self, names: Sequence[str], row: int) -> None:
        """Refuse rows that do not say which row of the table they mean.

        Raises:
            RowError: Names the attribute.
        """
        for field in self.key:
            if field.name not in names:
                raise RowError(row, field.name, "is missing, and is part of the primary key")
