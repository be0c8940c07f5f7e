"""This module tells at a glance which statements differ in their values alone.

SQLAlchemy walks through all of a statement for that, which takes longer than a short one takes to be sent.
Here a few plain parts are known: columns, what compares them with values, and the order.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import LABEL_STYLE_DEFAULT, Column, Select, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    False_,
    Grouping,
    Null,
    True_,
    UnaryExpression,
)
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

M = TypeVar("M")

PLAIN_PARTS = frozenset(
    {"_raw_columns", "_where_criteria", "_order_by_clauses", "_label_style", "_propagate_attrs"}
)
"""What a SELECT consists of that is looked at here; the last one follows from the others."""
_COMPARISONS = frozenset(
    {
        operators.eq,
        operators.ne,
        operators.lt,
        operators.le,
        operators.gt,
        operators.ge,
        operators.is_,
        operators.is_not,
        operators.in_op,
        operators.not_in_op,
        operators.like_op,
        operators.not_like_op,
        operators.ilike_op,
        operators.not_ilike_op,
    }
)
_NO_ESCAPE: dict[str, Any] = {"escape": None}
_SELECTED = (Column, Table)
_CONSTANTS = frozenset({Null, True_, False_})
_DIRECTIONS = frozenset({operators.asc_op, operators.desc_op})
_LISTS = frozenset({list, tuple})
_VALUES = frozenset(
    {
        *(type(None), bool, int, float, str, bytes, Decimal, UUID, list, dict, tuple),
        *(dt.date, dt.datetime, dt.time, dt.timedelta),
    }
)
"""Which SQLAlchemy takes for nothing but values."""


class WatchedSelect(Select[M]):
    """A `Select` that knows whether it was written as SQL, or looked for among those that were.

    One of both is done with a statement that is sent, by itself or inside another.
    """

    inherit_cache = True
    written = False
    known_parts = PLAIN_PARTS | {"written"}
    """The attributes whose values are plain parts of the statement, or no part of it."""

    @override
    def _gen_cache_key(self, am: Any, bindparams: Any) -> Any:
        self.written = True
        return super()._gen_cache_key(am, bindparams)

    @override
    def _compiler_dispatch(self, visitor: Any, **options: Any) -> Any:
        self.written = True
        return super()._compiler_dispatch(visitor, **options)


class Shape(NamedTuple):
    """What a statement has in common with those that differ in values alone, and its own values.

    Attributes:
        key: What is equal then. Columns are known by which they are: it holds them for as long as it lives.
        binds: The parameters that hold the values.
        given: The values that are no parameters yet.
    """

    key: tuple[Any, ...]
    binds: Sequence[BindParameter[Any]]
    given: Sequence[Any] = ()

    @property
    def values(self) -> list[Any]:
        """The values, in the order of what holds them."""
        return [*(bind.value for bind in self.binds), *self.given]


def shape_of(statement: object) -> Shape | None:
    """Return the shape of a statement; None if it is no SELECT, or has parts that are not known here."""
    known = PLAIN_PARTS
    if isinstance(statement, WatchedSelect):
        statement.written, known = True, statement.known_parts
    elif type(statement) is not Select:
        return None
    parts = vars(statement)
    if not parts.keys() <= known or parts.get("_label_style", LABEL_STYLE_DEFAULT) is not LABEL_STYLE_DEFAULT:
        return None
    key: list[Any] = [type(statement)]
    binds: list[BindParameter[Any]] = []
    if not _add_parts(parts, key, binds):
        return None
    # One value in two places, or two of one name, are written in another way.
    if len(binds) > 1 and len({bind.key for bind in binds}) < len(binds):
        return None
    return Shape(tuple(key), binds)


def shape_of_change(
    verb: str, entity: type[Any], chosen: Shape | None, values: Mapping[str, Any]
) -> Shape | None:
    """Return the shape of what deletes rows, or gives attributes new values; None if it has none.

    Args:
        verb: Which of both.
        entity: The class of the rows.
        chosen: That of the SELECT that chooses the rows, if it has one.
        values: What is given to attributes.
    """
    if chosen is None or not all(type(each) in _VALUES or isinstance(each, Enum) for each in values.values()):
        return None
    return Shape((verb, entity, *values, *chosen.key), chosen.binds, tuple(values.values()))


def _add_parts(parts: Mapping[str, Any], key: list[Any], binds: list[BindParameter[Any]]) -> bool:
    """Add what tells the parts of a SELECT from those of others; say whether all of them are known here."""
    columns, criteria = parts["_raw_columns"], parts.get("_where_criteria", ())
    key += (len(columns), len(criteria))
    for column in columns:
        if not isinstance(column, _SELECTED):
            return False
        key += (id(column), column)
    for condition in criteria:
        if not _add_condition(condition, key, binds):
            return False
    order = parts.get("_order_by_clauses")
    return not order or all(_add_order(expression, key) for expression in order)


def _add_condition(condition: Any, key: list[Any], binds: list[BindParameter[Any]]) -> bool:  # noqa: ANN401  # any element
    """Add what tells a condition from others; say whether all of it is known here."""
    kind = type(condition)
    if kind is BinaryExpression:
        return _add_comparison(condition, key, binds)
    if kind is BooleanClauseList:
        clauses = condition.clauses
        key += (condition.operator, len(clauses))
        return all(_add_condition(each, key, binds) for each in clauses)
    if kind is Grouping:
        key.append(kind)
        return _add_condition(condition.element, key, binds)
    return _add_operand(condition, key)


def _add_comparison(compared: BinaryExpression[Any], key: list[Any], binds: list[BindParameter[Any]]) -> bool:
    left, right, modifiers = compared.left, compared.right, compared.modifiers
    if not isinstance(left, Column) or compared.operator not in _COMPARISONS:
        return False
    if modifiers and modifiers != _NO_ESCAPE:
        return False
    key += (compared.operator, id(left), left)
    if type(right) is not BindParameter:
        return _add_operand(right, key)
    # A value of another type than its column makes another type of the parameter.
    if right.type is not left.type or not _is_plain(right):
        return False
    key.append(right.expanding)
    binds.append(right)
    return True


def _is_plain(bind: BindParameter[Any]) -> bool:
    """Say whether a parameter is a value, or a list of them, to which nobody has given a name."""
    if not bind.unique or bind.callable is not None or bind.required or bind.literal_execute:
        return False
    return not bind.expanding or type(bind.value) in _LISTS


def _add_operand(operand: Any, key: list[Any]) -> bool:  # noqa: ANN401  # any element
    if isinstance(operand, Column):
        key += (id(operand), operand)
        return True
    key.append(type(operand))
    return type(operand) in _CONSTANTS


def _add_order(expression: Any, key: list[Any]) -> bool:  # noqa: ANN401  # any element
    if type(expression) is UnaryExpression:
        key.append(expression.modifier)
        if expression.operator is not None or expression.modifier not in _DIRECTIONS:
            return False
        expression = expression.element
    if not isinstance(expression, Column):
        return False
    key += (id(expression), expression)
    return True
