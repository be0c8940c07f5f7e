"""This module makes long IN lists fit: as one array on PostgreSQL, as one JSON text on SQLite.

SQLAlchemy gives each value of a list a parameter of its own. PostgreSQL takes 32,767 of these, SQLite
as few as 999; and a statement for each length would fill every statement cache. MariaDB's drivers
write the values into the statement, whose length alone is limited.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import BindParameter, TextClause, all_, any_, bindparam, column, func, select, text
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.types import NullType, String, Text

from unitwork._logic.sql.clause import binds_of, plain_clause
from unitwork._logic.sql.parts import with_lists
from unitwork._logic.sql.reading import readings
from unitwork._sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

LONG = 500
"""From this many values on a list is sent as one value."""

_DIALECTS = frozenset({"postgresql", "sqlite"})


def with_short_lists(
    statement: Any,  # noqa: ANN401  # any statement
    parameters: Mapping[str, Any] | None,
    dialect: Dialect,
) -> tuple[Any, Mapping[str, Any] | None]:
    """Return a statement and its parameters in which each long IN list is one value."""
    if dialect.name not in _DIALECTS or not (_has_long(parameters) or _holds_long(statement)):
        return statement, parameters
    return _Shortening(parameters or {}, dialect).of(statement)


def _is_long(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes) and len(value) > LONG


def _has_long(parameters: Mapping[str, Any] | None) -> bool:
    return parameters is not None and any(map(_is_long, parameters.values()))


def _holds_long(statement: Any) -> bool:  # noqa: ANN401  # any statement
    # The cache key lists the values of a statement, several times faster than a walk through it.
    key = statement._generate_cache_key()  # noqa: SLF001  # what SQLAlchemy's own extensions use
    if key is None:
        return False
    return any(bind.expanding and _is_long(bind.effective_value) for bind in key.bindparams)


class _Shortening:
    """One statement and its parameters, being changed. Lives: one call."""

    def __init__(self, parameters: Mapping[str, Any], dialect: Dialect) -> None:
        self._parameters = parameters
        self._changed = dict(parameters)
        self._dialect = dialect

    def of(self, statement: Any) -> tuple[Any, Mapping[str, Any]]:  # noqa: ANN401  # any statement
        short = visitors.replacement_traverse(statement, {}, cast("Any", self._replaced))
        return short, self._changed

    def _replaced(self, element: Any, **_more: object) -> Any:  # noqa: ANN401  # any element
        if isinstance(element, TextClause):
            return self._text(element)
        if not isinstance(element, BinaryExpression) or not isinstance(element.right, BindParameter):
            return None
        bind = element.right
        values = self._values(bind)
        if element.operator not in (operators.in_op, operators.not_in_op) or not _is_long(values):
            return None
        kind = element.left.type if isinstance(bind.type, NullType) else bind.type
        self._changed.pop(bind.key, None)
        return self._condition(element.left, list(values), kind, inside=element.operator is operators.in_op)

    def _values(self, bind: BindParameter[Any]) -> Any:  # noqa: ANN401  # the value of a parameter
        if not bind.expanding:
            return None
        return self._parameters.get(bind.key, bind.effective_value)

    def _condition(self, left: Any, values: list[Any], kind: TypeEngine[Any], *, inside: bool) -> Any:  # noqa: ANN401
        if self._dialect.name == "postgresql":
            array: Any = bindparam(None, values, type_=postgresql.ARRAY(kind), unique=True)
            return left == any_(array) if inside else left != all_(array)
        found = func.json_each(bindparam(None, self._json(values, kind), type_=Text(), unique=True))
        rows = select(column("value", kind)).select_from(found.alias("unitwork_list"))
        return left.in_(rows) if inside else left.not_in(rows)

    def _json(self, values: list[Any], kind: TypeEngine[Any]) -> str:
        processed = kind.dialect_impl(self._dialect).bind_processor(self._dialect)
        return json.dumps([processed(value) for value in values] if processed else values)

    def _text(self, clause: TextClause) -> TextClause | None:
        binds = binds_of(clause)
        long = {name: bind for name, bind in binds.items() if _is_long(self._values(bind))}
        if not long:
            return None
        own = plain_clause(clause, self._dialect.name)
        kept = [bind for name, bind in binds.items() if name not in long]
        for name, bind in long.items():
            values = list(self._values(bind))
            kind: TypeEngine[Any] = bind.type
            if self._dialect.name == "postgresql":
                kept.append(bindparam(name, type_=postgresql.ARRAY(_element_type(kind, values))))
            else:
                self._changed[name] = self._json(values, kind)
                kept.append(bindparam(name, type_=Text()))
        (way,) = readings(own.text, self._dialect.name)
        return text(with_lists(way, long, self._in_text)).bindparams(*kept)

    def _in_text(self, name: str, negated: bool) -> str:  # noqa: FBT001  # as it stands in the text
        if self._dialect.name == "postgresql":
            return f"<> ALL (:{name})" if negated else f"= ANY (:{name})"
        return f"{'NOT ' if negated else ''}IN (SELECT value FROM json_each(:{name}))"  # noqa: S608  # our names


def _element_type(kind: TypeEngine[Any], values: list[Any]) -> TypeEngine[Any]:
    if not isinstance(kind, NullType):
        return kind
    sample = next((value for value in values if value is not None), "")
    known: TypeEngine[Any] = bindparam(None, sample).type
    return String() if isinstance(known, NullType) else known
