"""This package holds all that differs between databases, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork._later import later
from unitwork.dialects.backend import READ_WRITE, Backend, BeginMode, Fault

if TYPE_CHECKING:
    from sqlalchemy import URL

    # What puts a program into one file takes the modules along that it finds imported somewhere.
    from unitwork.dialects import mysql, postgresql, sqlite  # noqa: F401  # pyright: ignore[reportUnusedImport]

__all__ = ["READ_WRITE", "Backend", "BeginMode", "Fault", "backend_for"]

_BACKENDS: dict[tuple[str, str], tuple[str, str]] = {
    ("sqlite", "aiosqlite"): ("sqlite", "SQLiteBackend"),
    ("postgresql", "asyncpg"): ("postgresql", "AsyncpgBackend"),
    ("postgresql", "psycopg"): ("postgresql", "PsycopgBackend"),
    ("postgresql", "psycopg_async"): ("postgresql", "PsycopgBackend"),
    ("mysql", "asyncmy"): ("mysql", "MySQLBackend"),
    ("mysql", "aiomysql"): ("mysql", "MySQLBackend"),
    ("mariadb", "asyncmy"): ("mysql", "MySQLBackend"),
    ("mariadb", "aiomysql"): ("mysql", "MySQLBackend"),
}
"""Module and class, by database and driver; a program imports the one that it needs."""


def backend_for(url: URL) -> Backend:
    """Choose by the URL what a database needs; unknown ones get what most databases need."""
    name, _, driver = url.drivername.partition("+")
    if not driver and name == "postgresql":
        driver = "psycopg"
    found = _BACKENDS.get((name, driver))
    if found is None:
        return Backend(url)
    module, kind = found
    made: Backend = getattr(later(f"{__name__}.{module}"), kind)(url)
    return made
