"""This module says what is asked of a database: a statement, and the values of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, select

from unitwork._logic.remembered import remembered
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime.lanes.results import ResultReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Mapper

_KNOWN = "unitwork_key_lookup"


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
