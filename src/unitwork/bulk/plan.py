"""This module decides what a group of rows becomes: which columns, with which values."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, LargeBinary, TypeDecorator, bindparam, types
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.elements import Null

from unitwork._logic.copytext import block, column_text
from unitwork.bulk.fields import NONE, Field, Model, bool_or_none
from unitwork.errors import RowError

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from unitwork.bulk.fields import Processor
    from unitwork.bulk.rows import Group

_BROKEN = (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, SQLAlchemyError)
_COPYABLE = (
    types.Integer,
    types.String,
    types.Boolean,
    types.Numeric,
    types.Float,
    types.DateTime,
    types.Date,
    types.Time,
    types.Interval,
    types.Uuid,
    types.LargeBinary,
    types.JSON,
)


class Plan:
    """What becomes of rows that name these attributes. Lives: one bulk write."""

    def __init__(self, model: Model, names: tuple[str, ...], dialect: Dialect, *, new: bool = True) -> None:
        self.model = model
        self.names = names
        self.given = [model.fields[name] for name in names]
        self.filled = [
            field
            for field in model.fields.values()
            if new
            and field.name not in names
            and (field.default is not None or self._constant(field) is not None)
        ]
        self.fields = [*self.given, *self.filled]
        self._dialect = dialect
        self._processors: dict[Field, Processor | None] = {f: f.processor(dialect) for f in self.fields}
        self._for_copy: dict[Field, Processor | None] | None = None

    @property
    def columns(self) -> list[Column[Any]]:
        """The columns that get values, in the order of `values`."""
        return [field.column for field in self.fields]

    @property
    def expressions(self) -> bool:
        """Whether an attribute that nobody gave is filled in by a SQL expression of SQLAlchemy's."""
        return any(f.by_expression and f not in self.given for f in self.model.fields.values())

    @property
    def copyable(self) -> bool:
        """Whether COPY takes all of the columns."""
        return bool(self.fields) and all(_copyable(field.column.type, self._dialect) for field in self.fields)

    def _constant(self, field: Field) -> object:
        mapper = self.model.mapper
        if field.column is mapper.polymorphic_on:
            return mapper.polymorphic_identity
        if field.column is mapper.version_id_col and callable(mapper.version_id_generator):
            generator: Callable[[Any], object] = mapper.version_id_generator
            return generator(None)
        return None

    def checked(self, group: Group) -> list[tuple[Sequence[Any], set[type]]]:
        """Return values and classes of each column, given and filled in, as Python has them.

        Raises:
            RowError: A value is missing or of the wrong type.
        """
        found: list[tuple[Sequence[Any], set[type]]] = []
        for field, given in zip(self.given, group.columns, strict=True):
            values, kinds = given, set(map(type, given))
            field.check(values, kinds, group.numbers)
            if NONE in kinds and field.default is not None and not field.column.nullable:
                fill = self._fill(field, group)
                values = [fill(place) if value is None else value for place, value in enumerate(values)]
                kinds = set(map(type, values))
            found.append((values, kinds))
        for field in self.filled:
            fill = self._fill(field, group)
            values = [fill(place) for place in range(len(group))]
            found.append((values, set(map(type, values))))
        return found

    def _fill(self, field: Field, group: Group) -> Callable[[int], object]:
        constant = self._constant(field)
        if field.default is None:
            return lambda _place: constant
        argument = field.default.arg
        if not field.default.is_callable:
            return lambda _place: argument
        return lambda place: argument(_RowContext(self, group, place))

    def values(self, group: Group) -> list[Sequence[Any]]:
        """Return each column as the driver takes it.

        Raises:
            RowError: A value is missing or of the wrong type.
        """
        return [
            processed(field, self._processors[field], values, kinds, group.numbers)
            for field, (values, kinds) in zip(self.fields, self.checked(group), strict=True)
        ]

    def text(self, group: Group) -> bytes:
        """Return the rows as COPY reads them.

        Raises:
            RowError: A value is missing or of the wrong type.
        """
        if self._for_copy is None:
            self._for_copy = {field: _for_copy(field, self._dialect) for field in self.fields}
        written: list[Iterable[str]] = []
        for field, (values, kinds) in zip(self.fields, self.checked(group), strict=True):
            processor = self._for_copy[field]
            plain = processed(field, processor, values, kinds, group.numbers)
            kinds_now = kinds if plain is values else set(map(type, plain))
            written.append(self._written(field, plain, kinds_now, group.numbers))
        return block(written)

    def find_bad_value(self, group: Group) -> None:
        """Look for the value that a type has refused; SQLAlchemy does not tell which row it was in.

        Raises:
            RowError: This is the one.
        """
        for field, (values, kinds) in zip(self.fields, self.checked(group), strict=True):
            processed(field, _for_copy(field, self._dialect), values, kinds, group.numbers)

    def _written(
        self, field: Field, values: Sequence[Any], kinds: set[type], numbers: Sequence[int]
    ) -> Iterable[str]:
        if kinds & _DATES:
            values = _as_column_has_it(field, values, numbers)
            kinds = set(map(type, values))
        elif field.kind is int and not kinds <= _WHOLE:
            values = [None if value is None else int(value) for value in values]
            kinds = set(map(type, values))
        try:
            return column_text(values, kinds)
        except TypeError:
            place = next((i for i, v in enumerate(values) if type(v) not in _SIMPLE), 0)
            problem = f"is a {type(values[place]).__name__}, which COPY does not take"
            raise RowError(numbers[place], field.name, problem) from None


