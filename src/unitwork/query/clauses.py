"""This module knows what a statement says beside its conditions, and what that means to an ending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import FromClause, Select, exists, func, literal_column, select
from sqlalchemy import inspect as inspect_entity
from sqlalchemy.sql.visitors import iterate

from unitwork._sqlalchemy.versions import parts_before_columns
from unitwork.errors import OptionError

if TYPE_CHECKING:
    from sqlalchemy.sql.base import Executable

E = TypeVar("E", bound="Executable")

# Of SQLAlchemy's parts of a Select, what any ending carries over or what means nothing to a set of rows.
_NO_LIMITS = frozenset(
    {"_where_criteria", "_order_by_clauses", "_with_options", "_label_style", "_annotations"}
)
_CLAUSES = {
    name: place
    for place, (name, _kind) in enumerate(Select._traverse_internals)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if name not in _NO_LIMITS
}
"""All that SQLAlchemy knows, of whatever version it is."""
_ABOUT_ROWS = frozenset({"yield_per", "stream_results", "max_row_buffer"})
_WORDS = {
    "_limit_clause": "a limit",
    "_offset_clause": "an offset",
    "_fetch_clause": "a fetch",
    "_distinct": "DISTINCT",
    "_distinct_on": "DISTINCT ON",
    "_group_by_clauses": "GROUP BY",
    "_having_criteria": "HAVING",
    "_setup_joins": "a join",
    "_from_obj": "a FROM of its own",
    "_for_update_arg": "FOR UPDATE",
    "_raw_columns": "columns of its own",
    "_independent_ctes": "a CTE",
}


def counted(statement: Select[Any]) -> Select[Any]:
    """Return a statement that counts the rows of another."""
    return _as(statement, select(func.count()).select_from(_unordered(statement).subquery()))


def found_any(statement: Select[Any]) -> Select[Any]:
    """Return a statement that says whether another has rows."""
    rows = _unordered(statement)
    if rows._fetch_clause is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        # MariaDB forgets the order of what stands in EXISTS itself, and then refuses WITH TIES.
        rows = select(literal_column("1")).select_from(rows.subquery())
    return _as(statement, select(exists(rows)))


def refuse_limits(verb: str, statement: Select[Any]) -> None:
    """Refuse to page a statement that limits itself.

    Raises:
        OptionError: It does.
    """
    if limits_itself(statement):
        raise OptionError(verb, "a statement with a limit or offset", ["the size of the request"])


def limits_itself(statement: Select[Any]) -> bool:
    """Say whether a statement names how many rows it has at most, or how many it leaves out."""
    parts = (statement._limit_clause, statement._fetch_clause, statement._offset_clause)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return any(part is not None for part in parts)


def changing(verb: str, statement: Select[Any], entity: type, change: E) -> E:
    """Give an UPDATE or DELETE of an entity the conditions of a statement, and its options.

    Raises:
        OptionError: The statement has more than conditions, such as a limit: the change would touch rows
            that it does not name.
    """
    more = _beyond_conditions(statement, select(entity))
    if more:
        raise OptionError(verb, f"a statement with {' and '.join(more)}", ["conditions alone"])
    if statement.whereclause is not None:
        change = change.where(statement.whereclause)  # type: ignore[attr-defined]  # both have it
    return _as(statement, change)


def _beyond_conditions(statement: Select[Any], plain: Select[Any]) -> list[str]:
    """Name the clauses that a statement has and a plain one has not, whatever SQLAlchemy knows by then."""
    # What neither has been given is that of the class.
    given = _CLAUSES.keys() & (vars(statement).keys() | vars(plain).keys())
    found = [name for name in given if not _is_same(getattr(statement, name), getattr(plain, name))]
    found.sort(key=_CLAUSES.__getitem__)
    return list(dict.fromkeys(_WORDS.get(name, f"more ({name.strip('_')})") for name in found))


def _is_same(one: Any, other: Any) -> bool:  # noqa: ANN401  # any part of a statement
    if one is other or one is None or other is None:
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    compare = getattr(one, "compare", None)
    return bool(one == other if compare is None else compare(other))


def _unordered(statement: Select[Any]) -> Select[Any]:
    # What a FETCH ... WITH TIES leaves depends on the order; what a limit counts does not.
    kept = statement._fetch_clause is not None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return statement if kept else statement.order_by(None)


def _as(statement: Select[Any], other: E) -> E:
    """Give what stands for a statement the options that decide which rows and tables are meant."""
    options = {
        name: value for name, value in statement.get_execution_options().items() if name not in _ABOUT_ROWS
    }
    # Criteria of entities count on the outermost statement alone.
    criteria = [option for option in statement._with_options if getattr(option, "_is_criteria_option", False)]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if criteria:
        other = other.options(*criteria)
    return other.execution_options(**options) if options else other


def key_of(entity: Any) -> list[Any]:  # noqa: ANN401  # class or alias
    """Return the attributes that are the primary key of an entity."""
    mapper = inspect_entity(entity).mapper
    return [getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]


def row_key(statement: Select[Any]) -> list[Any]:
    """Return what tells the rows of a statement apart, so that an order can be completed by it.

    It is what the statement groups by; of a DISTINCT one, all that it selects; else the keys of its
    entities. After a DISTINCT ON these decide also which row of several stays.
    """
    if statement._group_by_clauses:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return list(statement._group_by_clauses)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    # PostgreSQL wants these first.
    key = distinct_on(statement)
    only = only_entity(statement)
    if only is not None:
        return [*key, *key_of(only)]
    for described in statement.column_descriptions:
        entity, selected = described.get("entity"), described["expr"]
        if is_distinct(statement) and selected is not entity:
            key.append(selected)
        elif entity is not None:
            key += key_of(entity)
    return key


def only_entity(statement: Select[Any]) -> Any:  # noqa: ANN401  # class or alias
    """Return the entity that a statement selects, and nothing else; None if it selects other things."""
    # What `column_descriptions` tells as well, in many times the time.
    columns = statement._raw_columns  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if len(columns) != 1 or not isinstance(columns[0], FromClause):
        return None
    described: Any = columns[0]._annotations.get("parententity")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return None if described is None else described.entity


def is_distinct(statement: Select[Any]) -> bool:
    """Say whether rows that are equal in all that is selected count as one."""
    return statement._distinct and not distinct_on(statement)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def distinct_on(statement: Select[Any]) -> list[Any]:
    """Return the expressions of a DISTINCT ON, which PostgreSQL has."""
    extension = parts_before_columns(statement)
    parts = [statement, *(iterate(extension) if extension is not None else ())]
    return [expression for part in parts for expression in getattr(part, "_distinct_on", ())]
