"""This module sorts and pages statements; names are checked against mapped attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, case, false, literal, or_
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.sql.operators import desc_op

from unitwork._logic.paging import Position, Sort, UnorderedValueError, shortened
from unitwork._logic.values.ordering import exact, has_order, sortable
from unitwork.errors import OptionError
from unitwork.query.clauses import distinct_on, is_distinct, key_of, refuse_limits, row_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Dialect

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

    def columns(self, dialect: Dialect) -> list[ColumnElement[Any]]:
        """Return the columns to select, so that cursors can be written.

        Raises:
            OptionError: The values of one have no order that a cursor could keep.
        """
        for sort in self.sorts:
            if not has_order(self._columns[sort.field], dialect):
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
    return Order(_attributes(entity), [attribute.key for attribute in key_of(entity)], sorts)


def _attributes(entity: Any) -> dict[str, Any]:  # noqa: ANN401  # class or alias
    mapper = inspect_entity(entity).mapper
    return {attribute.key: getattr(entity, attribute.key) for attribute in mapper.column_attrs}


class Ordered(NamedTuple):
    """A statement in an order. Its last `added` columns are there for the order alone."""

    statement: Select[Any]
    added: int


def in_order(statement: Select[Any], target: Any = None, sorts: Sequence[Sort] = ()) -> Ordered:  # noqa: ANN401  # class or alias
    """Complete the order of a statement: as asked, or its own, and then by what tells its rows apart.

    Raises:
        OptionError: A sort names no mapped column attribute, or one that is lost in the statement's
            DISTINCT; or the statement has nothing to be ordered by.
    """
    key = row_key(statement)
    if not sorts:
        if not key:
            entity_in(statement)  # says what is missing
        return Ordered(statement.order_by(*key), 0)
    entity = target or entity_in(statement)
    asked = Order(_attributes(entity), (), sorts).clauses()
    _refuse_lost(statement, entity, sorts)
    ordered = sorted_by(statement.order_by(None), asked)
    return ordered._replace(statement=ordered.statement.order_by(*key))


def sorted_by(statement: Select[Any], clauses: Sequence[Any]) -> Ordered:
    """Sort a statement; a DISTINCT one selects what it is sorted by, as PostgreSQL wants it."""
    if not is_distinct(statement):
        return Ordered(statement.order_by(*clauses), 0)
    added = [clause.element.label(f"unitwork_order_{place}") for place, clause in enumerate(clauses)]
    order = [
        label.desc() if clause.modifier is desc_op else label.asc()
        for label, clause in zip(added, clauses, strict=True)
    ]
    return Ordered(statement.add_columns(*added).order_by(*order), len(added))


def _refuse_lost(statement: Select[Any], entity: Any, sorts: Sequence[Sort]) -> None:  # noqa: ANN401  # class or alias
    """Refuse to sort by what a DISTINCT does not keep: other rows would come."""
    if distinct_on(statement):
        raise OptionError("sorts", "a statement with DISTINCT ON", ["the order of the statement"])
    if not is_distinct(statement):
        return
    selected = [each["expr"] for each in statement.column_descriptions if each.get("entity") is entity]
    if any(expression is entity for expression in selected):
        return
    kept = [expression.key for expression in selected]
    for sort in sorts:
        if sort.field not in kept:
            raise OptionError("sort field", sort.field, [repr(name) for name in kept])


def refuse_walk(statement: Select[Any], entity: Any) -> None:  # noqa: ANN401  # class or alias
    """Refuse to walk by cursor over what is no row of the entity: its key would leave rows out, or add some.

    Raises:
        OptionError: The statement limits itself, or its DISTINCT or GROUP BY does not keep the key.
    """
    refuse_limits("cursor_page", statement)
    key = key_of(entity)
    kept = row_key(statement)
    grouped = statement._group_by_clauses or statement._having_criteria or statement._distinct  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if distinct_on(statement) or (grouped and not all(_is_among(column, kept) for column in key)):
        names = ", ".join(column.key for column in key)
        allowed = [f"one that has {names}, or `page`"]
        raise OptionError("cursor_page", "a DISTINCT or GROUP BY without the primary key", allowed)


def _is_among(column: Any, expressions: Iterable[Any]) -> bool:  # noqa: ANN401  # attribute or column
    wanted = _clause(column)
    return any(wanted.compare(_clause(each)) for each in expressions)


def _clause(expression: Any) -> Any:  # noqa: ANN401  # attribute or column
    return expression.__clause_element__() if hasattr(expression, "__clause_element__") else expression


def entity_in(statement: Select[Any]) -> Any:  # noqa: ANN401  # class or alias
    """Return the first entity that a statement selects.

    Raises:
        OptionError: There is none.
    """
    for described in statement.column_descriptions:
        if described.get("entity") is not None:
            return described["entity"]
    raise OptionError("statement", "no entity", ["a Select of a mapped class, such as `select(Model)`"])


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