_WHOLE = {int, NONE}
_DATES = {dt.datetime}
_SIMPLE = {int, str, bool, float, bytes, NONE}


class _RowContext:
    """What a default with a parameter is given; as SQLAlchemy's, as far as rows have it."""

    def __init__(self, plan: Plan, group: Group, place: int) -> None:
        self._plan = plan
        self._group = group
        self._place = place

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002  # as SQLAlchemy's
        """Return the values of the row, by column key."""
        return self.current_parameters

    @property
    def current_parameters(self) -> dict[str, Any]:
        """The values of the row, by column key."""
        pairs = zip(self._plan.given, self._group.columns, strict=True)
        return {field.column.key: column[self._place] for field, column in pairs}


def processed(
    field: Field, processor: Processor | None, values: Sequence[Any], kinds: set[type], numbers: Sequence[int]
) -> Sequence[Any]:
    """Apply what SQLAlchemy does to each value of one column.

    Raises:
        RowError: The type refuses a value.
    """
    if processor is None or (processor is bool_or_none and kinds <= {bool, NONE}):
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


def _inner(kind: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    found = kind.dialect_impl(dialect)
    return found.impl_instance if isinstance(found, TypeDecorator) else found


def _copyable(kind: TypeEngine[Any], dialect: Dialect) -> bool:
    inner = _inner(kind, dialect)
    around = kind.bind_expression(bindparam("value", type_=kind))
    return isinstance(inner, _COPYABLE) and around is None


def _for_copy(field: Field, dialect: Dialect) -> Processor | None:
    kind = field.column.type.dialect_impl(dialect)
    if isinstance(kind, LargeBinary):
        return None
    if isinstance(kind, JSON):
        return _json_writer(kind, dialect)
    return field.processor(dialect)


def _json_writer(kind: JSON, dialect: Dialect) -> Processor:
    """Return what SQLAlchemy does to JSON, but as text for both drivers; psycopg's own is a wrapper."""
    dumps: Processor = getattr(dialect, "_json_serializer", None) or json.dumps

    def write(value: object) -> str | None:
        if isinstance(value, Null) or (value is None and kind.none_as_null):
            return None
        found: str = dumps(None if value is JSON.NULL else value)
        return found

    return write


def _as_column_has_it(field: Field, values: Sequence[Any], numbers: Sequence[int]) -> Sequence[Any]:
    """Refuse what a column of text would quietly read in another time zone."""
    if field.kind is dt.date:
        return [value.date() if isinstance(value, dt.datetime) else value for value in values]
    zoned = getattr(field.column.type, "timezone", None)
    if field.kind is not dt.datetime or zoned is None:
        return values
    for number, value in zip(numbers, values, strict=True):
        if value is not None and (value.tzinfo is not None) is not zoned:
            problem = "needs a time zone" if zoned else "holds times without a time zone"
            raise RowError(number, field.name, problem)
    return values


def update_values(
    model: Model,
    names: Sequence[str],
    key: Sequence[Field],
    explicit: Mapping[str, object] | Sequence[str] | None,
) -> dict[Field, object]:
    """Return which attributes an update sets: to a value, or, where it is None, to that of the new row."""
    if isinstance(explicit, Mapping):
        return {model.fields[name]: value for name, value in explicit.items()}
    if explicit is not None:
        return {model.fields[name]: _NEW for name in explicit}
    left = {field.name for field in (*key, *model.key)}
    return {model.fields[name]: _NEW for name in names if name not in left}


class _NewValue:
    """Stands for the value that the new row has."""


_NEW = _NewValue()
NEW = _NEW


def onupdate_values(model: Model, chosen: Mapping[Field, object]) -> dict[Field, object]:
    """Return what SQLAlchemy sets with each UPDATE, beside what was chosen."""
    found: dict[Field, object] = {}
    for field in model.fields.values():
        column: Any = field.column
        onupdate = column.onupdate
        if field in chosen or onupdate is None:
            continue
        found[field] = onupdate.arg(None) if onupdate.is_callable else onupdate.arg
    version = model.version
    if version is not None and version not in found and version.kind is int:
        found[version] = version.column + 1
    return found
