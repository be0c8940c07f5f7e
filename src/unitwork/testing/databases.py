"""This module makes databases for tests: one for the session, and clones of it for tests that commit."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from sqlalchemy import URL, MetaData, NullPool, make_url, text
from sqlalchemy.orm import DeclarativeBase

from unitwork.database import Database
from unitwork.errors import OptionError, UnitworkError
from unitwork.testing.processes import PrivateServer, ServerMissingError, ServerStartError
from unitwork.testing.servers import start_mariadb, start_postgresql

Tables: TypeAlias = type[DeclarativeBase] | MetaData
Schema: TypeAlias = Tables | Sequence[Tables] | Callable[[Database], Awaitable[object]] | None
"""What a database starts with: tables, or a function that prepares it, such as migrations."""

REFUSALS = (UnitworkError, ServerMissingError, ServerStartError)
"""What says by its text alone what to do."""
_USERS = {"postgresql": "postgres", "mysql": "root"}
_KINDS = ["a URL", "sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"]


class Place(Protocol):
    """Where the databases of one kind are made."""

    def make(self, schema: Schema) -> URL:
        """Make a database with these tables; the template of the clones."""
        ...

    def clone(self, template: URL, schema: Schema) -> URL:
        """Make another one with the same content."""
        ...

    def remove(self, url: URL) -> None:
        """Remove a database, whoever is connected."""
        ...

    def close(self) -> None:
        """End what was started for all of them."""
        ...


def place_for(address: str, worker: str) -> Place:
    """Find the place that an address means.

    Args:
        address: A URL, whose server is used; or only a driver, such as `postgresql+asyncpg`, for a
            server of our own.
        worker: A word for the names of databases, such as that of the process.

    Raises:
        OptionError: It is neither.
        ServerMissingError: A server of our own is asked for, but its programs are not on this machine.
    """
    url = make_url(address if "://" in address else f"{address}://")
    kind = url.get_backend_name().replace("mariadb", "mysql")
    if kind == "sqlite":
        return Files(url)
    if kind not in _USERS:
        raise OptionError("unitwork_url", url.drivername, _KINDS)
    server: PrivateServer | None = None
    if "://" not in address:
        server = start_postgresql() if kind == "postgresql" else start_mariadb()
        url = url.set(host="127.0.0.1", port=server.port, username=_USERS[kind])
    names = f"test_{url.database or 'unitwork'}_{worker}"
    return PostgreSQL(url, names, server) if kind == "postgresql" else MariaDB(url, names, server)


class Files:
    """SQLite: a file for each database, in a folder that is removed at the end."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._folder = Path(tempfile.mkdtemp(prefix="unitwork-"))

    def make(self, schema: Schema) -> URL:
        """Make a file with these tables."""
        file = self._folder / f"{secrets.token_hex(4)}.db"
        file.touch()  # a schema without tables makes none
        url = self._url.set(database=str(file))
        prepare(url, schema)
        return url

    def clone(self, template: URL, schema: Schema) -> URL:
        """Copy the file."""
        del schema
        url = self._url.set(database=str(self._folder / f"{secrets.token_hex(4)}.db"))
        shutil.copyfile(str(template.database), str(url.database))
        return url

    def remove(self, url: URL) -> None:
        """Remove the file, and what SQLite keeps beside it."""
        for path in Path(str(url.database)).parent.glob(f"{Path(str(url.database)).name}*"):
            path.unlink()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


class _OnServer:
    """Databases on a server, which is ours or somebody's."""

    def __init__(self, url: URL, names: str, server: PrivateServer | None) -> None:
        self._url = url
        self._names = names
        self._server = server

    def make(self, schema: Schema) -> URL:
        """Make a database with these tables."""
        url = self._created("")
        prepare(url, schema)
        return url

    def close(self) -> None:
        """End the server, if it is ours."""
        if self._server is not None:
            self._server.close()

    def _created(self, options: str) -> URL:
        name = f"{self._names}_{secrets.token_hex(4)}"
        self._run(f"CREATE DATABASE {name}{options}")
        return self._url.set(database=name)

    def _run(self, statement: str) -> None:
        _apart(_run(self._admin(), statement))

    def _admin(self) -> URL:
        return self._url


class PostgreSQL(_OnServer):
    """PostgreSQL, whose server copies a database by itself."""

    def clone(self, template: URL, schema: Schema) -> URL:
        """Copy the database on the server."""
        del schema
        return self._created(f" TEMPLATE {template.database}")

    def remove(self, url: URL) -> None:
        """Drop it, whoever is connected."""
        self._run(f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")

    def _admin(self) -> URL:
        return self._url if self._url.database else self._url.set(database="postgres")


class MariaDB(_OnServer):
    """MariaDB and MySQL, which cannot copy a database: the tables are made again."""

    def clone(self, template: URL, schema: Schema) -> URL:
        """Make another one."""
        del template
        return self.make(schema)

    def remove(self, url: URL) -> None:
        """Drop it."""
        self._run(f"DROP DATABASE IF EXISTS {url.database}")


class TestDatabases:
    """The databases of one test session. Lives: as long as the session; closing it removes all.

    Args:
        address: A URL, or only a driver; see `place_for`.
        schema: What each database starts with.
        worker: The name of this process among several.
    """

    __test__ = False

    def __init__(self, address: str, schema: Schema, *, worker: str = "main") -> None:
        self._schema = schema
        self._place = place_for(address, worker)
        self._closing = ExitStack()
        self._closing.callback(self._place.close)
        try:
            self._template = self._place.make(schema)
            self._closing.callback(self._place.remove, self._template)
        except BaseException:
            self._closing.close()
            raise

    def lend(self) -> URL:
        """Return the address of a database with the tables, for one test or many."""
        url = self._place.clone(self._template, self._schema)
        self._closing.callback(self._place.remove, url)
        return url

    def lend_once(self) -> Lending:
        """Lend a database for one `with`, which removes it."""
        return Lending(self._place, self._template, self._schema)

    def close(self) -> None:
        """Remove everything."""
        self._closing.close()


class Lending:
    """One database for one test. Lives: one `with`."""

    def __init__(self, place: Place, template: URL, schema: Schema) -> None:
        self._place = place
        self._template = template
        self._schema = schema
        self._url: URL | None = None

    def __enter__(self) -> URL:
        self._url = self._place.clone(self._template, self._schema)
        return self._url

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._url is not None:
            self._place.remove(self._url)


def prepare(url: URL, schema: Schema) -> None:
    """Make the tables of a new database, from outside of any event loop."""
    if schema is not None:
        _apart(_prepared(url, schema))


async def _prepared(url: URL, schema: Schema) -> None:
    async with _database(url) as database:
        if isinstance(schema, MetaData) or inspect.isclass(schema):
            await database.create_all(schema)  # type: ignore[arg-type]  # mypy forgets what kind of class
        elif callable(schema):
            await schema(database)
        elif schema is not None:
            await database.create_all(*schema)


async def _run(url: URL, statement: str) -> None:
    async with _database(url) as database:
        engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        async with engine.connect() as server:
            await server.execute(text(statement))


def _database(url: URL) -> Database:
    name = f"being prepared ({secrets.token_hex(4)})"
    return Database(url, name=name, poolclass=NullPool)


def _apart(work: Coroutine[Any, Any, None]) -> None:
    """Run in an event loop of its own: in this thread there may be one that runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
