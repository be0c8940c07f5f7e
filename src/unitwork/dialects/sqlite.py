"""This module holds what SQLite needs: its own BEGIN, pragmas, and a real pool in memory."""

from __future__ import annotations

import asyncio
import time
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool
from sqlalchemy.util import await_only
from typing_extensions import override

from unitwork._sqlalchemy.lazy import LazyConnection, held_by
from unitwork._sqlalchemy.versions import let_go_of_cursor
from unitwork.dialects.backend import Backend, BeginMode, Fault
from unitwork.dialects.orders import order_of
from unitwork.dialects.sqlite_beginning import BEGIN, READ_ONLY, begin, goes_with_next, send_begin
from unitwork.dialects.sqlite_driver import (
    SQLiteDirect,
    forget_beginning,
    is_busy,
    is_closed_to_writes,
    is_query,
    open_to_writes,
    stop,
)
from unitwork.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import (
        DBAPIConnection,
        DBAPICursor,
        Dialect,
        ExceptionContext,
        ExecutionContext,
        IsolationLevel,
    )
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, PoolResetState


_DIRECT = SQLiteDirect()
_BUSY_S = 5.0
_BUSY_AGAIN_S = 0.01
_PRAGMAS = (f"busy_timeout={_BUSY_S * 1000:.0f}", "foreign_keys=ON", "synchronous=NORMAL")
_JOURNAL = "PRAGMA journal_mode=WAL"


def in_memory(url: URL) -> bool:
    """Say whether each connection would be a database of its own."""
    return url.database in (None, "", ":memory:") or (
        "mode=memory" in str(url) and "cache=shared" not in str(url)
    )


