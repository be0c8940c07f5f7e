"""This module decides what a group of rows becomes: which columns, with which values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import null
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.elements import Null

from unitwork._logic.copytext import block, column_text, with_ends_of_time
from unitwork.bulk.fields import NONE, Field, Fill, Model
from unitwork.errors import RowError

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Dialect

    from unitwork._logic.values.columns import Processor
    from unitwork.bulk.rows import Group

_BROKEN = (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, SQLAlchemyError)
_SIMPLE = {int, str, bool, float, bytes, NONE}


class Plan:
    """What becomes of rows that name these attributes. Lives: one bulk write."""

    def __init__(self, model: Model, group: Group, dialect: Dialect) -> None:
        self.model = model
        self.names = group.names
        self.given = [model.fields[name] for name in group.names]
        self.fields = list(self.given)
        """The attributes that are sent, in the order of `values`."""
        self.sql_nulls = [model.fields[name] for name in sorted(group.sql_nulls)]
        """Attributes that are NULL in all of the rows, past what their types make of None."""
        self.dialect = dialect

    @property
    def columns(self) -> list[Column[Any]]:
        """The columns of what is sent."""
        return [field.column for field in self.fields]

    @property
    def plainly_bound(self) -> bool:
        """Whether a parameter alone stands for each value, without SQL of its type around it."""
        return all(field.values.is_plainly_bound for field in self.fields)

    @property
    def copyable(self) -> bool:
        """Whether COPY takes all of the columns."""
        if any(field.default is not None or field.filled_by_database for field in self.sql_nulls):
            return False  # what is left out of COPY is not always NULL
        return bool(self.fields) and all(field.values.is_copyable(self.dialect) for field in self.fields)

    def values(self, group: Group, columns: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Return the filled columns of a group as the driver takes them.

        Raises:
            RowError: A type refuses a value.
        """
        return [
            processed(field, field.values.bind_processor(self.dialect), values, group.numbers)
            for field, values in zip(self.fields, columns, strict=True)
        ]

    def text(self, group: Group, columns: Sequence[Sequence[Any]]) -> bytes:
        """Return the filled rows of a group as COPY reads them.

        Raises:
            RowError: A value is missing or of the wrong type.
        """
        written: list[Iterable[str]] = []
        for field, values in zip(self.fields, columns, strict=True):
            processor = field.values.copy_processor(self.dialect)
            plain = processed(field, processor, values, group.numbers)
            written.append(self._written(field, plain, group.numbers))
        return block(written)

    def _written(self, field: Field, values: Sequence[Any], numbers: Sequence[int]) -> Iterable[str]:
        if self.dialect.driver == "asyncpg":
            values = with_ends_of_time(values)
        kinds = set(map(type, values))
        try:
            return column_text(values, kinds)
        except TypeError:
            place = next((i for i, v in enumerate(values) if type(v) not in _SIMPLE), 0)
            problem = f"is a {type(values[place]).__name__}, which COPY does not take"
            raise RowError(numbers[place], field.name, problem) from None

    def find_bad_value(self, group: Group, columns: Sequence[Sequence[Any]]) -> None:
        """Look for the value that a type has refused; SQLAlchemy does not tell which row it was in.

        Raises:
            RowError: This is the one.
        """
        for field, values in zip(self.fields, columns, strict=True):
            processed(field, field.values.copy_processor(self.dialect), values, group.numbers)


def processed(
    field: Field, processor: Processor | None, values: Sequence[Any], numbers: Sequence[int]
) -> Sequence[Any]:
    """Apply what SQLAlchemy does to each value of one column.

    Raises:
        RowError: The type refuses a value.
    """
    if processor is None:
        return values
    try:
        return list(map(processor, values))
    except _BROKEN:
        for number, value in zip(numbers, values, strict=True):
            try:
                processor(value)
            except _BROKEN as error:
                problem = f"does not take this {type(value).__name__} ({type(error).__name__})"
                raise RowError(number, field.name, problem) from error
        raise


