"""This module says what is asked of a database: a statement, and the values of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy import bindparam, select

from unitwork._logic.remembered import remembered
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.lanes.results import ResultReader
from unitwork._sqlalchemy.shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Mapper

    from unitwork._sqlalchemy.shapes import Shape as StatementShape

_KNOWN = "unitwork_key_lookup"


class Call(Protocol):
    """One statement with the values of one call, or what such a statement is written of."""

    @property
    def statement(self) -> Any:  # noqa: ANN401  # any that SQLAlchemy can run
        """As SQLAlchemy knows it."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """The values that are not in the statement itself."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of its parameters, for errors."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether it is the same object in each call."""
        ...

    @property
    def shape(self) -> StatementShape | None:
        """What tells it from others, if that is found sooner than by all of the statement."""
        ...


class StatementCall(NamedTuple):
    """One statement with the values of one call.

    Args:
        statement: Any that SQLAlchemy can run.
        parameters: The values that are not in the statement itself.
        writes: It may change something.
        names: Of its parameters, for errors.
        fixed: It is the same object in each call.
    """

    statement: Any
    parameters: Mapping[str, Any] | None = None
    writes: bool = False
    names: tuple[str, ...] = ()
    fixed: bool = False

    @property
    def shape(self) -> StatementShape | None:
        """Its shape, looked for each time."""
        return None if self.fixed or self.parameters is not None else shape_of(self.statement)


class UnwrittenCall:
    """One UPDATE or DELETE of rows by a condition, which is written only if somebody needs it.

    Args:
        shape: Its shape.
        write: Writes it.
    """

    __slots__ = ("_statement", "_write", "shape")

    parameters: Mapping[str, Any] | None = None
    names: tuple[str, ...] = ()
    fixed = False

    def __init__(self, shape: StatementShape, write: Callable[[], Any]) -> None:
        self.shape = shape
        self._write = write
        self._statement: Any = None

    @property
    def statement(self) -> Any:  # noqa: ANN401  # an UPDATE or DELETE
        if self._statement is None:
            self._statement = self._write()
        return self._statement


class KeyLookup:
    """How one class of entities is asked for by primary key. Lives: as long as the class."""

    @classmethod
    def of(cls, entity: type[Any]) -> KeyLookup:
        """Return what is known of a class; looked at once."""
        return remembered(entity, _KNOWN, cls)

    def __init__(self, entity: type[Any], mapper: Mapper[Any]) -> None:
        self._mapper = mapper
        self._readers: dict[str, ResultReader] = {}
        self._names = tuple(f"pk_{place}" for place, _column in enumerate(mapper.primary_key, 1))
        columns = zip(mapper.primary_key, self._names, strict=True)
        self.statement = select(entity).where(*(column == bindparam(name) for column, name in columns))

    def values(self, key: object) -> Mapping[str, Any] | None:
        """Return the values of the statement; None if the key is not one that a row can have."""
        if len(self._names) == 1:
            if isinstance(key, tuple | list | dict):
                return None
            return {self._names[0]: key}
        if not isinstance(key, tuple) or len(key) != len(self._names) or None in key:
            return None
        return dict(zip(self._names, key, strict=True))

    def call(self, values: Mapping[str, Any], options: Sequence[Any] = ()) -> StatementCall:
        """Return the statement with the values of one call, and loader options."""
        if options:
            return StatementCall(self.statement.options(*options), values)
        return StatementCall(self.statement, values, fixed=True)

    def reader(self, name: str) -> ResultReader:
        """Return what reads the rows for a query of this name."""
        found = self._readers.get(name)
        if found is None:
            shape = Shape(Rows.MAYBE, Item.ENTITY, self._mapper.class_)
            found = self._readers[name] = ResultReader(name, shape)
        return found

    def identity(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what a session knows the entity by."""
        return self._mapper.identity_key_from_primary_key(tuple(values.values()))
