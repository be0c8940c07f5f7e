"""This module asks a database which of the models' tables it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, MetaData

    from unitwork.database import Database


async def existing_tables(database: Database, metadata: Iterable[MetaData]) -> set[str]:
    """Return the names, with their schemas, of the tables that exist already."""
    tables = [table for each in metadata for table in each.tables.values()]

    def look(connection: Connection) -> set[str]:
        inspector = inspect(connection)
        return {table.key for table in tables if inspector.has_table(table.name, schema=table.schema)}

    async with database.engine.connect() as connection:
        return await connection.run_sync(look)
