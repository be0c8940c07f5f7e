"""This module knows what SQLite has stored of its tables where SQLAlchemy does not read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import ops

from unitwork.integrations.alembic.keeping.stored import StoredTable, UnreadableError, read_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork.integrations.alembic.keeping.stored import Clause

__all__: list[str] = []


class StoredTables:
    """The tables of a database of SQLite as they are stored. Lives: one comparison."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._quote = connection.dialect.identifier_preparer.quote_identifier
        self._read: dict[tuple[str | None, str], StoredTable | None] = {}

    def has(self, operation: ops.MigrateOperation, *, open_name: bool) -> bool:
        """Say whether what an operation adds or changes is there already.

        SQLAlchemy does not find all constraints that are written at their column, or not all that they say;
        and the key that numbers the rows is never NULL, whether that is written or not.

        Args:
            operation: What Alembic has found to differ.
            open_name: Any name is right.
        """
        if isinstance(operation, ops.CreateUniqueConstraintOp):
            return open_name and self._has_unique(operation)
        if isinstance(operation, ops.CreateForeignKeyOp):
            return self._has_reference(operation)
        return isinstance(operation, ops.AlterColumnOp) and self._is_row_number(operation)

    def _has_unique(self, operation: ops.CreateUniqueConstraintOp) -> bool:
        table = self._table(operation.schema, operation.table_name)
        columns = tuple(str(each).lower() for each in operation.columns)
        known = [] if table is None else [each for each in table.clauses() if each.kind == "UNIQUE"]
        return any(each.columns == columns for each in known)

    def _has_reference(self, operation: ops.CreateForeignKeyOp) -> bool:
        table = self._table(operation.kw.get("source_schema"), operation.source_table)
        columns = tuple(each.lower() for each in operation.local_cols)
        target = (operation.referent_table.lower(), tuple(each.lower() for each in operation.remote_cols))
        known = [] if table is None else table.clauses()
        return any(
            each.columns == columns
            and each.refers_to in {target, (target[0], ())}
            and _options(each) == _asked(operation.kw)
            for each in known
            if each.refers_to[0]
        )

    def _is_row_number(self, operation: ops.AlterColumnOp) -> bool:
        others = (operation.modify_type, operation.modify_name)
        only_null = others == (None, None) and operation.modify_server_default is False
        table = self._table(operation.schema, operation.table_name)
        if table is None or not only_null or operation.modify_nullable is not False:
            return False
        column = table.columns.get(operation.column_name.lower())
        keys = [each for each in table.clauses() if each.kind == "PRIMARY KEY"]
        numbers = column is not None and column.type.upper() == "INTEGER"
        return numbers and [each.columns for each in keys] == [(operation.column_name.lower(),)]

    def _table(self, schema: str | None, name: str) -> StoredTable | None:
        key = (schema, name)
        if key not in self._read:
            prefix = f"{self._quote(schema)}." if schema else ""
            statement = (
                f"SELECT sql FROM {prefix}sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"  # noqa: S608
            )
            sql = self._connection.exec_driver_sql(statement, (name,)).scalar()
            try:
                self._read[key] = read_table(sql or "")
            except UnreadableError:
                self._read[key] = None
        return self._read[key]


def _options(clause: Clause) -> tuple[str, str, bool, bool]:
    """Return what a stored reference says of deletes, updates, and of when it is checked."""

    def action(word: str) -> str:
        return next(
            (
                each
                for each in ("cascade", "set null", "set default", "restrict")
                if f"on {word} {each}" in text
            ),
            "",
        )

    text = clause.meaning
    late = "deferrable" in clause.words and "not deferrable" not in text
    return action("delete"), action("update"), late, late and "initially deferred" in text


def _asked(options: dict[str, Any]) -> tuple[str, str, bool, bool]:
    delete, update = (str(options.get(each) or "").lower() for each in ("ondelete", "onupdate"))
    late = bool(options.get("deferrable"))
    deferred = late and str(options.get("initially") or "").lower() == "deferred"
    return delete.replace("no action", ""), update.replace("no action", ""), late, deferred
