"""This package lets Alembic change tables without losing what a migration does not name."""

from unitwork.integrations.alembic.keeping.mariadb import KeepingMariaDB, KeepingMySQL
from unitwork.integrations.alembic.keeping.postgresql import KeepingPostgreSQL
from unitwork.integrations.alembic.keeping.sqlite import KeepingSQLite

__all__: list[str] = []

KEPT = (KeepingMariaDB, KeepingMySQL, KeepingPostgreSQL, KeepingSQLite)
"""Alembic takes each of these for its database since it was made."""
