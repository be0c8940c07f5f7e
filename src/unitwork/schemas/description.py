"""This module describes schemas: what is common to those made at run time and those written as source."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from sqlalchemy import Column, Computed, Identity, Numeric, String, inspect
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty, SynonymProperty
from sqlalchemy.types import LargeBinary

from unitwork._logic.values import values_of
from unitwork._logic.values.annotations import NOTHING, allows_none, annotated_kind
from unitwork.errors import DeclarationError, OptionError
from unitwork.models.data import is_keyed

if TYPE_CHECKING:
    from unitwork._logic.values import ColumnValues

__all__: list[str] = []

Purpose: TypeAlias = Literal["read", "create", "update"]
PURPOSES: tuple[Purpose, ...] = ("read", "create", "update")

_NAMES = {"read": "{}Schema", "create": "{}CreateSchema", "update": "{}UpdateSchema"}
_DOCS = {
    "read": "A row of {}, as it is read.",
    "create": "What a new row of {} needs.",
    "update": "What of a row of {} is to change.",
}
# Of their subclasses nobody knows how to write them.
_LITERALS = frozenset({
    str, int, float, bool, bytes, decimal.Decimal, uuid.UUID, dt.date, dt.datetime, dt.time, dt.timedelta
})  # fmt: skip
_UNREAD = {"write_only", "dynamic", "noload"}


@dataclass(frozen=True, slots=True)
class Options:
    """Which schema of a model."""

    purpose: Purpose = "read"
    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    depth: int = 0

    @classmethod
    def of(
        cls,
        purpose: str = "read",
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        depth: int = 0,
    ) -> Options:
        """Check what a person wrote.

        Raises:
            OptionError: There is no such purpose, or the depth is below 0.
        """
        if purpose not in PURPOSES:
            raise OptionError("purpose", purpose, [repr(known) for known in PURPOSES])
        if depth < 0:
            raise OptionError("depth", depth, ["0 or more"])
        chosen = None if include is None else frozenset(include)
        return cls(purpose, chosen, frozenset(exclude), depth)


@dataclass(frozen=True, slots=True)
class Related:
    """The type of a field that holds related entities."""

    schema: Schema
    many: bool
    optional: bool
    key: Any = NOTHING
    """The type of the keys, where many are held in a dict."""


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One field. Without a `default` it is required, unless it may be left `unset`."""

    key: str
    kind: Any
    default: Any = NOTHING
    unset: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema. `name` is that of its class."""

    name: str
    model: type
    text: str
    fields: tuple[SchemaField, ...]


def describe(model: type, options: Options) -> Schema:
    """Describe the schema of a model.

    Raises:
        DeclarationError: The class is no model.
        OptionError: A name in `include` or `exclude` is no attribute.
    """
    mapper: Any = inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise DeclarationError(repr(model), "it is no mapped class", "name a model.")
    known = {key for key in mapper.all_orm_descriptors.keys() if not key.startswith("_")}  # noqa: SIM118  # no mapping
    written = {each.key for each in mapper.column_attrs if isinstance(each.columns[0], Column)}
    possible = known if options.purpose == "read" else known & written
    for option, names, taken in (
        ("include", options.include or (), possible),
        ("exclude", options.exclude, known),
    ):
        for name in names:
            if name not in taken:
                raise OptionError(option, name, [repr(each) for each in sorted(taken)])
    return _Description(mapper, options, None).schema(_NAMES[options.purpose].format(model.__name__))


class _Description:
    """Describes one schema. Lives: one call."""

    def __init__(
        self, mapper: Mapper[Any], options: Options, arrived_by: RelationshipProperty[Any] | None
    ) -> None:
        self.mapper = mapper
        self.options = options
        self.way_back: set[Any] = getattr(arrived_by, "_reverse_property", set())
        fields = dataclasses.fields(mapper.class_) if dataclasses.is_dataclass(mapper.class_) else ()
        self.factories = {each.name for each in fields if each.default_factory is not dataclasses.MISSING}
        self.not_taken = {each.name for each in fields if not each.init}
        """Fields of a dataclass model that its constructor does not take."""

    def schema(self, name: str) -> Schema:
        fields = (*self._columns(), *self._named(), *self._relationships(name))
        table = getattr(self.mapper.local_table, "fullname", self.mapper.class_.__name__)
        return Schema(name, self.mapper.class_, _DOCS[self.options.purpose].format(table), fields)

    def _is_chosen(self, key: str, *, usual: bool) -> bool:
        if key in self.options.exclude or key.startswith("_"):
            return False
        return usual if self.options.include is None else key in self.options.include

    def _columns(self) -> Iterator[SchemaField]:
        for attribute in self.mapper.column_attrs:
            if self._is_chosen(attribute.key, usual=self._is_usual(attribute)):
                yield self._column_of(attribute)

    def _column_of(self, attribute: ColumnProperty[Any]) -> SchemaField:
        column = attribute.columns[0]
        if isinstance(column, Column):
            return self._column(attribute, column)
        kind = annotated_kind(self.mapper, attribute.key)
        guessed = values_of(self.mapper, attribute.key).annotation
        return SchemaField(attribute.key, _or_none(guessed) if kind is NOTHING else kind)

    def _is_usual(self, attribute: ColumnProperty[Any]) -> bool:
        if self.options.purpose == "read":
            return not attribute.deferred
        if self.options.purpose == "create" and attribute.key in self.not_taken:
            return False
        columns = [column for column in attribute.columns if isinstance(column, Column)]
        return bool(columns) and not any(self._is_filled_in(attribute.key, column) for column in columns)

    def _is_filled_in(self, key: str, column: Column[Any]) -> bool:
        """Say whether nobody but the database or the model should write it."""
        if isinstance(column.computed, Computed) or (
            isinstance(column.identity, Identity) and column.identity.always
        ):
            return True
        own = (self.mapper.version_id_col, self.mapper.polymorphic_on)
        if any(column is each for each in own) or column.onupdate is not None:
            return True
        if column.primary_key:
            return self.options.purpose == "update" or self._has_default(column) or key in self.factories
        return False

    def _has_default(self, column: Column[Any]) -> bool:
        counts = column is getattr(column.table, "autoincrement_column", None)
        return counts or column.default is not None or column.server_default is not None

    def _column(self, attribute: ColumnProperty[Any], column: Column[Any]) -> SchemaField:
        values = values_of(self.mapper, attribute.key)
        nullable = all(each.nullable for each in attribute.columns if isinstance(each, Column))
        kind = _or_none(values.annotation) if nullable else values.annotation
        text = column.doc or column.comment
        if self.options.purpose == "read":
            return SchemaField(attribute.key, kind, text=text)
        default, unset = self._default(attribute.key, column, nullable=nullable)
        return SchemaField(attribute.key, kind, default, unset, _limits(values), text)

    def _default(self, key: str, column: Column[Any], *, nullable: bool) -> tuple[Any, bool]:
        if self.options.purpose == "update":
            return NOTHING, True
        default: Any = column.default
        if default is not None and default.is_scalar and _is_literal(default.arg):
            return default.arg, False
        if self._has_default(column) or key in self.factories:
            return NOTHING, True
        return (None, False) if nullable else (NOTHING, False)

    def _named(self) -> Iterator[SchemaField]:
        """Yield what is shown only if it is included by name: hybrids, composites, synonyms, proxies."""
        named = (self.options.include or frozenset()) - self.options.exclude
        for key in self.mapper.all_orm_descriptors.keys():  # noqa: SIM118  # no mapping
            attribute = self.mapper.attrs.get(key)
            if key in named and not isinstance(attribute, ColumnProperty | RelationshipProperty):
                target = attribute.name if isinstance(attribute, SynonymProperty) else key
                kind = annotated_kind(self.mapper, key)
                if kind is NOTHING and target in self.mapper.column_attrs:
                    yield replace(self._column_of(self.mapper.column_attrs[target]), key=key)
                else:
                    yield SchemaField(key, Any if kind is NOTHING else kind)

    def _relationships(self, name: str) -> Iterator[SchemaField]:
        if self.options.purpose != "read":
            return
        named = self.options.include or frozenset()
        for relationship in self.mapper.relationships:
            usual = (
                self.options.depth > 0
                and relationship not in self.way_back
                and relationship.lazy not in _UNREAD
            )
            if self._is_chosen(relationship.key, usual=usual) or (
                relationship.key in named and relationship.key not in self.options.exclude
            ):
                yield SchemaField(relationship.key, self._related(relationship, name))

    def _related(self, relationship: RelationshipProperty[Any], name: str) -> Related:
        inner = Options(depth=max(self.options.depth - 1, 0))
        words = "".join(part.capitalize() for part in relationship.key.split("_"))
        schema = _Description(relationship.mapper, inner, relationship).schema(f"{name}{words}")
        many = bool(relationship.uselist)
        kind = annotated_kind(self.mapper, relationship.key)
        optional = _may_be_missing(relationship) if kind is NOTHING else allows_none(kind)
        key = _key_kind(relationship, kind) if many else NOTHING
        return Related(schema, many, optional and not many, key)


def _key_kind(relationship: RelationshipProperty[Any], kind: Any) -> Any:  # noqa: ANN401  # types
    """Return the type of the keys of a collection; NOTHING if it has none."""
    if not is_keyed(relationship):
        return NOTHING
    return next(iter(get_args(kind)), Any)


def _may_be_missing(relationship: RelationshipProperty[Any]) -> bool:
    local = [column for column in relationship.local_columns if isinstance(column, Column)]
    return relationship.direction.name != "MANYTOONE" or any(column.nullable for column in local)


def _or_none(kind: Any) -> Any:  # noqa: ANN401  # a type
    return kind if kind is Any else kind | None


def _is_literal(value: object) -> bool:
    """Say whether a default can be shown, and be written as source."""
    zone = getattr(value, "tzinfo", None)
    return isinstance(value, enum.Enum) or (type(value) in _LITERALS and isinstance(zone, dt.timezone | None))


def _limits(values: ColumnValues) -> dict[str, int]:
    """Return what Pydantic can check of values of this class, as far as the column says it."""
    inner, found = values.inner, dict[str, int | None]()
    if values.changed or values.choices:
        return {}  # the length is that of what a decorator makes of it, or of the longest label
    if values.annotation in (str, bytes) and isinstance(inner, String | LargeBinary):
        found["max_length"] = inner.length
    elif values.annotation is decimal.Decimal and isinstance(inner, Numeric):
        found["max_digits"] = inner.precision
        found["decimal_places"] = inner.scale
    return {name: number for name, number in found.items() if number is not None and number >= 0}
