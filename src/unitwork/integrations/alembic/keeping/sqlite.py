"""This module lets Alembic build tables of SQLite anew without losing what Alembic does not know of them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alembic.ddl.sqlite import SQLiteImpl
from alembic.util import CommandError
from sqlalchemy import Column, LargeBinary
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from unitwork.integrations.alembic.keeping.changes import Changes, is_old
from unitwork.integrations.alembic.keeping.stored import StoredTable, UnreadableError, in_schema, read_table
from unitwork.integrations.alembic.keeping.views import failures

if TYPE_CHECKING:
    from collections.abc import Generator

    from alembic.operations.batch import ApplyBatchImpl
    from sqlalchemy import Connection, Table
    from sqlalchemy.types import TypeEngine

__all__: list[str] = []

# What Alembic and SQLAlchemy say of a batch, and what this module makes untrue.
_UNTRUE = (
    "Unnamed CHECK constraint on reflected table",
    "Skipped unsupported reflection of expression-based index",
)


class KeepingSQLite(SQLiteImpl):
    """SQLite as Alembic sees it, except that a batch starts from the stored CREATE TABLE.

    Alembic takes this class for every connection to SQLite, since it has the name of the dialect.
    """

    __dialect__ = "sqlite"

    _rebuild: _Rebuild | None = None

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        for message in _UNTRUE:
            warnings.filterwarnings("ignore", message)

    def prep_table_for_batch(self, batch_impl: ApplyBatchImpl, table: Table) -> None:  # noqa: ARG002  # Alembic's
        """Decide how the new table is created, before anything changes."""
        if self.connection is not None and not self.as_sql:
            self._rebuild = _Rebuild(self.connection, batch_impl)

    def cast_for_batch_migrate(
        self,
        existing: Column[Any],
        existing_transfer: dict[str, Any],
        new_type: TypeEngine[Any],
    ) -> None:
        """Leave values as they are: a column's type converts what fits, where CAST makes 2020 of a date."""
        if isinstance(existing.type, LargeBinary) or isinstance(new_type, LargeBinary):
            super().cast_for_batch_migrate(existing, existing_transfer, new_type)

    def drop_table(self, table: Table, **kw: Any) -> None:
        """Drop the old table when the new one has all rows."""
        if self._rebuild is not None and table is self._rebuild.old:
            self._rebuild.count()
        super().drop_table(table, **kw)

    def rename_table(self, old_table_name: str, new_table_name: str, schema: str | None = None) -> None:
        """Give the new table its name, and what else the old one had."""
        rebuild = self._rebuild
        if rebuild is None or old_table_name != rebuild.temporary:
            super().rename_table(old_table_name, new_table_name, schema)
            return
        self._rebuild = None
        with rebuild.names_unchecked():
            super().rename_table(old_table_name, new_table_name, schema)
        rebuild.restore()

    def _exec(self, construct: Any, *rest: Any, **more: Any) -> Any:  # noqa: ANN401  # as Alembic has it
        rebuild = self._rebuild
        if rebuild is not None and isinstance(construct, CreateTable) and construct.element is rebuild.new:
            return rebuild.run(rebuild.create)
        return super()._exec(construct, *rest, **more)


