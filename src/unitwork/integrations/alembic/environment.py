"""This module is what the `env.py` of migrations runs."""

from __future__ import annotations

import ast
import asyncio
import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from alembic import context
from alembic.command import check
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, make_url, text
from sqlalchemy.exc import DBAPIError

from unitwork._logic.own_tables import LOAD_PREFIX
from unitwork.database import Database
from unitwork.errors import OptionError
from unitwork.integrations.alembic.differences import keep_form, refuse_drops
from unitwork.integrations.alembic.keeping.parts import parts_of_others
from unitwork.integrations.alembic.locks import DatabaseLock
from unitwork.integrations.alembic.rendering import render
from unitwork.models.loaded import loaded_metadata, modules_of

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import MigrationScript
    from alembic.runtime.migration import MigrationContext

__all__ = ["run_environment"]

TELLS = "unitwork_tells"
"""The attribute of a Config whose `env.py` calls `on_version_apply`."""

_VARIABLES = ("UNITWORK_URL", "DATABASE_URL")


def run_environment(
    *metadata: MetaData | Sequence[MetaData] | None, rename_constraints: bool = False, **options: Any
) -> None:
    """Run the migrations that Alembic was asked for; the body of an `env.py`.

    Given a connection, as `unitwork migrations` and `await db.migrate()` do, they run on that. Under the
    command `alembic` alone they run at `sqlalchemy.url`, or UNITWORK_URL, or DATABASE_URL.

    A revision that would drop tables, columns, indexes or constraints which no model names is refused,
    unless `--allow-drop` is given (`alembic -x allow-drop`). Tables of loaded models that are not compared
    are left alone, and so are comments that no model says.

    Args:
        *metadata: What `--autogenerate` and `check` compare with, in the forms of Alembic's
            `target_metadata`. Without it, all models that are loaded, and the tables without a model in the
            modules that `env.py` imports.
        rename_constraints: Constraints and indexes that differ from the models in nothing but a name that
            a naming convention made are created anew with that name; else they keep theirs.
        **options: What `alembic.context.configure` takes besides, such as `include_object`,
            `compare_server_default`, or `process_revision_directives`.

    Raises:
        CommandError: A revision would drop something, or two MetaData have a table of the same name.
    """
    named = [each for given in metadata for each in ([given] if isinstance(given, MetaData) else given or ())]
    compared = named or context.config.attributes.get("metadata") or loaded_metadata(_imported_modules())
    environment = _Environment(compared, rename_constraints, options)
    connection = context.config.attributes.get("connection")
    if context.is_offline_mode():
        environment.run_offline()
    elif connection is not None:
        environment.run(connection)
    else:
        asyncio.run(_run_alone(environment))


def _imported_modules() -> list[ModuleType]:
    """Return the modules that `env.py` imports: it says by that what it is about."""
    source = Path(context.script.env_py_location).read_text(encoding="utf-8")
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return [sys.modules[name] for name in names if name in sys.modules]


async def _run_alone(environment: _Environment) -> None:
    async with (
        Database(_url(), name="alembic") as database,
        database.engine.connect() as connection,
        DatabaseLock(connection, database),
    ):
        await connection.run_sync(environment.run)


class _Compared(list[MetaData]):
    """What is compared, with the naming convention that Alembic asks its target for, if all have the same."""

    def __init__(self, metadata: Iterable[MetaData]) -> None:
        super().__init__(metadata)
        conventions = [each.naming_convention for each in self]
        if conventions and all(each == conventions[0] for each in conventions):
            self.naming_convention = conventions[0]