class SQLiteBackend(Backend):
    """SQLite through aiosqlite.

    The driver's own transaction handling is switched off, because with it concurrent
    read-modify-writes lose updates and released savepoints survive a ROLLBACK.
    """

    extra = "sqlite"
    direct = _DIRECT
    one_writer = True
    begins_silently = False
    begins_ahead = True
    sets_silently = True
    cancels_itself = False
    connects_whole = True

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self.shared_between_loops = in_memory(url)
        self.immediate_by_hand = True
        """Sessions and connections by hand begin with the lock to write, as blocks do."""

    @override
    def begin_by_hand(self, *, immediate: bool | None, given: bool) -> None:
        self.immediate_by_hand = not given if immediate is None else immediate

    @override
    def engine_options(self) -> Mapping[str, Any]:
        if self.shared_between_loops:
            # One connection, waited for: with StaticPool one task's ROLLBACK discards another's rows.
            return {
                "poolclass": AsyncAdaptedQueuePool,
                "pool_size": 1,
                "max_overflow": 0,
                "pool_reset_on_return": None,
            }
        # A ROLLBACK visits the driver's thread: sent where there is something to roll back (see _reset).
        return {**super().engine_options(), "pool_reset_on_return": None}

    @override
    def install(self, engine: AsyncEngine) -> None:
        if self.shared_between_loops and isinstance(engine.pool, NullPool):
            raise OptionError("poolclass", "NullPool", ["none: a database in memory is its one connection"])
        event.listen(engine.sync_engine, "connect", self._keep)
        event.listen(engine.sync_engine, "close", self._forget)
        event.listen(engine.sync_engine, "begin", send_begin)
        event.listen(engine.sync_engine, "reset", _reset)
        event.listen(engine.sync_engine, "do_execute", _execute)
        event.listen(engine.sync_engine, "handle_error", _keep_after_cancellation)
        _keep_silent(engine.sync_engine.dialect)
        _end_in_one_visit(engine.sync_engine.dialect)
        self.serve(engine)

    @override
    def connected(self, connection: DBAPIConnection) -> None:
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            _run(connection, f"PRAGMA {pragma}")
        _write_ahead(connection, time.monotonic() + _BUSY_S)

    @override
    def opened_before(self, connection: DBAPIConnection) -> bool:
        connection.rollback()  # the driver would commit what is open
        self.connected(connection)
        self._keep(connection)
        return True

    def _keep(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry | None = None) -> None:
        # The one connection of a database in memory outlives the pool, which is replaced for a new loop.
        if self.shared_between_loops:
            self.kept = connection

    def _forget(self, _connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        self.kept = None

    @override
    def execution_options(self, mode: BeginMode) -> Mapping[str, Any]:
        # Every SQLite transaction is serializable, which satisfies each isolation level.
        if mode.autocommit:
            return {BEGIN: None}
        return {BEGIN: READ_ONLY} if mode.read_only else {}

    @override
    async def begin(self, connection: Connection) -> None:
        await begin(connection)

    @override
    def begins_lazily(self, mode: BeginMode) -> bool:
        return not mode.autocommit

    @override
    def begin_with_next(self, connection: LazyConnection) -> bool:
        return goes_with_next(connection)

    @override
    def forget_beginning(self, connection: LazyConnection) -> None:
        forget_beginning(held_by(connection).driver_connection)

    @override
    def survives_cancellation(self, sql: str) -> bool:
        # SQLite ends the whole transaction of a write that is interrupted.
        return is_query(sql)

    @override
    def mode_of(self, options: Mapping[str, Any]) -> BeginMode:
        plain = super().mode_of(options).autocommit or options.get(BEGIN, "") is None
        return BeginMode(autocommit=plain, read_only=options.get(BEGIN) == READ_ONLY)

    @override
    def read_only_switch(self, *, on: bool) -> str | None:
        return f"PRAGMA query_only={'ON' if on else 'OFF'}"

    @override
    def in_transaction(self, driver_connection: Any) -> bool:  # of any driver
        return _DIRECT.in_transaction(driver_connection)

    @override
    def has_ended_unseen(self, connection: DBAPIConnection) -> bool:
        try:
            return not self.in_transaction(connection.driver_connection)
        except ValueError:  # a closed one cannot say
            return False

    @override
    def is_closed(self, connection: DBAPIConnection) -> bool:
        try:
            connection.driver_connection.in_transaction  # noqa: B018  # a closed one cannot say
        except ValueError:
            return True
        return False

    @override
    def is_retryable(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and is_busy(error.orig)

    @override
    def release(self, driver_connection: Any) -> None:
        async def end() -> None:
            await driver_connection.interrupt()
            await driver_connection.close()

        # In a loop of its own: the one that the connection was used on is closed, another may be soon.
        ending = Thread(target=lambda: asyncio.run(end()))
        ending.start()
        ending.join()

    @override
    def fault_of(self, context: ExceptionContext) -> Fault:
        # SQLite ends the whole transaction by itself after a full disk, an interrupt and the like.
        connection = context.connection
        if connection is None or connection.invalidated:
            return Fault.TRANSACTION
        driver: Any = connection.connection.driver_connection
        return super().fault_of(context) if driver.in_transaction else Fault.TRANSACTION


def _end_in_one_visit(dialect: Dialect) -> None:
    """Open a connection to writes again with the COMMIT of a read-only transaction, not after it."""
    commit = dialect.do_commit

    def commit_and_open(dbapi_connection: PoolProxiedConnection) -> None:
        driver = cast("Any", dbapi_connection).driver_connection
        if is_closed_to_writes(driver):
            await_only(open_to_writes(driver))
        else:
            commit(dbapi_connection)

    dialect.do_commit = commit_and_open  # type: ignore[method-assign]  # no event comes in its place


def _keep_silent(dialect: Dialect) -> None:
    """Keep the driver from beginning by itself, which SQLAlchemy makes it do after an isolation level."""
    set_level = dialect.set_isolation_level

    def set_and_keep(dbapi_connection: DBAPIConnection, level: IsolationLevel) -> None:
        set_level(dbapi_connection, level)
        dbapi_connection.isolation_level = None

    dialect.set_isolation_level = set_and_keep  # type: ignore[method-assign]  # no event comes after it


def _run(connection: DBAPIConnection, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()


def _write_ahead(connection: DBAPIConnection, deadline: float) -> None:
    """Switch to the write-ahead log, which `busy_timeout` does not wait for when two switch at once."""
    while True:
        try:
            return _run(connection, _JOURNAL)
        except Exception as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        await_only(asyncio.sleep(_BUSY_AGAIN_S))


def _reset(connection: DBAPIConnection, _entry: ConnectionPoolEntry, state: PoolResetState) -> None:
    if not state.asyncio_safe:
        return
    driver = cast("Any", connection).driver_connection
    forget_beginning(driver)
    # Not only where SQLAlchemy has sent no ROLLBACK: after a COMMIT that failed it believes that it is over.
    if driver.in_transaction:
        connection.rollback()
    if is_closed_to_writes(driver):
        await_only(open_to_writes(driver))


def _execute(cursor: DBAPICursor, statement: str, parameters: object, context: ExecutionContext) -> bool:
    if order_of(context) is not None:
        return False
    try:
        cursor.execute(statement, cast("Any", parameters))
    except BaseException as error:
        if not isinstance(error, Exception):
            # The driver's thread works on after a cancellation; stop it, or the ROLLBACK waits for it.
            driver: Any = context.root_connection.connection.driver_connection
            await_only(stop(driver))
            let_go_of_cursor(error)
        raise
    return True


def _keep_after_cancellation(context: ExceptionContext) -> None:
    # The interrupted connection is whole; for a database in memory it *is* the database.
    if not isinstance(context.original_exception, Exception):
        context.is_disconnect = False
