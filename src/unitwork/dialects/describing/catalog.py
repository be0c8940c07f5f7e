"""This module reads what tables a database has, and what their columns hold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.exc import NoSuchTableError, SAWarning

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import ReflectedColumn
    from sqlalchemy.types import TypeEngine

    from unitwork._logic.sql.scopes import Table


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column as the database has it."""

    name: str
    type: TypeEngine[Any]
    nullable: bool
    generated: bool
    """The database may make a value of its own, also for NULL."""

    @property
    def refuses_null(self) -> bool:
        """Whether NULL can never be stored in it."""
        return not self.nullable and not self.generated


class Catalog:
    """The tables of one database. Each is asked for once. Lives: one check."""

    def __init__(self, connection: Connection) -> None:
        self._inspector = inspect(connection)
        self._known: dict[tuple[str, str], Mapping[str, StoredColumn] | None] = {}
        self._tables: dict[str, frozenset[str]] = {}

    def columns(self, table: Table) -> Mapping[str, StoredColumn] | None:
        """Return the columns of a table by their names in small letters; None if there is no such table."""
        key = (table.schema, table.name)
        if key not in self._known:
            found = self._read(table.name, table.schema)
            if found is None and table.name != table.name.lower():
                found = self._read(table.name.lower(), table.schema)
            self._known[key] = found
        return self._known[key]

    def is_table(self, table: Table) -> bool:
        """Say whether rows are stored in it: the columns of a view or a system's table may always be NULL."""
        if table.schema not in self._tables:
            self._tables[table.schema] = frozenset(self._inspector.get_table_names(table.schema or None))
        return not {table.name, table.name.lower()}.isdisjoint(self._tables[table.schema])

    def _read(self, name: str, schema: str) -> Mapping[str, StoredColumn] | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SAWarning)  # of types that nobody asked for
                found = self._inspector.get_columns(name, schema=schema or None)
                key = self._inspector.get_pk_constraint(name, schema=schema or None)
        except NoSuchTableError:
            return None
        columns = (key or {}).get("constrained_columns", ())
        return {each["name"].lower(): _stored(each, is_key=each["name"] in columns) for each in found}


def _stored(column: ReflectedColumn, *, is_key: bool) -> StoredColumn:
    nullable = column["nullable"] and not is_key
    # Which keys SQLite numbers is not told; others say it.
    generated = is_key or column.get("autoincrement") is True
    return StoredColumn(column["name"], column["type"], nullable=nullable, generated=generated)