def as_rows(columns: Sequence[Sequence[Any]], keys: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Return columns as rows, for SQLAlchemy to bind."""
    if not columns:
        return [{} for _number in range(count)]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


class RowContext:
    """What a default or `onupdate` with a parameter is given; as SQLAlchemy's, as far as rows have it."""

    def __init__(
        self,
        columns: Mapping[Field, Sequence[Any]],
        absent: Iterable[Field],
        waiting: Mapping[Field, Sequence[Any]],
    ) -> None:
        self._columns = columns
        self._absent = absent
        self._waiting = waiting
        self.place = 0

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002  # as SQLAlchemy's
        """Return the values of the row, by column key."""
        return self.current_parameters

    @property
    def current_parameters(self) -> dict[str, Any]:
        """The values of the row, by column key: given, and filled in so far."""
        place = self.place
        found: dict[str, Any] = {field.column.key: None for field in self._absent}
        for field, values in self._waiting.items():
            if values[place] is not None:
                found[field.column.key] = values[place]
        for field, values in self._columns.items():
            if not isinstance(values[place], Null):  # the ORM writes it into the statement
                found[field.column.key] = values[place]
        return found

    def made(self, fill: Fill, given: Sequence[Any] | None, rows: int) -> Sequence[Any]:
        """Return what is filled in, in all rows or where the given value is None."""
        make = fill.make
        if make is None:
            value = fill.value
            return [value] * rows if given is None else [value if each is None else each for each in given]
        found: list[Any] = []
        for self.place in range(rows):
            here = None if given is None else given[self.place]
            found.append(make(self) if here is None else here)
        return found


class InsertPlan(Plan):
    """What becomes of new rows: what they do not name is filled in, as the ORM does.

    Args:
        model: The model.
        group: The first of the rows.
        dialect: That of the database.
    """

    def __init__(self, model: Model, group: Group, dialect: Dialect) -> None:
        super().__init__(model, group, dialect)
        self.nulls = group.nulls
        """Attributes that the rows give as None, and that something else fills in."""
        self._required = model.required_by(dialect)
        self._fills = {field: fill for field in model.fields.values() if (fill := self._fill(field))}
        self.fields = [*self.given, *(field for field in self._fills if field not in self.given)]
        # A default sees those of the columns before its own.
        places = {column: place for place, column in enumerate(model.table.columns)} if model.whole else {}
        self._in_order = sorted(self._fills, key=lambda field: places.get(field.column, 0))
        # The ORM tells a default of these columns, too, that there is nothing.
        made = {*self.given, *self._fills, *self.sql_nulls}
        self._absent = [f for f in model.fields.values() if f not in made and not f.filled_by_database]

    def _fill(self, field: Field) -> Fill | None:
        if field in self.sql_nulls:
            return None
        if field in self.given:
            return field.default if self.model.whole else None
        missing = field.factory if field.name not in self.nulls else None
        # The ORM writes rows of several tables, and fills in what is not the class's own matter.
        found = (field.default or missing or self.model.constant(field)) if self.model.whole else missing
        return found or self._by_type(field)

    def _by_type(self, field: Field) -> Fill | None:
        """Return None to fill in, if the type makes something of it, and nothing else fills in."""
        filled = field.default is not None or field.filled_by_database or field.column.primary_key
        filled = filled or self.model.constant(field) is not None
        return Fill() if not filled and field.values.fills_none(self.dialect) else None

    @property
    def expressions(self) -> bool:
        """Whether an attribute that nobody gave is filled in by a SQL expression of SQLAlchemy's."""
        return any(f.by_expression and f not in self.given for f in self.model.fields.values())

    def filled(self, group: Group) -> list[Sequence[Any]]:
        """Return the values of each column: given, and filled in where the row has none.

        Raises:
            RowError: A value is missing or of the wrong type.
        """
        names = (*self.names, *(field.name for field in self.sql_nulls))
        self.model.check_complete(names, group.numbers[0], self._required)
        columns: dict[Field, Sequence[Any]] = {}
        waiting: dict[Field, Sequence[Any]] = {}
        for field, values in zip(self.given, group.columns, strict=True):
            kinds = set(map(type, values))
            none = NONE not in kinds or field.default is not None or field.takes_none(self.dialect)
            field.check(values, kinds, group.numbers, none=none)
            filled = NONE in kinds and field in self._fills and not field.values.keeps_none
            (waiting if filled else columns)[field] = values
        context = RowContext(columns, self._absent, waiting)
        for field in self._in_order:
            if field not in columns:
                columns[field] = context.made(self._fills[field], waiting.get(field), len(group))
        return [self._normal(field, columns[field], group) for field in self.fields]

    def _normal(self, field: Field, values: Sequence[Any], group: Group) -> Sequence[Any]:
        return field.normal(values, set(map(type, values)), group.numbers, self.dialect)


class UpdatePlan(Plan):
    """What becomes of rows that change stored ones: only what they name, and `onupdate`.

    First come the columns that say which row is meant, then those that it gets.
    """

    def __init__(self, model: Model, group: Group, dialect: Dialect) -> None:
        super().__init__(model, group, dialect)
        version = model.version
        self.version = version if version is not None and version.name in group.names else None
        """The version that the rows say they have seen."""
        key = model.key if self.version is None else (*model.key, self.version)
        self.matched = list(key)
        changed = [field for field in self.given if field not in self.matched]
        self.is_empty = not changed and not self.sql_nulls and self.version is None
        """Whether the rows name nothing to set: such rows are not touched, as the ORM does not."""
        made = [field for field in self._others(changed) if field.on_update is not None]
        own_version = version is not None and version not in changed and model.next_version is not None
        self.assigned = [*changed, *made, *([version] if own_version and version is not None else [])]
        self.fields = [*self.matched, *self.assigned]
        self._changed, self._made = changed, made

    def _others(self, changed: Sequence[Field]) -> Iterable[Field]:
        left = {*changed, *self.matched, *self.sql_nulls}
        return (field for field in self.model.fields.values() if field not in left)

    @property
    def constants(self) -> dict[Column[Any], Any]:
        """What SQL or one value sets in all rows: `onupdate`, and the next number of a version."""
        found: dict[Column[Any], Any] = {field.column: null() for field in self.sql_nulls}
        found |= {
            field.column: field.set_on_update
            for field in self._others(self.assigned)
            if field.set_on_update is not None
        }
        version = self.model.version
        if version is not None and version not in self.assigned and self.model.counts_versions:
            found[version.column] = version.column + 1
        return found

    def filled(self, group: Group) -> list[Sequence[Any]]:
        """Return the values of each column: the key, what the rows name, and what `onupdate` makes.

        Raises:
            RowError: A value is of the wrong type.
        """
        given = dict(zip(self.given, group.columns, strict=True))
        for field, values in given.items():
            kinds = set(map(type, values))
            none = NONE not in kinds or field.takes_none(self.dialect)
            field.check(values, kinds, group.numbers, none=none)
        columns: dict[Field, Sequence[Any]] = {field: given[field] for field in self.given}
        context = RowContext(columns, (), {})
        for field in self._made:
            if field.on_update is not None:
                columns[field] = context.made(field.on_update, None, len(group))
        found = [columns[field] for field in self.matched]
        for field in self.assigned:
            is_version = field is self.model.version and field not in self._changed
            found.append(self._versions(columns.get(field), len(group)) if is_version else columns[field])
        return [
            field.normal(values, set(map(type, values)), group.numbers, self.dialect)
            for field, values in zip(self.fields, found, strict=True)
        ]

    def _versions(self, seen: Sequence[Any] | None, rows: int) -> Sequence[Any]:
        make: Any = self.model.next_version
        return [make(version) for version in seen or [None] * rows]
