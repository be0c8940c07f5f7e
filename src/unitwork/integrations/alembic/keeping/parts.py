"""This module knows which tables are no matter of models: databases and extensions keep them for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__: list[str] = []

_OF_POSTGRESQL = """
SELECT namespace.nspname, class.relname
FROM pg_catalog.pg_class AS class
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
WHERE class.relkind IN ('r', 'p') AND (class.relispartition OR EXISTS (
    SELECT FROM pg_catalog.pg_depend AS depend
    WHERE depend.classid = 'pg_catalog.pg_class'::regclass AND depend.objid = class.oid
        AND depend.deptype = 'e'
))
"""


def parts_of_others(connection: Connection | None) -> set[tuple[str | None, str]]:
    """Return the tables that go with another one, or with an extension, by schema and name.

    These are the partitions of PostgreSQL, the tables of its extensions, and those in which the virtual
    tables of SQLite keep what they hold. In the schema that needs no name they are found without one, too.
    """
    if connection is None:
        return set()
    if connection.dialect.name == "postgresql":
        found = [(str(schema), str(name)) for schema, name in connection.exec_driver_sql(_OF_POSTGRESQL)]
        default = connection.dialect.default_schema_name
    elif connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("PRAGMA table_list").all()
        found = [(str(row[0]), str(row[1])) for row in rows if row[2] == "shadow"]
        default = "main"
    else:
        return set()
    return {*found, *((None, name) for schema, name in found if schema == default)}
