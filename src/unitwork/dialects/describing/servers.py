"""This module knows who asks which kind of database."""

from __future__ import annotations

from unitwork.dialects.describing.mysql import MySQLDescriber
from unitwork.dialects.describing.postgresql import PostgreSQLDescriber
from unitwork.dialects.describing.question import Describer
from unitwork.dialects.describing.sqlite import SQLiteDescriber

_KINDS: dict[str, type[Describer]] = {
    "postgresql": PostgreSQLDescriber,
    "mysql": MySQLDescriber,
    "mariadb": MySQLDescriber,
    "sqlite": SQLiteDescriber,
}


def describer_for(dialect: str) -> Describer:
    """Return what asks this kind of database."""
    return _KINDS.get(dialect, Describer)()
