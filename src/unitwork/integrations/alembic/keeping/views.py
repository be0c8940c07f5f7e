"""This module finds out which views and triggers of SQLite work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from unitwork.integrations.alembic.keeping.stored import in_brackets, in_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

__all__: list[str] = []


def failures(connection: Connection, schema: str | None) -> set[tuple[str, str]]:
    """Return the views and triggers that do not work, each with the database's reason.

    SQLite looks at them when they are used. It takes a name in double quotes for a text when there is no such
    column, so each is tried twice: as it is, and with names that cannot be texts.
    """
    check = _Check(connection, schema)
    return {*check.failures(as_written=True), *check.failures(as_written=False)}


class _Check:
    """Tries each view and trigger alone, in a savepoint. Lives: one check."""

    def __init__(self, connection: Connection, schema: str | None) -> None:
        self._connection = connection
        self._quote = connection.dialect.identifier_preparer.quote_identifier
        self._prefix = f"{self._quote(schema)}." if schema else ""

    def failures(self, *, as_written: bool) -> set[tuple[str, str]]:
        """Return what does not work, and why."""
        views, triggers = self._stored("view"), self._stored("trigger")
        if not views and not triggers:
            return set()
        attempt = self._connection.begin_nested()
        try:
            for name, _table, _sql in triggers:
                self._run(f"DROP TRIGGER {self._named(name)}")
            for name, _table, _sql in views:
                self._run(f"DROP VIEW {self._named(name)}")
            return {
                *self._tried("view", views, as_written=as_written),
                *self._tried("trigger", triggers, as_written=as_written),
            }
        finally:
            attempt.rollback()

    def _tried(
        self, kind: str, found: Iterable[tuple[str, str, str]], *, as_written: bool
    ) -> Iterator[tuple[str, str]]:
        ready = []
        for name, table, sql in found:
            written = in_schema(sql, kind, self._prefix)
            create = written if as_written else in_brackets(written)
            if kind == "view":
                yield from self._reason(kind, name, [create])
                ready.append((name, [f"EXPLAIN SELECT * FROM {self._named(name)}"]))  # noqa: S608  # names
            else:
                try:
                    uses = [f"EXPLAIN {use}" for use in self._changes(table)]
                except DBAPIError as error:  # it belongs to a view that does not work itself
                    yield f"{kind} {name}", str(error.orig)
                    continue
                yield from self._reason(kind, name, [create, *uses])
                self._run(f"DROP TRIGGER IF EXISTS {self._named(name)}")
        # Views may use each other.
        for name, uses in ready:
            yield from self._reason(kind, name, uses)

    def _changes(self, table: str) -> list[str]:
        """Return statements that a trigger of a table may act on."""
        name = self._named(table)
        columns = [row[1] for row in self._rows(f"PRAGMA {self._prefix}table_info({self._quote(table)})")]
        values = ", ".join(f"{self._quote(column)} = NULL" for column in columns)
        return [
            f"INSERT INTO {name} DEFAULT VALUES",
            f"UPDATE {name} SET {values}",  # noqa: S608  # names
            f"DELETE FROM {name}",  # noqa: S608
        ]

    def _reason(self, kind: str, name: str, statements: Iterable[str]) -> Iterator[tuple[str, str]]:
        for statement in statements:
            try:
                self._run(statement)
            except DBAPIError as error:
                yield f"{kind} {name}", str(error.orig)

    def _stored(self, kind: str) -> list[tuple[str, str, str]]:
        statement = f"SELECT name, tbl_name, sql FROM {self._prefix}sqlite_master WHERE type = '{kind}'"  # noqa: S608
        return [(name, table, sql) for name, table, sql in self._rows(f"{statement} ORDER BY rowid")]

    def _named(self, name: str) -> str:
        return self._prefix + self._quote(name)

    def _rows(self, statement: str) -> list[tuple[str, ...]]:
        return [tuple(row) for row in self._connection.exec_driver_sql(statement)]

    def _run(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement).close()