class _Environment:
    """How Alembic is configured here. Lives: one run of an `env.py`."""

    def __init__(self, compared: list[MetaData], rename: bool, options: dict[str, Any]) -> None:  # noqa: FBT001  # as it was asked for
        self._compared = compared
        self._rename = rename
        self._options = options

    def run_offline(self) -> None:
        """Print the SQL."""
        dialect = context.config.attributes.get("dialect") or make_url(_url()).get_dialect().name
        configured = self._configured(dialect)
        configured.update(literal_binds=True, dialect_opts={"paramstyle": "named"}, dialect_name=dialect)
        context.configure(**configured)
        with context.begin_transaction():
            context.run_migrations()

    def run(self, connection: Connection) -> None:
        """Run the migrations, or compare."""
        dialect = connection.dialect.name
        context.configure(connection=connection, **self._configured(dialect))
        with context.begin_transaction():
            context.run_migrations()
            if dialect == "sqlite":
                _check_foreign_keys(connection)

    def _configured(self, dialect: str) -> dict[str, Any]:
        sqlite = dialect == "sqlite"
        return {
            # SQLite cannot change a column: Alembic builds the table anew.
            "render_as_batch": sqlite,
            # The engine sends SQLite's BEGIN itself, so a migration that fails leaves nothing behind.
            "transactional_ddl": True if sqlite else None,
            "include_schemas": bool(self._schemas - {None}),
            **self._options,
            "target_metadata": _Compared(self._compared),
            "include_name": self._includes,
            "render_item": self._rendered,
            "process_revision_directives": self._written,
            "on_version_apply": self._applied(),
        }

    def _applied(self) -> list[Callable[..., object]]:
        attributes = context.config.attributes
        attributes[TELLS] = True
        asked = self._options.get("on_version_apply") or []
        ours = attributes.get("on_version_apply")
        return [*([asked] if callable(asked) else asked), *([ours] if ours else [])]

    def _includes(self, name: str | None, kind: str, parents: dict[str, str | None]) -> bool:
        """Say whether the comparison looks at something in the database; Alembic asks for schemas first."""
        if kind == "schema":
            _refuse_doubled(self._compared)
            named = "include_schemas" in self._options or name is None or name in self._schemas
            if not named:
                return False
        if kind == "table" and (parents.get("schema_name"), name) in self._of_others:
            return False
        if kind == "table" and (parents.get("schema_name"), name) in self._parts:
            return False
        if kind == "table" and name is not None and name.startswith(LOAD_PREFIX):
            return False  # a load that was stopped goes on with it
        asked = self._options.get("include_name")
        return asked is None or bool(asked(name, kind, parents))

    @functools.cached_property
    def _schemas(self) -> set[str | None]:
        return {schema for schema, _name in _names(self._compared)}

    @functools.cached_property
    def _of_others(self) -> set[tuple[str | None, str]]:
        """The tables of models that are loaded, but not compared."""
        return _names(loaded_metadata()) - _names(self._compared)

    @functools.cached_property
    def _parts(self) -> set[tuple[str | None, str]]:
        """The tables that go with another one, or an extension, where no model names them."""
        # Not before Alembic has begun its transaction, or it would leave the end of it to us.
        return parts_of_others(context.get_context().connection) - _names(self._compared)

    def _rendered(self, kind: str, found: Any, autogenerate: AutogenContext) -> str | Literal[False]:  # noqa: ANN401  # whatever is written
        asked = self._options.get("render_item")
        rendered: str | Literal[False] = False if asked is None else asked(kind, found, autogenerate)
        return rendered if rendered is not False else render(kind, found, autogenerate)

    def _written(self, migration: MigrationContext, revision: Any, scripts: list[MigrationScript]) -> None:  # noqa: ANN401  # as Alembic calls it
        keep_form(migration, scripts, rename=self._rename)
        asked = self._options.get("process_revision_directives")
        if asked is not None:
            asked(migration, revision, scripts)
        if not _may_drop():
            refuse_drops(scripts, modules_of(self._compared), migration.dialect.name)


def _names(metadata: Iterable[MetaData]) -> set[tuple[str | None, str]]:
    return {(table.schema, table.name) for each in metadata for table in each.tables.values()}


def _may_drop() -> bool:
    """Say whether drops are asked for, or only told: by `check`, which writes nothing."""
    attributes, typed = context.config.attributes, context.config.cmd_opts
    if attributes.get("allow_drop") or "allow-drop" in (getattr(typed, "x", None) or ()):
        return True
    return bool(attributes.get("comparing")) or getattr(typed, "cmd", (None,))[0] is check


def _refuse_doubled(compared: Sequence[MetaData]) -> None:
    known: set[str] = set()
    for each in compared:
        doubled = known & set(each.tables)
        if doubled:
            raise CommandError(
                f"Two MetaData that are loaded have the same table: {', '.join(sorted(doubled))}.\n"
                "  Fix: name the MetaData to compare with, in env.py: `run_environment(Base.metadata)`."
            )
        known |= set(each.tables)


def _check_foreign_keys(connection: Connection) -> None:
    try:
        broken = {row[0] for row in connection.execute(text("PRAGMA foreign_key_check"))}
    except DBAPIError as error:
        raise CommandError(
            f"After the migration, a foreign key refers to columns that are no key: {error.orig}.\n"
            "  Fix: leave these columns their primary key or unique constraint in its upgrade(), or drop the "
            "foreign key there."
        ) from error
    if broken:
        raise CommandError(
            f"After the migration, rows of {', '.join(sorted(broken))} refer to rows that do not exist.\n"
            "  Fix: delete or change them in its upgrade()."
        )


def _url() -> str:
    found = context.config.get_main_option("sqlalchemy.url")
    for variable in _VARIABLES:
        found = found or os.environ.get(variable)
    if not found:
        raise OptionError("sqlalchemy.url", None, [f"a URL; or set {' or '.join(_VARIABLES)}"])
    return found
