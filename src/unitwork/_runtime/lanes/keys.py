"""This module gives a statement the keys that it asks for: in one array, or with a parameter for each."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import any_, bindparam
from sqlalchemy.sql.sqltypes import TupleType
from sqlalchemy.util import LRUCache

from unitwork._sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.engine import Dialect

KEYS = "primary_keys"
"""What the parameter is called."""
_KNOWN_LENGTHS = 8


def among_keys(compared: Any, dialect: Dialect) -> Any:  # noqa: ANN401  # a column or a tuple, and a condition
    """Return the condition that a column, or a tuple of them, is one of the keys.

    PostgreSQL takes them as one array, so that the statement is the same for any number of them.
    """
    if dialect.name == "postgresql" and hasattr(compared, "table"):
        return compared == any_(bindparam(KEYS, type_=postgresql.ARRAY(compared.type)))
    return compared.in_(bindparam(KEYS, expanding=True))


class _Expanded(NamedTuple):
    """A statement for so many keys."""

    sql: str
    names: Sequence[str]
    encode: Sequence[Callable[[Any], Any] | None]
    """What is done to each value; nothing if that is so with all."""


class KeyList:
    """Makes of keys what a driver is given. Lives: as long as the compiled statement.

    Args:
        statement: As SQLAlchemy knows it.
        compiled: Of it, with a condition of `among_keys` that has its only parameter.
        dialect: What it is compiled for.
    """

    def __init__(self, statement: Any, compiled: Any, dialect: Dialect) -> None:  # noqa: ANN401  # of SQLAlchemy's
        self.statement = statement
        self._compiled = compiled
        (bind,) = compiled.bind_names
        self.single = not isinstance(bind.type, TupleType)
        """A key is one value."""
        self._in_array = not bind.expanding
        kind = bind.type.dialect_impl(dialect)
        self._encode = kind.bind_processor(dialect) if self._in_array else None
        self._expanded: LRUCache[int, _Expanded] = LRUCache(_KNOWN_LENGTHS)

    def filled(self, keys: list[Any]) -> tuple[str, Any]:
        """Return the statement and its arguments as the driver takes them."""
        values = keys if self.single else list(chain.from_iterable(keys))
        if self._in_array:
            array = self._encode(values) if self._encode is not None else values
            return str(self._compiled), [array] if self._compiled.positional else {KEYS: array}
        known = self._expanded.get(len(keys))
        if known is None:
            known = self._expanded[len(keys)] = self._for(keys)
        if known.encode:
            pairs = zip(known.encode, values, strict=True)
            values = [value if encode is None else encode(value) for encode, value in pairs]
        if self._compiled.positional:
            return known.sql, values
        return known.sql, dict(zip(known.names, values, strict=True))

    def _for(self, keys: list[Any]) -> _Expanded:
        state = self._compiled.construct_expanded_state({KEYS: keys})
        names = state.parameter_expansion[KEYS]
        encode = [state.processors.get(name) for name in names]
        return _Expanded(state.statement, names, encode if any(encode) else ())
