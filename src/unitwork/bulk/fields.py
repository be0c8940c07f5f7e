"""This module knows the attributes of a model: what they take, and what fills them when nobody does."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Column
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.elements import Null

from unitwork._logic.remembered import remembered
from unitwork._logic.values import ColumnValues, values_of
from unitwork.errors import DeclarationError, RowError

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper

NONE = type(None)
_JSON_NULL = type(JSON.NULL)
"""Its value is a number as well."""
_KNOWN = "unitwork_bulk"
_ENDS = (dt.datetime.max, dt.datetime.min)  # noqa: DTZ901  # as asyncpg answers them
"""What PostgreSQL's ends of time are to asyncpg, with a time zone and without."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fill:
    """What is filled in where a row has nothing: one value for all, or one that a function makes for each."""

    value: object = None
    make: Callable[[Any], object] | None = None
    """Is given what SQLAlchemy's defaults are given: a context."""


class Field:
    """One column attribute. Lives: as long as its model."""

    def __init__(self, name: str, column: Column[Any], values: ColumnValues) -> None:
        self.name = name
        self.column = column
        self.values = values
        default: Any = column.default
        self.by_expression = default is not None and (default.is_clause_element or default.is_sequence)
        """Whether SQLAlchemy writes SQL into an INSERT that does not give it a value."""
        self.default: Fill | None = None if default is None or self.by_expression else _fill(default)
        """What Python fills in where an INSERT has nothing, or None."""
        self.factory: Fill | None = None
        """What a dataclass fills in where it is not given; None counts as given."""
        onupdate: Any = column.onupdate
        called = onupdate is not None and onupdate.is_callable
        self.on_update: Fill | None = _fill(onupdate) if called else None
        """What Python makes anew for each row that an UPDATE changes."""
        self.set_on_update: Any = None if onupdate is None or called else onupdate.arg
        """The value or SQL that each UPDATE sets."""

    @property
    def may_be_left_out(self) -> bool:
        """Whether a row without it can be stored."""
        filled = self.default is not None or self.factory is not None or self.filled_by_database
        return filled or bool(self.column.nullable)

    @property
    def filled_by_database(self) -> bool:
        """Whether the database gives it a value when the statement does not."""
        column = self.column
        counted: bool = column is getattr(column.table, "_autoincrement_column", None)
        return self.by_expression or counted or column.server_default is not None

    @property
    def is_exact(self) -> bool:
        """Whether values are equal in the database if, and only if, they are equal in Python."""
        return not self.values.changed and self.values.kind in (int, bool, uuid.UUID)

    def takes_none(self, dialect: Dialect) -> bool:
        """Say whether None can be stored: as NULL, as JSON's null, or as what the type makes of it."""
        return bool(self.column.nullable) or self.values.keeps_none or self.values.fills_none(dialect)

    def check(self, values: Sequence[Any], kinds: set[type], numbers: Sequence[int], *, none: bool) -> None:
        """Refuse values that this attribute does not take; `none` says whether it takes None here.

        Raises:
            RowError: Names the first row and this attribute.
        """
        wrong = {kind for kind in kinds if not self._takes(kind, none=none)}
        if wrong:
            place = next(i for i, value in enumerate(values) if type(value) in wrong)
            raise RowError(numbers[place], self.name, self._complaint(type(values[place])))
        if self.values.choices:
            self._check_choices(values, numbers)

    def _check_choices(self, values: Sequence[Any], numbers: Sequence[int]) -> None:
        # SQLAlchemy lets any text pass, and cannot read it back.
        choices = self.values.choices
        for number, value in zip(numbers, values, strict=True):
            if isinstance(value, str) and not isinstance(value, enum.Enum) and value not in choices:
                raise RowError(number, self.name, f"takes one of {', '.join(sorted(choices))}")

    def _takes(self, kind: type, *, none: bool) -> bool:
        if kind is NONE:
            return none
        if _is_expression(kind):
            # SQLAlchemy's way to say NULL where None would mean a default, or JSON's null.
            return kind is Null and bool(self.column.nullable)
        return self.values.takes(kind) and (kind is not _JSON_NULL or self.values.accepts is None)

    def _complaint(self, kind: type) -> str:
        if kind is NONE or kind is Null:
            return "must have a value"
        if _is_expression(kind):
            return "holds a value, not a SQL expression; `update={...}` of an upsert takes those"
        return f"holds {getattr(self.values.kind, '__name__', 'another type')}, not {kind.__name__}"

    def normal(
        self, values: Sequence[Any], kinds: set[type], numbers: Sequence[int], dialect: Dialect
    ) -> Sequence[Any]:
        """Return values as all drivers and ways of writing store them alike.

        Raises:
            RowError: One of them would be stored as something else.
        """
        if Null in kinds and not self.values.is_json:
            values = [None if isinstance(value, Null) else value for value in values]
            kinds = set(map(type, values))
        zoned = self.values.is_zoned(dialect)
        if zoned is not None:
            self._check_zones(values, numbers, zoned=zoned, ends=_ENDS if dialect.driver == "asyncpg" else ())
        if self.values.is_normal(kinds):
            return values
        found: list[Any] = []
        for number, value in zip(numbers, values, strict=True):
            try:
                found.append(self.values.normal(value))
            except (ValueError, ArithmeticError) as error:
                name = getattr(self.values.kind, "__name__", "another type")
                raise RowError(number, self.name, f"holds {name}, and this is {error}") from error
        return found

    def _check_zones(
        self, values: Sequence[Any], numbers: Sequence[int], *, zoned: bool, ends: Sequence[object]
    ) -> None:
        # Drivers and COPY read such a time each in its own way: as that of the client, of the server, or not.
        for number, value in zip(numbers, values, strict=True):
            if value is not None and (value.tzinfo is not None) is not zoned and value not in ends:
                problem = "needs a time zone" if zoned else "holds times without a time zone"
                raise RowError(number, self.name, problem)


