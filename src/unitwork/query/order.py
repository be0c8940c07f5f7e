"""This module sorts and pages statements; names are checked against mapped attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, false, func, literal, or_, select
from sqlalchemy import inspect as inspect_entity

from unitwork._logic.paging import Position, Sort, UnorderedValueError, shortened
from unitwork._logic.values.ordering import exact, has_order, sortable
from unitwork.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Select

    from unitwork._logic.paging import CursorCodec


class Order:
    """The complete order of one request: what is asked for, and the primary key. Lives: one call."""

    def __init__(self, columns: Mapping[str, Any], key: Sequence[str], sorts: Sequence[Sort]) -> None:
        for sort in sorts:
            if sort.field not in columns:
                known = [repr(name) for name in columns]
                raise OptionError("sort field", shortened(sort.field), known)
        asked = {sort.field for sort in sorts}
        self.sorts = [*sorts, *(Sort(name) for name in key if name not in asked)]
        self._columns = columns

    def clauses(self, *, forward: bool = True) -> list[ColumnElement[Any]]:
        """Return the ORDER BY; NULL counts as the smallest value on every database."""
        clauses: list[ColumnElement[Any]] = []
        for sort in self.sorts:
            column = self._columns[sort.field]
            value = sortable(column)
            parts = [case((column.is_(None), 0), else_=1), value] if _nullable(column) else [value]
            down = sort.descending is forward
            clauses += [part.desc() if down else part.asc() for part in parts]
        return clauses

    def beyond(self, position: Position) -> ColumnElement[bool]:
        """Return the condition for rows after a position, or before it."""
        choices: list[ColumnElement[bool]] = []
        same: list[ColumnElement[bool]] = []
        for sort, value in zip(self.sorts, position.values, strict=True):
            column = exact(self._columns[sort.field])
            down = sort.descending is position.forward
            # As a parameter: SQLAlchemy compares the constants True and False for equality alone.
            bound = None if value is None else literal(value, column.type)
            choices.append(and_(*same, _further(column, bound, down=down)))
            same.append(column.is_(None) if bound is None else column == bound)
        return or_(*choices)

    def columns(self) -> list[ColumnElement[Any]]:
        """Return the columns to select, so that cursors can be written.

        Raises:
            OptionError: The values of one have no order that a cursor could keep.
        """
        for sort in self.sorts:
            if not has_order(self._columns[sort.field]):
                raise _unordered(sort.field)
        return [
            exact(self._columns[sort.field]).label(f"unitwork_sort_{place}")
            for place, sort in enumerate(self.sorts)
        ]


def _nullable(column: Any) -> bool:  # noqa: ANN401  # attribute or column
    element = getattr(column, "expression", column)
    return bool(getattr(element, "nullable", True))


def _further(column: Any, value: object, *, down: bool) -> ColumnElement[bool]:  # noqa: ANN401  # attribute or column
    if value is None:
        return false() if down else column.is_not(None)
    if down:
        smaller: ColumnElement[bool] = column < value
        return or_(smaller, column.is_(None)) if _nullable(column) else smaller
    larger: ColumnElement[bool] = column > value
    return larger


def order_of(entity: Any, sorts: Sequence[Sort]) -> Order:  # noqa: ANN401  # class or alias
    """Return the order of an entity's rows.

    Raises:
        OptionError: A sort names no mapped column attribute.
    """
    mapper = inspect_entity(entity).mapper
    columns = {attribute.key: getattr(entity, attribute.key) for attribute in mapper.column_attrs}
    key = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return Order(columns, key, sorts)


def counted(statement: Select[Any]) -> Select[Any]:
    """Return a statement that counts the rows of another."""
    return select(func.count()).select_from(statement.order_by(None).subquery())


def in_order(statement: Select[Any], target: Any, sorts: Sequence[Sort]) -> Select[Any]:  # noqa: ANN401  # class or alias
    """Return a statement whose order is complete: as asked, or its own, and then by primary key.

    Raises:
        OptionError: A sort names no mapped column attribute.
    """
    grouped = statement._distinct or statement._group_by_clauses  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if not sorts and grouped:
        return statement  # the key is no column of such rows
    order = order_of(target or entity_in(statement), sorts)
    return (statement.order_by(None) if sorts else statement).order_by(*order.clauses())


def entity_in(statement: Select[Any]) -> Any:  # noqa: ANN401  # class or alias
    """Return the first entity that a statement selects.

    Raises:
        OptionError: There is none.
    """
    for described in statement.column_descriptions:
        if described.get("entity") is not None:
            return described["entity"]
    raise OptionError("statement", "no entity", ["a Select of a mapped class, such as `select(Model)`"])


def refuse_limits(verb: str, statement: Select[Any]) -> None:
    """Refuse to page a statement that has a limit or offset of its own.

    Raises:
        OptionError: It has.
    """
    if statement._limit_clause is not None or statement._offset_clause is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        raise OptionError(verb, "a statement with a limit or offset", ["the size of the request"])


def cursor_at(
    codec: CursorCodec, order: Order, edge: Sequence[Sequence[Any]], *, forward: bool
) -> str | None:
    """Return the cursor at the row that an edge holds the sort values of; None without one.

    Raises:
        OptionError: A value has no text that it can be read from again.
    """
    if not edge:
        return None
    try:
        return codec.write(Position(forward, tuple(edge[0])))
    except UnorderedValueError as error:
        names = ", ".join(sort.field for sort in order.sorts)
        raise _unordered(f"{names} (of {error})") from None


def _unordered(field: str) -> OptionError:
    allowed = ["attributes that hold numbers, text, dates, times, UUIDs, bytes or enum members"]
    return OptionError("sort field", field, allowed)


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that are no attributes.

    Raises:
        OptionError: One of them is none.
    """
    allowed = list(known)
    for name in names:
        if name not in allowed:
            raise OptionError("attribute", shortened(name), [repr(attribute) for attribute in allowed])
