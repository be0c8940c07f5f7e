"""This module describes what a mapped attribute holds, from its column's type and its annotation."""

from __future__ import annotations

import datetime as dt
import json
import typing
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Enum,
    Interval,
    LargeBinary,
    PickleType,
    TypeDecorator,
    bindparam,
    column,
    types,
)
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.sql.elements import Null

from unitwork._logic.remembered import remembered
from unitwork._logic.values.annotations import (
    NOTHING,
    annotated_kind,
    class_or_none,
    element_of,
    without_none,
)
from unitwork._logic.values.classes import known_class
from unitwork._sqlalchemy.dialects import is_of
from unitwork._sqlalchemy.private import variants_of
from unitwork._sqlalchemy.versions import class_said

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import Mapper
    from sqlalchemy.types import TypeEngine

    from unitwork._logic.values.classes import ValueClass

Processor: TypeAlias = Callable[[Any], Any]

_KNOWN = "unitwork_values"
_NONE = type(None)
# What SQLAlchemy does not say of its own types.
_UNSAID_WHOLE = (("sqlalchemy.dialects.postgresql", "OID"), ("sqlalchemy.dialects.mysql", "BIT", "YEAR"))
# What a decorator defines when its values are not those of the type inside.
_CHANGES = (
    "process_bind_param", "process_result_value", "process_literal_param",
    "bind_processor", "result_processor", "bind_expression", "column_expression",
)  # fmt: skip
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


