"""This module derives conditions from the names of parameters: `age__gte` is `age >= …`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam
from sqlalchemy import inspect as inspect_entity

from unitwork._logic.values.annotations import allows_none
from unitwork.query.signature import values_in

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Mapper

    from unitwork.query.signature import QuerySignature

Condition = Callable[[Any, Any], Any]

_OPERATORS: Mapping[str, Condition] = {
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "ne": lambda column, value: column != value,
    "like": lambda column, value: column.like(value),
    "ilike": lambda column, value: column.ilike(value),
    "startswith": lambda column, value: column.startswith(value, autoescape=isinstance(value, str)),
    "endswith": lambda column, value: column.endswith(value, autoescape=isinstance(value, str)),
    "contains": lambda column, value: column.contains(value, autoescape=isinstance(value, str)),
    "in": lambda column, value: column.in_(value),
    "not_in": lambda column, value: column.not_in(value),
    "isnull": lambda column, value: column.is_(None) if value else column.is_not(None),
    "between": lambda column, value: column.between(*value),
}
# These need the value itself to build their SQL; the others need a placeholder only.
_BY_VALUE = frozenset({"isnull", "between", "startswith", "endswith", "contains"})
_LISTS = frozenset({"in", "not_in"})


class _Part(NamedTuple):
    parameter: str
    column: Any
    operator: str

    def placeholder(self) -> ColumnElement[Any]:
        """Return what stands for the value in a statement that is built once."""
        return bindparam(self.parameter, type_=self.column.type, expanding=self.operator in _LISTS)

    def condition(self, value: object) -> ColumnElement[bool]:
        if self.operator == "between":
            value = values_in(self.parameter, value)
        if self.operator:
            condition: ColumnElement[bool] = _OPERATORS[self.operator](self.column, value)
            return condition
        equal: ColumnElement[bool] = self.column.is_(None) if value is None else self.column == value
        return equal


class DerivedConditions:
    """The conditions of one derived query. Lives: as long as the query."""

    def __init__(self, parts: Sequence[_Part], *, may_be_null: bool) -> None:
        self._parts = parts
        self.column_types = {part.parameter: part.column.type for part in parts if part.operator != "isnull"}
        """The types that values are compared with, by the parameters' names."""
        by_value = may_be_null or any(part.operator in _BY_VALUE for part in parts)
        self.fixed: list[ColumnElement[bool]] | None = None
        if not by_value:
            self.fixed = [part.condition(part.placeholder()) for part in parts]

    def for_values(self, arguments: Mapping[str, Any]) -> list[ColumnElement[bool]]:
        """Return the conditions for the values of one call."""
        conditions: list[ColumnElement[bool]] = []
        for part in self._parts:
            value = arguments[part.parameter]
            if part.operator in _LISTS:
                value = values_in(part.parameter, value)
            conditions.append(part.condition(value))
        return conditions


def conditions_for(signature: QuerySignature, entity: type, *, besides: str) -> DerivedConditions:
    """Read the conditions from the parameters of a query.

    Raises:
        QueryDeclarationError: A parameter names no mapped attribute, or an unknown suffix.
    """
    mapper: Mapper[Any] = inspect_entity(entity)
    columns = {attribute.key: attribute.class_attribute for attribute in mapper.column_attrs}
    parts = [
        _part(signature, parameter, columns) for parameter in signature.parameters if parameter != besides
    ]
    may_be_null = any(allows_none(signature.parameters[part.parameter]) for part in parts)
    return DerivedConditions(parts, may_be_null=may_be_null)


def _part(signature: QuerySignature, parameter: str, columns: Mapping[str, Any]) -> _Part:
    if parameter in columns:
        return _Part(parameter, columns[parameter], "")
    name, separator, operator = parameter.rpartition("__")
    if not separator or name not in columns:
        raise signature.wrong(
            f"the parameter {parameter!r} names no attribute of the entity",
            f"use one of: {', '.join(columns)}; with a suffix such as `__gte`.",
        )
    if operator not in _OPERATORS:
        raise signature.wrong(
            f"the parameter {parameter!r} has the unknown suffix `__{operator}`",
            f"use one of: {', '.join(f'__{known}' for known in _OPERATORS)}.",
        )
    if operator in _LISTS | {"between"}:
        signature.needs_values(parameter)
    return _Part(parameter, columns[name], operator)