class _Rebuild:
    """What a table of SQLite has, and what it shall have. Lives: one batch.

    Args:
        connection: Where the table is.
        batch: What the batch makes of the table, as Alembic understands it.

    Raises:
        CommandError: Something would be lost that the batch does not name.
    """

    def __init__(self, connection: Connection, batch: ApplyBatchImpl) -> None:
        self._connection = connection
        self._batch = batch
        self._quote = connection.dialect.identifier_preparer.quote_identifier
        self.old = batch.table
        self.new = batch.new_table
        self.temporary = batch.temp_table_name
        self._schema = f"{self._quote(self.old.schema)}." if self.old.schema else ""
        self._name = self._schema + self._quote(self.old.name)
        self._read()
        self._failures = failures(connection, self.old.schema)
        self._rename_columns()
        table = self._read()
        self._sequence = self._next_key(table)
        changes = Changes(batch, table, connection.dialect)
        self.create = changes.create(self._schema + self._quote(self.temporary))
        self._indexes = changes.indexes(self._of_table("index"))
        self._triggers = self._of_table("trigger")
        changes.refuse_losses()
        for key in [key for key in batch.columns if is_old(batch, key)]:
            if table.columns[batch.columns[key].name.lower()].of_kind("GENERATED"):
                del batch.column_transfers[key]["expr"]

    def run(self, statement: str, *values: object) -> Any:  # noqa: ANN401  # what Alembic does not look at
        """Send a statement as it is: colons in it are no parameters."""
        return self._connection.exec_driver_sql(statement, values)

    def count(self) -> None:
        """Refuse a copy with fewer rows, as ON CONFLICT of a constraint may leave."""
        tables = (self._name, self._schema + self._quote(self.temporary))
        before, after = (self.run(f"SELECT count(*) FROM {name}").scalar() for name in tables)  # noqa: S608  # names
        if before != after:
            raise CommandError(
                f"Of the {before} rows of {self.old.name!r}, only {after} fit into the table as the batch "
                "has it; nothing is changed.\n"
                "  Fix: delete or change the others in upgrade(), before the batch."
            )

    @contextmanager
    def names_unchecked(self) -> Generator[None]:
        """Let a table be renamed while views and triggers speak of a table that is not there."""
        before = self.run("PRAGMA legacy_alter_table").scalar()
        self.run("PRAGMA legacy_alter_table=ON")
        try:
            yield
        finally:
            self.run(f"PRAGMA legacy_alter_table={before}")

    def restore(self) -> None:
        """Give the table the indexes, triggers and next key that it had.

        Raises:
            CommandError: A view or a trigger does not fit the table any more.
        """
        for sql in [*self._indexes, *self._triggers]:
            self.run(sql)
        if self._sequence is not None:
            where = f"{self._schema}sqlite_sequence"
            self.run(f"DELETE FROM {where} WHERE name = ?", self.old.name)  # noqa: S608  # names
            self.run(f"INSERT INTO {where} (name, seq) VALUES (?, ?)", self.old.name, self._sequence)  # noqa: S608
        broken = failures(self._connection, self.old.schema) - self._failures
        if broken:
            raise self._breaks("; ".join(f"{name}: {why}" for name, why in sorted(broken)))

    def _read(self) -> StoredTable:
        """Return the table as it is stored."""
        sql = next(iter(self._stored("type = 'table' AND name")), None)
        if sql is None:
            raise CommandError(
                f"{self.old.name!r} is no table of the database's file, but a view or a temporary table: a "
                "batch cannot change it.\n  Fix: drop it and create it anew, with op.execute()."
            )
        # Generated columns are there, the hidden ones of virtual tables are not.
        found = self.run(f"PRAGMA {self._schema}table_xinfo({self._quote(self.old.name)})")
        try:
            table = read_table(sql)
        except UnreadableError:
            table = None
        if table is None or set(table.columns) != {row[1].lower() for row in found}:
            raise CommandError(
                f"Table {self.old.name!r} is stored in a form that cannot be built anew without loss; "
                f"nothing is changed: {sql}\n  Fix: change it with op.execute(), in statements of your own."
            )
        return table

    def _stored(self, condition: str) -> list[str]:
        """Return what SQLite has stored under the name of the table, which may have other capitals."""
        where = f"{condition} = ? COLLATE NOCASE AND sql IS NOT NULL ORDER BY rowid"
        statement = f"SELECT sql FROM {self._schema}sqlite_master WHERE {where}"  # noqa: S608  # names
        return list(self.run(statement, self.old.name).scalars())

    def _of_table(self, kind: str) -> list[str]:
        found = self._stored(f"type = '{kind}' AND tbl_name")
        return [in_schema(sql, kind, self._schema) for sql in found]

    def _next_key(self, table: StoredTable) -> int | None:
        """Return how far AUTOINCREMENT has come: keys of rows that were deleted are not given again."""
        if not any("autoincrement" in each.words for each in table.clauses()):
            return None
        statement = f"SELECT seq FROM {self._schema}sqlite_sequence WHERE name = ? COLLATE NOCASE"  # noqa: S608
        found: int | None = self.run(statement, self.old.name).scalar()
        return found

    def _rename_columns(self) -> None:
        """Rename columns with SQLite's own words, which change views, triggers and references too."""
        batch = self._batch
        steps = [
            (self.old.c[key], str(column.name))
            for key, column in batch.columns.items()
            if is_old(batch, key) and column.name != key
        ]
        taken = [column for column in self.old.c if column.name in {name for _column, name in steps}]
        if taken:
            # They change their names with each other, or take that of one that is dropped.
            moved = [*(column for column, _name in steps), *taken]
            between = {column.name: (column, f"unitwork_{place}") for place, column in enumerate(moved)}
            steps = [*between.values(), *steps]
        for column, name in steps:
            names = f"{self._quote(column.name)} TO {self._quote(name)}"
            try:
                self.run(f"ALTER TABLE {self._name} RENAME COLUMN {names}")
            except DBAPIError as error:
                raise self._breaks(str(error.orig)) from error
            column.name = name

    def _breaks(self, why: str) -> CommandError:
        return CommandError(
            f"With the batch on {self.old.name!r}, a view or trigger would not work; nothing is changed: "
            f'{why}.\n  Fix: drop it in upgrade() before the batch, with `op.execute("DROP VIEW ...")`, and '
            "create it anew after it."
        )