class ColumnValues:
    """What the values of one column are, to every floor. Lives: as long as its model.

    Args:
        type_: The column's type.
        annotation: What stands in `Mapped[...]`; NOTHING if nobody wrote it.
        nullable: Whether NULL is one of the values.
    """

    def __init__(self, type_: TypeEngine[Any], annotation: Any = NOTHING, *, nullable: bool = True) -> None:  # noqa: ANN401  # a type
        self.type = type_
        self.nullable = nullable
        self._said = annotation
        self.inner = inner_type(type_)
        """The type inside all decorators."""
        self.changed = changes_values(type_)
        """Whether a decorator has code of its own: only it knows what the type inside gets."""
        self.varies = _loads_other_types(type_)
        """Whether a dialect may load another type in place of this one; `on` knows."""
        self.kind = self._class(without_none(annotation))
        """The class of the values in Python; None if neither type nor annotation tells."""
        known = known_class(self.kind)
        self.known: ValueClass | None = known
        """What is known of that class everywhere; None for enums, lists, JSON, and unknown ones."""
        self.accepts = None if known is None or self._is_own_matter else known.accepts
        """Classes of values that can be stored; None if only the type itself can tell."""
        self.choices: tuple[str, ...] = (
            tuple(self.inner.enums) if isinstance(self.inner, Enum) and not self.changed else ()
        )
        """The labels of an enumeration."""
        self.is_json = isinstance(self.inner, JSON) and not self.changed
        self.element = self._element(annotation)
        """What each item of a list is; None if the values are no lists."""
        self.annotation = self._shown(annotation)
        """The type that a schema shows, without None."""
        self.keeps_none: bool = type_.should_evaluate_none
        """Whether None is a value of its own, such as JSON's null, and not a missing one."""

    @property
    def _is_own_matter(self) -> bool:
        return self.changed or isinstance(self.inner, Enum | JSON)

    @property
    def is_pickled(self) -> bool:
        """Whether the values are Python's pickles, which nobody should read from a file."""
        return isinstance(self.type, PickleType)

    def _class(self, annotation: Any) -> type | None:  # noqa: ANN401  # a type
        said = class_of_type(self.inner) if not self.changed else None
        if said is not None and not self.varies:
            return said
        hinted = annotation if annotation is not NOTHING else _result_of(self.type)
        return class_or_none(hinted)

    def _element(self, annotation: Any) -> ColumnValues | None:  # noqa: ANN401  # a type
        if isinstance(self.inner, ARRAY) and not self.changed:
            return ColumnValues(self.inner.item_type, _deepest(annotation))
        return None

    def _shown(self, annotation: Any) -> Any:  # noqa: ANN401  # a type
        if annotation is not NOTHING:
            return without_none(annotation)
        if self.choices and self.kind is str:
            return Literal[self.choices]
        if self.element is not None:
            return list[Any]
        return Any if self.kind is None else self.kind

    def on(self, dialect: Dialect) -> ColumnValues:
        """Return what the values are on one dialect, where that loads another type than the column names."""
        if not self.varies or self.changed:
            return self
        found = ColumnValues(inner_type(self.type, dialect), self._said, nullable=self.nullable)
        found.keeps_none = self.keeps_none
        return found

    # --- read ---

    @property
    def never_none(self) -> bool:
        """Whether no row has None: NULL is refused, and no other value becomes None when it is read."""
        ours = type(self.inner).__module__.startswith("sqlalchemy.") and not self.changed
        return ours and not self.nullable and not self.is_json

    def shows_null(self, dialect: Dialect) -> bool:
        """Say whether the type may show NULL as a value of its own."""
        if not self.changed:
            return False
        if self.type.column_expression(column("value", self.type)) is not None:
            return True
        try:
            processor = self.type.dialect_impl(dialect).result_processor(dialect, None)
            return processor is not None and processor(None) is not None
        except Exception:  # noqa: BLE001  # code of the program
            return True

    # --- stored ---

    def takes(self, kind: type) -> bool:
        """Say whether values of a class can be stored, as far as that is known before it is tried."""
        return self.accepts is None or issubclass(kind, self.accepts)

    def is_normal(self, kinds: Iterable[type]) -> bool:
        """Say whether values of these classes, and None, are stored as they are."""
        return self.accepts is None or all(kind is self.kind or kind is _NONE for kind in kinds)

    def normal(self, value: Any) -> Any:  # noqa: ANN401  # a value of an accepted class
        """Return a value as every driver stores it alike.

        Raises:
            ValueError: A class that is accepted, but not this value.
        """
        return value if value is None or self.known is None else self.known.normal(value)

    def is_zoned(self, dialect: Dialect) -> bool | None:
        """Say whether times must have a zone, or must not; None if it makes no difference there."""
        if dialect.name != "postgresql" or self.changed or self.kind not in (dt.datetime, dt.time):
            return None
        found: bool | None = getattr(inner_type(self.type, dialect), "timezone", None)
        return found

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        """Return what SQLAlchemy does to a value before it gives it to the driver."""
        impl = self.type.dialect_impl(dialect)
        if isinstance(impl, Boolean) and not self.changed:
            return None  # `normal` has made a truth value of it
        return impl.bind_processor(dialect)

    @property
    def is_plainly_bound(self) -> bool:
        """Whether a parameter alone stands for a value, without SQL of the type around it."""
        return self.type.bind_expression(bindparam("value", type_=self.type)) is None

    @property
    def may_fill_none(self) -> bool:
        """Whether the type may store a value of its own where a row has None; `fills_none` knows."""
        ours = type(self.inner).__module__.startswith("sqlalchemy.")
        return not self.keeps_none and (
            self.changed or self.varies or not ours or isinstance(self.inner, JSON)
        )

    def fills_none(self, dialect: Dialect) -> bool:
        """Say whether the type stores a value of its own where a row has None, as the ORM lets it."""
        if not self.may_fill_none:
            return False
        if not self.is_plainly_bound:
            return True
        processor = self.bind_processor(dialect)
        try:
            return processor is not None and processor(None) is not None
        except Exception:  # noqa: BLE001  # code of the program: it is told when the row is bound
            return True

    # --- copied ---

    def is_copyable(self, dialect: Dialect) -> bool:
        """Say whether PostgreSQL's COPY can take the values."""
        return isinstance(inner_type(self.type, dialect), _COPYABLE) and self.is_plainly_bound

    def copy_processor(self, dialect: Dialect) -> Processor | None:
        """Return what makes of a value one that `copytext` writes as the driver would bind it."""
        kind = self.type.dialect_impl(dialect)
        before: list[Processor] = []
        while isinstance(kind, TypeDecorator) and not isinstance(kind, Interval):
            if type(kind).bind_processor is not TypeDecorator.bind_processor:
                break  # it binds in its own way, whatever is inside
            if type(kind).process_bind_param is not TypeDecorator.process_bind_param:
                before.append(partial(_processed, kind, dialect))
            kind = kind.impl_instance
        return _one_after_another([*before, *_copied(kind, dialect)])


def _processed(kind: TypeDecorator[Any], dialect: Dialect, value: Any) -> Any:  # noqa: ANN401  # of a decorator
    return kind.process_bind_param(value, dialect)


def _copied(kind: TypeEngine[Any], dialect: Dialect) -> list[Processor]:
    if isinstance(kind, LargeBinary | Boolean):
        return []  # drivers have wrappers and numbers for them, which COPY has no use for
    found = _json_writer(kind, dialect) if isinstance(kind, JSON) else kind.bind_processor(dialect)
    return [] if found is None else [found]


