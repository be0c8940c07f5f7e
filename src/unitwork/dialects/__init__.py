"""This package holds all that differs between databases, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork.dialects.backend import READ_WRITE, Backend, BeginMode, Fault
from unitwork.dialects.mysql import MySQLBackend
from unitwork.dialects.postgresql import AsyncpgBackend, PsycopgBackend
from unitwork.dialects.sqlite import SQLiteBackend

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["READ_WRITE", "Backend", "BeginMode", "Fault", "backend_for"]

_BACKENDS: dict[tuple[str, str], type[Backend]] = {
    ("sqlite", "aiosqlite"): SQLiteBackend,
    ("postgresql", "asyncpg"): AsyncpgBackend,
    ("postgresql", "psycopg"): PsycopgBackend,
    ("postgresql", "psycopg_async"): PsycopgBackend,
    ("mysql", "asyncmy"): MySQLBackend,
    ("mysql", "aiomysql"): MySQLBackend,
    ("mariadb", "asyncmy"): MySQLBackend,
    ("mariadb", "aiomysql"): MySQLBackend,
}


def backend_for(url: URL) -> Backend:
    """Choose by the URL what a database needs; unknown ones get what most databases need."""
    name, _, driver = url.drivername.partition("+")
    if not driver and name == "postgresql":
        driver = "psycopg"
    return _BACKENDS.get((name, driver), Backend)(url)
