"""This module makes long IN lists fit: as one array on PostgreSQL, as one JSON text on SQLite.

A list whose values would be others there is left as it is.

SQLAlchemy gives each value of a list a parameter of its own. PostgreSQL takes 32,767 of these, SQLite
as few as 999; and a statement for each length would fill every statement cache. MariaDB's drivers
write the values into the statement, whose length alone is limited.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import BindParameter, TextClause, all_, any_, bindparam, column, func, select, text
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.types import REAL, Enum, Float, NullType, Numeric, String, Text

from unitwork._logic.sql.clause import binds_of, plain_clause
from unitwork._logic.sql.parts import with_lists
from unitwork._logic.sql.reading import readings
from unitwork._logic.values.columns import inner_type
from unitwork._sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

LONG = 500
"""From this many values on a list is sent as one value."""

_DIALECTS = frozenset({"postgresql", "sqlite"})
_COLLECTIONS = frozenset({list, tuple, set, frozenset, dict})
_IN_JSON = frozenset({str, int, float, bool, type(None)})
_NUL = "\\u0000"
"""Where a text of SQLite's JSON ends; it may be written out in a text as well."""


def with_short_lists(
    statement: Any,  # noqa: ANN401  # any statement
    parameters: Mapping[str, Any] | None,
    dialect: Dialect,
) -> tuple[Any, Mapping[str, Any] | None]:
    """Return a statement and its parameters in which each long IN list is one value."""
    if dialect.name not in _DIALECTS or not (_has_long(parameters) or _holds_long(statement)):
        return statement, parameters
    return _Shortening(parameters or {}, dialect).of(statement)