def _one_after_another(steps: list[Processor]) -> Processor | None:
    if len(steps) < 2:  # noqa: PLR2004  # one, or none
        return steps[0] if steps else None

    def run(value: Any) -> Any:  # noqa: ANN401  # a value of the column
        for step in steps:
            value = step(value)
        return value

    return run


def _json_writer(kind: JSON, dialect: Dialect) -> Processor:
    """Return what SQLAlchemy does to JSON, but as text for both drivers; psycopg's own is a wrapper."""
    dumps: Processor = getattr(dialect, "_json_serializer", None) or json.dumps

    def write(value: object) -> str | None:
        if isinstance(value, Null) or (value is None and kind.none_as_null):
            return None
        found: str = dumps(None if value is JSON.NULL else value)
        return found

    return write


def inner_type(kind: TypeEngine[Any], dialect: Dialect | None = None) -> TypeEngine[Any]:
    """Return the type inside all decorators: in general, or as a dialect has it."""
    found: TypeEngine[Any] = kind if dialect is None else kind.dialect_impl(dialect)
    while isinstance(found, TypeDecorator) and not isinstance(found, Interval | PickleType):
        found = found.impl_instance
    return found


def changes_values(kind: TypeEngine[Any]) -> bool:
    """Say whether a decorator's values are other ones than those of the type inside."""
    while isinstance(kind, TypeDecorator) and not isinstance(kind, Interval):
        if any(getattr(type(kind), name) is not getattr(TypeDecorator, name) for name in _CHANGES):
            return True
        kind = kind.impl_instance
    return False


def _loads_other_types(kind: TypeEngine[Any]) -> bool:
    """Say whether the values are of another class on some dialect, or may be."""
    usual = class_of_type(inner_type(kind))
    while True:
        if any(class_of_type(inner_type(each)) is not usual for each in variants_of(kind)):
            return True
        if not isinstance(kind, TypeDecorator) or isinstance(kind, Interval):
            return False
        if type(kind).load_dialect_impl is not TypeDecorator.load_dialect_impl:
            return True
        kind = kind.impl_instance


def is_set(kind: object) -> bool:
    """Say whether a type is MariaDB's SET."""
    return is_of(kind, "sqlalchemy.dialects.mysql", "SET")


def class_of_type(kind: TypeEngine[Any]) -> type | None:
    """Return the class of a type's values; None if the type does not know it."""
    if is_set(kind):
        return set
    if is_of(kind, "sqlalchemy.dialects.postgresql", "DOMAIN"):
        return class_of_type(kind.data_type)  # type: ignore[attr-defined]  # a domain's
    found = class_said(kind)
    if found is object:
        return int if any(is_of(kind, *classes) for classes in _UNSAID_WHOLE) else None
    return found


def column_kind(kind: TypeEngine[Any]) -> type | None:
    """Return the class of the values of a column of this type, also where a decorator changes them."""
    return ColumnValues(kind).kind if changes_values(kind) else class_of_type(kind)


def _result_of(kind: TypeEngine[Any]) -> Any:  # noqa: ANN401  # a type
    """Return what a decorator says that it returns."""
    if not isinstance(kind, TypeDecorator):
        return NOTHING
    try:
        hints = typing.get_type_hints(type(kind).process_result_value)
    except (NameError, TypeError):
        return NOTHING
    return without_none(hints.get("return", NOTHING))


def _deepest(annotation: Any) -> Any:  # noqa: ANN401  # a type
    while (element := element_of(annotation)) is not NOTHING:
        annotation = element
    return NOTHING if annotation is Any else annotation


def column_values(column: ColumnElement[Any], annotation: Any = NOTHING) -> ColumnValues:  # noqa: ANN401  # a type
    """Describe the values of a column that no attribute stands for."""
    return ColumnValues(column.type, annotation, nullable=bool(getattr(column, "nullable", True)))


class _Attributes(dict[str, ColumnValues]):
    """The attributes of one model, described when they are asked for."""

    def __init__(self, _entity: type[Any], mapper: Mapper[Any]) -> None:
        super().__init__()
        self._mapper = mapper

    def __missing__(self, key: str) -> ColumnValues:
        found = self[key] = column_values(
            self._mapper.column_attrs[key].columns[0], annotated_kind(self._mapper, key)
        )
        return found


def values_of(entity: Any, key: str) -> ColumnValues:  # noqa: ANN401  # a mapped class, alias or mapper
    """Describe the values of a mapped column attribute; looked at once for each model.

    Raises:
        KeyError: The model has no such column attribute.
    """
    model: type[Any] = inspect_entity(entity).mapper.class_
    return remembered(model, _KNOWN, _Attributes)[key]
