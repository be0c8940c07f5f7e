"""This module holds what a Database does besides transactions: its engine, from first use to the end."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase

from unitwork._later import later
from unitwork._runtime.connections.latest import ReadFromPrimary
from unitwork._runtime.edges import edge

if TYPE_CHECKING:
    from unitwork._runtime.connections.loop_engine import LoopEngine
    from unitwork._runtime.connections.server import Server

if TYPE_CHECKING:  # what most programs do not use, or not before they have a Database
    import unitwork.snapshot as records
    from unitwork import events
    from unitwork._logic import findings
    from unitwork._runtime import now
    from unitwork._runtime import source as sources
    from unitwork._runtime.access import check as checking
    from unitwork._runtime.rolled_back import block as rolling_back
else:
    events = later("unitwork.events")
    findings = later("unitwork._logic.findings")
    records = later("unitwork.snapshot")
    sources = later("unitwork._runtime.source")
    now = later("unitwork._runtime.now")
    checking = later("unitwork._runtime.access.check")
    rolling_back = later("unitwork._runtime.rolled_back.block")

__all__ = ["Lifecycle", "caller"]

_KINDS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL"}


@runtime_checkable
class _ObservesDatabases(Protocol):
    """An observer that wants to know which Databases it is told of; see `docs/reference/events.md`."""

    def begin_observing(self, database: Lifecycle, /) -> None:
        """Take note of a Database, before its first event."""

    def end_observing(self, database: Lifecycle, /) -> None:
        """Forget it: there will be no more events."""


class Lifecycle:
    """The engine of a Database: made at once, connected with the first statement, disposed of at the end."""

    def __init__(self, source: sources.Source) -> None:
        self._source = source
        self._session_factory: async_sessionmaker[AsyncSession] | None = None

    @property
    def name(self) -> str:
        """What `using="..."` calls it."""
        return self._source.name

    @property
    def source(self) -> sources.Source:
        """Where its sessions come from; for the library's own floors."""
        return self._source

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine, which may be kept: at each use, it is that of the event loop that runs.

        An engine of yours that the Database was given is returned as it is.
        """
        return self._source.home_engine() if self._source.engines.given else self._source.engine

    @property
    def session_factory(self) -> async_sessionmaker[AsyncSession]:
        """SQLAlchemy's own factory, for sessions that you commit and close yourself; it may be kept, too."""
        if self._session_factory is None:
            options: dict[str, Any] = {"expire_on_commit": False, **self._source.session_options}
            self._session_factory = async_sessionmaker(
                self._source.engine, class_=self._source.session_class, **options
            )
        return self._session_factory

    def observe(self, observer: events.Observer) -> None:
        """Tell an observer of what happens from now on: see `unitwork.events`.

        One that has a method `begin_observing(database)` is handed this Database before.
        """
        if isinstance(observer, _ObservesDatabases):
            observer.begin_observing(self)
        self._source.watch.add(observer)

    def unobserve(self, observer: events.Observer) -> None:
        """Tell an observer no more.

        One that has a method `end_observing(database)` is handed this Database.
        """
        self._source.watch.remove(observer)
        if isinstance(observer, _ObservesDatabases):
            observer.end_observing(self)

    def snapshot(self) -> records.Snapshot:
        """Return what happens now: servers and their pools, who has connections, who waits for whom.

        For people, such as in a health page, or a signal handler of a program that hangs. It tells of all
        event loops that use the Database, and may be called in any thread, also after `dispose()`. What
        changes meanwhile may be told as it was or as it is.

        Database:
            Nothing is sent.

        Examples:
            >>> async with db.transaction():
            ...     _ = await db.session.scalars(select(User.email))
            ...     db.snapshot().servers[0].pools[0].held[0].last_statement
            'SELECT users.email FROM users'
        """
        return now.snapshot(self._source)

    def rolled_back(self) -> rolling_back.RolledBack:
        """Undo at the end all that is done on this Database meanwhile: `async with db.rolled_back():`.

        For tests. Everything runs on one connection, in one transaction that is rolled back at the
        end, whatever happened: blocks, units of work, repositories, `session_factory` and `engine`, in
        all tasks of this event loop, requests that are handled in it included. The code under test
        commits, nests and rolls back as always, and its hooks run; its transactions are savepoints,
        also those of REQUIRES_NEW. Transactions beside each other take turns. Inside another
        `rolled_back()` it undoes its own part.

        Raises:
            TransactionRefusedError: Something is open already; on entry. It is used in another event
                loop; a transaction waits for one that waits for it; a statement would commit
                (MariaDB: DDL); when they do. Something is still open; at the end.

        Database:
            BEGIN and ROLLBACK; SAVEPOINT and RELEASE or ROLLBACK TO for each transaction, and for each
            statement outside of one. `isolation` is that of the whole. Sequences keep what they gave.

        Examples:
            >>> async with db.rolled_back():
            ...     async with db.transaction():
            ...         db.session.add(User(email="eve@example.com"))
        """
        return rolling_back.RolledBack(self._source, f"rolled_back() at {caller()}")

    async def check(self, *repositories: type, explain: bool = False) -> findings.CheckReport:
        """Check declared queries against the live database; none is run.

        Tables, columns and functions exist, the types of parameters fit their annotations, and the
        columns of results fit what the queries promise. What the database does not tell is in
        `unchecked` of the report.

        Args:
            *repositories: Classes whose queries are checked; without any, all of the program.
            explain: Also warn of queries that read large tables as a whole.

        Raises:
            sqlalchemy.exc.DBAPIError: The server cannot be reached.

        Database:
            Each statement is parsed and described by the protocol of PostgreSQL, prepared by that of
            MariaDB, and compiled by EXPLAIN on SQLite, and its tables are looked up in the catalog; in
            transactions that are rolled back at once. For a locked table a server waits 3 s at most.
            `explain=True` lets the server plan statements, and counts up to 10,000 rows of a table.

        Examples:
            >>> class Users(Repository[User]):
            ...     @query("email = :email")
            ...     async def by_email(self, email: str) -> User | None: ...
            >>> print(await db.check(Users))
            1 query checked on database 'default': 0 errors, 0 warnings.
        """
        return await checking.Check(self._source, explain=explain).run(*repositories)

    async def ping(self) -> records.Ping:
        """Ask the server for an answer; where there are several, each of them.

        Raises:
            sqlalchemy.exc.DBAPIError: The server, or the primary, cannot be reached or refuses.

        Database:
            One small SELECT on a pooled connection, and one to each of several servers. Commits nothing.
        """
        async with self.engine.connect() as connection:
            dialect = connection.dialect
            started = time.perf_counter()
            await connection.exec_driver_sql("SELECT 1")
            latency_ms = (time.perf_counter() - started) * 1000
            version = ".".join(str(part) for part in dialect.server_version_info or ())
        kind = "MariaDB" if getattr(dialect, "is_mariadb", False) else _KINDS.get(dialect.name, dialect.name)
        return records.Ping(f"{kind} {version}", latency_ms, await self._statuses())

    async def _statuses(self) -> tuple[records.ServerStatus, ...]:
        """Ask each server what it is and how far it has come; one that does not answer is told of."""
        servers = self._source.servers
        if servers is None:
            return ()
        await servers.refreshed()
        return tuple(self._status_of(server) for server in servers.all)

    def _status_of(self, server: Server) -> records.ServerStatus:
        servers = self._source.servers
        assert servers is not None  # noqa: S101  # it has this one
        is_primary = server is servers.writable.current
        engines = self._source.engines if is_primary else server.engines
        lag_s = servers.lag_s(server) if not is_primary and server.engines is not None else None
        return records.ServerStatus(
            name=server.name,
            role="primary" if is_primary else "replica" if server.engines is not None else "spare",
            problem=None if is_primary and server.state is not None else server.problem,
            position=str(server.position or ""),
            lag_s=None if lag_s is None or server.state is None else round(lag_s, 3),
            latency_ms=server.answers_ms,
            pool=None if engines is None else _status_of_pool(engines.here()),
        )

    async def create_all(self, *bases: type[DeclarativeBase] | MetaData) -> None:
        """Create the tables of these declarative bases that do not exist yet, in one transaction."""
        async with self.engine.begin() as connection:
            for metadata in map(_metadata, bases):
                await connection.run_sync(metadata.create_all)

    async def drop_all(self, *bases: type[DeclarativeBase] | MetaData) -> None:
        """Drop the tables of these declarative bases, with all their rows, in one transaction."""
        async with self.engine.begin() as connection:
            for metadata in map(_metadata, bases):
                await connection.run_sync(metadata.drop_all)

    async def migrate(
        self, directory: str | os.PathLike[str] = "migrations", *, revision: str = "head"
    ) -> list[str]:
        """Run the migrations in a folder that have not run yet, and return their ids.

        For the start of a program; several instances may start at once.

        Args:
            directory: The folder that `unitwork migrations init` made.
            revision: How far.

        Raises:
            MissingExtraError: Alembic is not installed.
            alembic.util.CommandError: There is no such folder or revision.
            TransactionRefusedError: Inside a transaction block.

        Database:
            See `unitwork.integrations.alembic.Migrations.upgrade`.
        """
        migrations: Any = edge("integrations.alembic").Migrations(self, directory)
        done: list[str] = await migrations.upgrade(revision)
        return done

    def primary(self) -> ReadFromPrimary:
        """Read from the primary, whatever else could answer: `with db.primary():`.

        For those who must see what others have just written. What was written here is seen anyway.
        Without replicas it changes nothing. Sends nothing.

        Examples:
            >>> with db.primary():
            ...     number = await Repository[User](db).count()
        """
        return ReadFromPrimary(self._source.servers)

    def pool_status(self) -> records.PoolStatus:
        """Return how many connections are in use and idle. Sends nothing."""
        return _status_of_pool(self._source.home())

    async def dispose(self) -> None:
        """Close all connections. May be called again; the next use connects anew."""
        await self._source.dispose()


def _status_of_pool(engine: LoopEngine) -> records.PoolStatus:
    pool: Any = engine.engine.pool
    idle = pool.checkedin() if hasattr(pool, "checkedin") else 0
    return records.PoolStatus(checked_out=engine.in_use(), idle=idle, capacity=engine.capacity())


def _metadata(base: type[DeclarativeBase] | MetaData) -> MetaData:
    return base if isinstance(base, MetaData) else base.metadata


def caller() -> str:
    """Say where the method of the Database that calls this was called."""
    # The public way, inspect.stack, takes a thousand times as long.
    frame = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
