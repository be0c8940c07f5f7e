"""This module lets Alembic change columns of PostgreSQL without losing what the migration does not name."""

from __future__ import annotations

from typing import Any

from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy import Enum, String, text
from sqlalchemy.types import to_instance

__all__: list[str] = []

_COLLATION = """
SELECT collname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = to_regclass(:relation) AND attname = :column AND attcollation <> typcollation
"""


class KeepingPostgreSQL(PostgresqlImpl):
    """PostgreSQL as Alembic sees it, except that a text keeps its collation with a new type."""

    __dialect__ = "postgresql"

    def alter_column(self, table_name: str, column_name: str, **named: Any) -> None:
        """Change a column."""
        if named.get("type_") is not None and self.connection is not None and not self.as_sql:
            kind = to_instance(named["type_"])
            if isinstance(kind, String) and not isinstance(kind, Enum) and kind.collation is None:
                named["type_"] = kind = kind.copy()
                kind.collation = self._collation(named.get("schema"), table_name, column_name)
        super().alter_column(table_name, column_name, **named)

    def _collation(self, *names: str | None) -> str | None:
        """Return the collation of a column, if it is not that of its type."""
        assert self.connection is not None  # noqa: S101  # it is without in offline mode alone
        quote = self.dialect.identifier_preparer.quote_identifier
        relation = ".".join(quote(str(each)) for each in names[:-1] if each)
        values = {"relation": relation, "column": str(names[-1])}
        found: str | None = self.connection.scalar(text(_COLLATION), values)
        return found
