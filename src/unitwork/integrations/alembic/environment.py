"""This module is what the `env.py` of migrations runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, make_url, text
from sqlalchemy.sql.functions import FunctionElement

from unitwork.database import Database
from unitwork.errors import OptionError
from unitwork.integrations.alembic.locks import DatabaseLock
from unitwork.models import UTCDateTime
from unitwork.models.loaded import loaded_metadata

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

__all__ = ["run_environment"]

_VARIABLES = ("UNITWORK_URL", "DATABASE_URL")


def run_environment(*metadata: MetaData) -> None:
    """Run the migrations that Alembic was asked for; the body of an `env.py`.

    Given a connection, as `unitwork migrations` and `await db.migrate()` do, they run on that. Under the
    command `alembic` alone they run at `sqlalchemy.url`, or UNITWORK_URL, or DATABASE_URL.

    Args:
        *metadata: What `--autogenerate` and `check` compare with. Without it, that of all models that are
            loaded.
    """
    attributes = context.config.attributes
    chosen = list(metadata) or attributes.get("metadata") or loaded_metadata()
    connection = attributes.get("connection")
    if context.is_offline_mode():
        dialect = attributes.get("dialect") or make_url(_url()).get_dialect().name
        _run(chosen, dialect, dialect_name=dialect, literal_binds=True, dialect_opts={"paramstyle": "named"})
    elif connection is not None:
        _run_on(connection, chosen)
    else:
        asyncio.run(_run_alone(chosen))


async def _run_alone(metadata: Sequence[MetaData]) -> None:
    async with (
        Database(_url(), name="alembic") as database,
        database.engine.connect() as connection,
        DatabaseLock(connection, database.name),
    ):
        await connection.run_sync(_run_on, metadata)


def _run_on(connection: Connection, metadata: Sequence[MetaData]) -> None:
    _run(metadata, connection.dialect.name, connection=connection)


def _run(metadata: Sequence[MetaData], dialect: str, **options: Any) -> None:
    sqlite = dialect == "sqlite"
    context.configure(
        target_metadata=metadata,
        # SQLite cannot change a column: Alembic builds the table anew.
        render_as_batch=sqlite,
        # The engine sends SQLite's BEGIN itself, so a migration that fails leaves nothing behind.
        transactional_ddl=True if sqlite else None,
        render_item=_rendered,
        on_version_apply=context.config.attributes.get("on_version_apply"),
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()
        if sqlite and not context.is_offline_mode():
            _check_foreign_keys(cast("Connection", options["connection"]))


def _check_foreign_keys(connection: Connection) -> None:
    broken = {row[0] for row in connection.execute(text("PRAGMA foreign_key_check"))}
    if broken:
        raise CommandError(
            f"After the migration, rows of {', '.join(sorted(broken))} refer to rows that do not exist.\n"
            "  Fix: delete or change them in its upgrade()."
        )


def _rendered(kind: str, found: Any, autogenerate: AutogenContext) -> str | Literal[False]:  # noqa: ANN401  # whatever is written
    """Write unitwork's own types and functions, which mean the right thing on each database."""
    if kind == "type" and isinstance(found, UTCDateTime):
        autogenerate.imports.add("import unitwork.models")
        return "unitwork.models.UTCDateTime()"
    function = getattr(found, "arg", None) if kind == "server_default" else None
    if isinstance(function, FunctionElement) and type(function).__module__.startswith("unitwork."):
        autogenerate.imports.add("import unitwork.models")
        return f"unitwork.models.{type(function).__name__}()"
    return False


def _url() -> str:
    found = context.config.get_main_option("sqlalchemy.url")
    for variable in _VARIABLES:
        found = found or os.environ.get(variable)
    if not found:
        raise OptionError("sqlalchemy.url", None, [f"a URL; or set {' or '.join(_VARIABLES)}"])
    return found
