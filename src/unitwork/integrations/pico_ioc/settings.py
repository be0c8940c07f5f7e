"""This module holds what a configuration says about the database."""

from __future__ import annotations

from dataclasses import dataclass, field

from unitwork.integrations.pico_ioc.marks import configured


@configured(prefix="database")
@dataclass
class DatabaseSettings:
    """The part `database` of a container's configuration.

    Args:
        url: The SQLAlchemy URL; the only one that has no default. Never printed.
        echo: Log each statement.
        pool_size: Connections that are kept open. An in-memory database has one.
        pool_pre_ping: Test each connection before it is used.
        pool_recycle: Close a connection this many seconds after it was opened.
        migrations_path: The folder of the Alembic migrations that run at the start; none if empty.
        migrations_target: How far they run.
    """

    url: str = field(default="", repr=False)
    echo: bool = False
    pool_size: int = 5
    pool_pre_ping: bool = True
    pool_recycle: int = 3600
    migrations_path: str = ""
    migrations_target: str = "head"