def _is_expression(kind: type) -> bool:
    return issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__")


def _fill(default: Any) -> Fill:  # noqa: ANN401  # a default of SQLAlchemy
    return Fill(make=default.arg) if default.is_callable else Fill(default.arg)


def _factories(model: type) -> dict[str, Fill]:
    """Return what the fields of a dataclass model are filled with, as far as only the class knows it."""
    if not dataclasses.is_dataclass(model):
        return {}
    return {
        each.name: Fill(make=_without_context(each.default_factory))
        for each in dataclasses.fields(model)
        if each.default_factory is not dataclasses.MISSING
    }


def _without_context(make: Callable[[], object]) -> Callable[[Any], object]:
    return lambda _context: make()


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
        self.computed: set[str] = set()
        """Attributes that the database computes, and nobody else."""
        for attribute in mapper.column_attrs:
            column = attribute.columns[0]
            if not isinstance(column, Column) or column.computed is not None:
                self.computed.add(attribute.key)
            else:
                self.fields[attribute.key] = Field(attribute.key, column, values_of(entity, attribute.key))
        for name, factory in _factories(entity).items():
            if name in self.fields and self.fields[name].default is None:
                self.fields[name].factory = factory
        self.by_column: dict[Any, Field] = {field.column: field for field in self.fields.values()}
        self.required = frozenset(
            name
            for name, field in self.fields.items()
            if not field.may_be_left_out and not self._fixed(field) and not field.values.may_fill_none
        )
        """Attributes that a row cannot do without, on any database."""

    @property
    def version(self) -> Field | None:
        """The attribute that counts the changes of a row, if the model has one."""
        column: Any = self.mapper.version_id_col
        return None if column is None else self.by_column.get(column)

    def _fixed(self, field: Field) -> bool:
        return not self.whole or self.constant(field) is not None

    def constant(self, field: Field) -> Fill | None:
        """Return what the mapper itself puts into each new row: its identity, the first version."""
        mapper = self.mapper
        if field.column is mapper.polymorphic_on:
            return Fill(mapper.polymorphic_identity)
        if field.column is mapper.version_id_col and callable(mapper.version_id_generator):
            generator: Callable[[Any], object] = mapper.version_id_generator
            return Fill(make=lambda _context: generator(None))
        return None

    @property
    def counts_versions(self) -> bool:
        """Whether the next version is the next number."""
        version = self.version
        counts = self.mapper.version_id_generator is not False and self.next_version is None
        return version is not None and counts and version.values.kind is int

    @property
    def hidden_by(self) -> Field | None:
        """The attribute that hides a row from every SELECT, if the model has one; it is NULL in others."""
        name = getattr(self.entity, "__unitwork_hidden_by__", None)
        return None if name is None else self.fields[name]

    @property
    def next_version(self) -> Callable[[Any], object] | None:
        """Makes of a version the next one, where the program says how; None if it is the next number."""
        generator: Any = self.mapper.version_id_generator
        usual = getattr(generator, "__module__", "").startswith("sqlalchemy.")
        return None if generator is None or generator is False or usual else generator

    @property
    def key(self) -> tuple[Field, ...]:
        """The attributes of the primary key."""
        return tuple(self.by_column[column] for column in self.mapper.primary_key)

    @property
    def has_exact_key(self) -> bool:
        """Whether keys are equal in the database if, and only if, they are equal in Python."""
        return all(field.is_exact for field in self.key)

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
            if name in self.computed:
                raise RowError(row, name, "is computed by the database, and takes no value")
            if name not in self.fields:
                known = ", ".join(self.fields)
                raise RowError(row, str(name), f"is no attribute of {self.entity.__name__} ({known})")

    def required_by(self, dialect: Dialect) -> frozenset[str]:
        """Return the attributes that a row cannot do without; types may fill in some."""
        asked = (field for field in self.fields.values() if field.values.may_fill_none)
        return self.required.union(
            field.name
            for field in asked
            if not field.may_be_left_out and not self._fixed(field) and not field.values.fills_none(dialect)
        )

    def check_complete(self, names: Sequence[str], row: int, required: frozenset[str] | None = None) -> None:
        """Refuse rows without an attribute that must be there.

        Raises:
            RowError: Names the attribute.
        """
        missing = (self.required if required is None else required).difference(names)
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
