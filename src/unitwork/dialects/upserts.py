"""This module says INSERT with a conflict clause in the words of each database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, literal_column
from sqlalchemy import column as sql_column
from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from unitwork._sqlalchemy.dialects import mysql, postgresql, sqlite
from unitwork.dialects.mysql_driver import code_of

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.engine import Dialect

_CONFLICTS = "@unitwork_conflicts"
_TWO_ROWS = 1242


class Upserts:
    """PostgreSQL's and SQLite's ON CONFLICT. Lives: one bulk write."""

    joins_values = False
    """Whether many rows are fastest in one VALUES list; else the driver's executemany is."""

    def __init__(self, table: Table, target: Sequence[Column[Any]]) -> None:
        self.table = table
        self.target = target

    def insert(self, into: Any) -> Any:  # noqa: ANN401  # a table or a mapped class
        """Return an INSERT of this dialect."""
        return sqlite.insert(into)

    def new(self, statement: Any, column: Column[Any]) -> ColumnElement[Any]:  # noqa: ANN401
        """Return the value that the new row has."""
        found: ColumnElement[Any] = statement.excluded[column.key]
        return found

    def nothing(self, statement: Any) -> Any:  # noqa: ANN401  # an Insert of this dialect
        """Keep the stored row."""
        return statement.on_conflict_do_nothing(index_elements=list(self.target) or None)

    def update(self, statement: Any, values: Mapping[Column[Any], Any]) -> Any:  # noqa: ANN401
        """Change the stored row."""
        return statement.on_conflict_do_update(index_elements=list(self.target), set_=values)

    def explain(self, error: DBAPIError) -> None:
        """Add to an error what the database could not say."""


class SQLiteUpserts(Upserts):
    """SQLite."""


class PostgreSQLUpserts(Upserts):
    """PostgreSQL."""

    @override
    def insert(self, into: Any) -> Any:
        return postgresql.insert(into)


class MariaDBUpserts(Upserts):
    """MariaDB and MySQL: ON DUPLICATE KEY UPDATE, which means any unique key.

    So that it means one, the assignment compares that key, and breaks off the statement when the
    conflict is about another: a subquery of two rows is the only error that SQL can raise there. It
    always does: the database may have keys that the model does not know, or computes.
    """

    joins_values = True

    @override
    def insert(self, into: Any) -> Any:
        return mysql.insert(into)

    @override
    def new(self, statement: Any, column: Column[Any]) -> ColumnElement[Any]:
        if "%" in column.name:
            # SQLAlchemy doubles the sign two times in VALUES().
            return func.values(sql_column(column.name, column.type), type_=column.type)
        found: ColumnElement[Any] = statement.inserted[column.key]
        return found

    @override
    def nothing(self, statement: Any) -> Any:
        # INSERT IGNORE would also ignore other errors. A counter in passing tells which rows are new.
        kept = next(iter(self.target), None)
        if kept is None:
            kept = next(iter(self.table.columns))
        count: ColumnElement[int] = literal_column(f"({_CONFLICTS} := {_CONFLICTS} + 1)")
        value = func.if_(count, kept, kept)
        return statement.on_duplicate_key_update({kept: self._only(statement, value)})

    @override
    def update(self, statement: Any, values: Mapping[Column[Any], Any]) -> Any:
        first, *others = values.items()
        column, value = first
        return statement.on_duplicate_key_update(
            [(column.key, self._only(statement, value)), *((other.key, new) for other, new in others)]
        )

    def _only(self, statement: Any, value: Any) -> Any:  # noqa: ANN401  # SQL
        if not self.target:
            return value
        same = and_(*(column.op("<=>")(self.new(statement, column)) for column in self.target))
        return func.if_(same, value, literal_column("(SELECT NULL UNION ALL SELECT NULL)"))

    @override
    def explain(self, error: DBAPIError) -> None:
        if code_of(error.orig) == _TWO_ROWS:
            names = ", ".join(column.name for column in self.target)
            error.add_note(f"A row conflicts with a stored one in another unique key than ({names}).")


COUNT_FROM_ZERO = f"SET {_CONFLICTS} = 0"
CONFLICTS_COUNTED: ColumnElement[int] = literal_column(_CONFLICTS)

_KINDS: Mapping[str, type[Upserts]] = {
    "sqlite": SQLiteUpserts,
    "postgresql": PostgreSQLUpserts,
    "mysql": MariaDBUpserts,
    "mariadb": MariaDBUpserts,
}


def upserts_for(dialect: Dialect) -> type[Upserts] | None:
    """Return what a dialect needs; None for one that is not known here."""
    return _KINDS.get(dialect.name)