def is_long(value: object) -> bool:
    """Say whether a value is a list that is sent as one value."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes) and len(value) > LONG


def _has_long(parameters: Mapping[str, Any] | None) -> bool:
    return parameters is not None and any(map(is_long, parameters.values()))


def _holds_long(statement: Any) -> bool:  # noqa: ANN401  # any statement
    # The cache key lists the values of a statement, several times faster than a walk through it.
    key = statement._generate_cache_key()  # noqa: SLF001  # what SQLAlchemy's own extensions use
    if key is None:
        return False
    return any(bind.expanding and is_long(bind.effective_value) for bind in key.bindparams)


class _OneValue(NamedTuple):
    """A list as one value."""

    type: TypeEngine[Any]
    value: Any


class _Shortening:
    """One statement and its parameters, being changed. Lives: one call."""

    def __init__(self, parameters: Mapping[str, Any], dialect: Dialect) -> None:
        self._parameters = parameters
        self._changed = dict(parameters)
        self._dialect = dialect
        self._shortened = False

    def of(self, statement: Any) -> tuple[Any, Mapping[str, Any]]:  # noqa: ANN401  # any statement
        short = visitors.replacement_traverse(statement, {}, cast("Any", self._replaced))
        return (short, self._changed) if self._shortened else (statement, self._parameters)

    def _replaced(self, element: Any, **_more: object) -> Any:  # noqa: ANN401  # any element
        if isinstance(element, TextClause):
            return self._text(element)
        if not isinstance(element, BinaryExpression) or not isinstance(element.right, BindParameter):
            return None
        bind = element.right
        values = self._values(bind)
        if element.operator not in (operators.in_op, operators.not_in_op) or not is_long(values):
            return None
        kind = element.left.type if isinstance(bind.type, NullType) else bind.type
        one = self._as_one(kind, list(values))
        if one is None:
            return None
        self._changed.pop(bind.key, None)
        return self._condition(element.left, one, kind, inside=element.operator is operators.in_op)

    def _values(self, bind: BindParameter[Any]) -> Any:  # noqa: ANN401  # the value of a parameter
        if not bind.expanding:
            return None
        return self._parameters.get(bind.key, bind.effective_value)

    def _condition(self, left: Any, one: _OneValue, kind: TypeEngine[Any], *, inside: bool) -> Any:  # noqa: ANN401
        sent: Any = bindparam(None, one.value, type_=one.type, unique=True)
        if self._dialect.name == "postgresql":
            return left == any_(sent) if inside else left != all_(sent)
        rows = select(column("value", kind)).select_from(func.json_each(sent).alias("unitwork_list"))
        return left.in_(rows) if inside else left.not_in(rows)

    def _as_one(self, kind: TypeEngine[Any], values: list[Any]) -> _OneValue | None:
        """Return a list as one value; None where the database would read other values in that."""
        kind = _element_type(kind, values)
        if _is_written_in_sql(kind):
            return None
        try:
            encode = kind.dialect_impl(self._dialect).bind_processor(self._dialect)
            sent = values if encode is None else [encode(value) for value in values]
        except Exception:  # noqa: BLE001  # SQLAlchemy raises what is right
            return None
        if self._dialect.name == "sqlite":
            text = _json(sent)
            one = None if text is None else _OneValue(Text(), text)
        else:
            one = self._array(kind, values, sent)
        self._shortened = self._shortened or one is not None
        return one

    def _array(self, kind: TypeEngine[Any], values: list[Any], sent: list[Any]) -> _OneValue | None:
        bare = inner_type(kind, self._dialect).dialect_impl(self._dialect)
        types = set(map(type, sent)) - {type(None)}
        if len(types) > 1 or types & _COLLECTIONS:
            return None  # an array is of one type for the driver
        if isinstance(inner_type(kind), REAL) or (
            isinstance(bare, Numeric | Float) and not bare.render_bind_cast
        ):
            return None  # a number alone is cast to no precision
        if None in values and sent[values.index(None)] is not None:
            return None
        if isinstance(bare, String) and bare.length and not isinstance(bare, Enum):
            # A text alone is cast to no length, which would cut it.
            return _OneValue(postgresql.ARRAY(String()), sent)
        return _OneValue(postgresql.ARRAY(kind), values)

    def _text(self, clause: TextClause) -> TextClause | None:
        binds = binds_of(clause)
        long: dict[str, _OneValue] = {}
        for name, bind in binds.items():
            values = self._values(bind)
            one = self._as_one(bind.type, list(values)) if is_long(values) else None
            if one is not None:
                long[name] = one
        if not long:
            return None
        own = plain_clause(clause, self._dialect.name)
        kept = [bind for name, bind in binds.items() if name not in long]
        for name, one in long.items():
            self._changed[name] = one.value
            kept.append(bindparam(name, type_=one.type))
        (way,) = readings(own.text, self._dialect.name)
        return text(with_lists(way, long, self._in_text)).bindparams(*kept)

    def _in_text(self, name: str, negated: bool) -> str:  # noqa: FBT001  # as it stands in the text
        if self._dialect.name == "postgresql":
            return f"<> ALL (:{name})" if negated else f"= ANY (:{name})"
        return f"{'NOT ' if negated else ''}IN (SELECT value FROM json_each(:{name}))"  # noqa: S608  # our names


def _is_written_in_sql(kind: TypeEngine[Any]) -> bool:
    """Say whether a type writes more than a parameter, or a column, for a value."""
    written = kind.bind_expression(bindparam("value", type_=kind))
    return written is not None or kind.column_expression(column("value", kind)) is not None


def _element_type(kind: TypeEngine[Any], values: list[Any]) -> TypeEngine[Any]:
    if not isinstance(kind, NullType):
        return kind
    sample = next((value for value in values if value is not None), "")
    known: TypeEngine[Any] = bindparam(None, sample).type
    return String() if isinstance(known, NullType) else known


def _json(values: list[Any]) -> str | None:
    """Return values as JSON; None where SQLite reads others in it."""
    if not _IN_JSON.issuperset(map(type, values)):
        return None
    if any(type(value) is int and not -(2**63) <= value < 2**63 for value in values):
        return None
    try:
        found = json.dumps(values, ensure_ascii=False, allow_nan=False)
        found.encode()
    except ValueError:  # no number, or half a character
        return None
    return None if _NUL in found else found
