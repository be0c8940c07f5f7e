"""This module holds what PostgreSQL needs, through asyncpg and psycopg alike."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet
from typing_extensions import override

from unitwork._sqlalchemy.lazy import LazyConnection, held_by
from unitwork._sqlalchemy.versions import translate_client_errors
from unitwork.dialects.backend import Backend, BeginMode, close_socket, shut_down
from unitwork.dialects.direct import AsyncpgDirect, PsycopgDirect
from unitwork.dialects.pipeline import end_pipelines
from unitwork.dialects.prepared import is_outdated, note_on
from unitwork.dialects.replication import PostgreSQLReplication
from unitwork.errors import OptionError
from unitwork.options import Isolation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

_QUERY_CANCELED = "57014"
# Serialization failure, deadlock, lock not available.
_RETRYABLE = frozenset({"40001", "40P01", "55P03"})
# Shut down by an administrator, crashed, not ready yet, no connection left.
_AWAY = frozenset({"57P01", "57P02", "57P03", "53300"})
_IN_FAILED_TRANSACTION = "25P02"
_REFUSALS = frozenset({"InterfaceError", "InternalClientError"})
_REFUSAL_OF_PSYCOPG = "the connection is closed"
_REFUSAL_OF_ASYNCPG = "connection is closed"
_OF_CONNECTIONS = frozenset({"OperationalError", "ConnectionTimeout"})
_FATAL = "FATAL: "
_IN_A_WHILE = (
    "the database system is ",
    "too many clients already",
    "connection slots are reserved",
    "cannot connect to server",  # as PgBouncer says it
    "server login has been failing",
    "terminating connection",  # it ends while it lets somebody in
)
_HANGING_UP = "another operation (2) is in progress"
"""What asyncpg says where the server has told why it ends, and has not hung up yet."""
_LAST_WORDS = 8
"""How often an idle line is read: what the server has said before it hung up."""
_READ_ONLY_SERVER = "25006"
_CONNECT_S = 3
_ASYNCPG = AsyncpgDirect()
_MADE_HERE = "unitwork_made_it"
_LONGEST_MS = 2_147_483_647


class PostgreSQLBackend(Backend):
    """PostgreSQL: read-only and isolation ride on BEGIN, and cost no round trip."""

    replication = PostgreSQLReplication()
    fails_as_a_whole = True

    deferred_exist = "SELECT EXISTS (SELECT FROM pg_constraint WHERE condeferred)"
    check_deferred = (
        "SAVEPOINT unitwork_check",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "ROLLBACK TO SAVEPOINT unitwork_check",
        "RELEASE SAVEPOINT unitwork_check",
    )

    @override
    def expect_transaction_pooling(self) -> None:
        self.transaction_pooling = True

    @override
    def install(self, engine: AsyncEngine) -> None:
        event.listen(engine.sync_engine, "handle_error", self._say_what_helps)

    @override
    def opened_before(self, connection: DBAPIConnection) -> bool:
        return not self.transaction_pooling

    def _say_what_helps(self, context: ExceptionContext) -> None:
        note = note_on(context.original_exception, pooled=self.transaction_pooling)
        if note is not None:
            (context.sqlalchemy_exception or context.original_exception).add_note(note)

    @override
    def execution_options(self, mode: BeginMode) -> Mapping[str, Any]:
        if mode.isolation is Isolation.READ_UNCOMMITTED:
            # PostgreSQL gives the stronger one; asyncpg does not know the name.
            mode = mode._replace(isolation=Isolation.READ_COMMITTED)
        options = super().execution_options(mode)
        if mode.read_only and not mode.autocommit:
            return {**options, "postgresql_readonly": True}
        return options

    @override
    def survives_cancellation(self, sql: str) -> bool:
        return True

    @override
    def mode_of(self, options: Mapping[str, Any]) -> BeginMode:
        read_only = bool(options.get("postgresql_readonly"))
        return super().mode_of(options)._replace(read_only=read_only)

    @override
    def read_only_switch(self, *, on: bool) -> str | None:
        # The end of the savepoint ends it too.
        return "SET LOCAL transaction_read_only = on" if on else None

    @override
    def limit_commit(self, connection: Connection, seconds: float) -> None:
        # Deferred constraints run inside COMMIT, where the server's time limit does not count.
        milliseconds = min(max(1, int(seconds * 1000)), _LONGEST_MS)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    @override
    def may_be_stored(self, error: BaseException) -> bool:
        return super().may_be_stored(error) and not _never_sent(error)

    @override
    def takes_no_writes(self, error: BaseException) -> bool:
        state = sqlstate_of(error)
        return state == _READ_ONLY_SERVER or state in _AWAY

    @override
    def reads_on_replicas(self, mode: BeginMode) -> bool:
        # A standby has no serializable transactions.
        return super().reads_on_replicas(mode) and mode.isolation is not Isolation.SERIALIZABLE

    @override
    def transaction_failed(self, error: BaseException) -> bool:
        return sqlstate_of(error) == _IN_FAILED_TRANSACTION

    @override
    def is_retryable(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and (sqlstate_of(error) in _RETRYABLE or is_outdated(error))

    @override
    def is_lost(self, error: BaseException) -> bool:
        return super().is_lost(error) or isinstance(error, OSError) or sqlstate_of(error) in _AWAY

    @override
    def is_timeout(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and sqlstate_of(error) == _QUERY_CANCELED


class AsyncpgBackend(PostgreSQLBackend):
    """PostgreSQL through asyncpg."""

    extra = "asyncpg"
    connect_limit = MappingProxyType({"timeout": _CONNECT_S})
    direct = _ASYNCPG
    cancels_itself = False
    sets_silently = True

    @override
    def begins_lazily(self, mode: BeginMode) -> bool:
        return not mode.autocommit and mode.isolation is None

    @override
    def begin_with_next(self, connection: LazyConnection) -> bool:
        if connection.options:
            _set_read_only(connection, on=True)
        return True

    @override
    def forget_beginning(self, connection: LazyConnection) -> None:
        if connection.options:
            _set_read_only(connection, on=False)

    @override
    def install(self, engine: AsyncEngine) -> None:
        super().install(engine)
        translate_client_errors(engine.sync_engine.dialect)
        event.listen(engine.sync_engine, "do_connect", self._prepare_nothing)
        event.listen(engine.sync_engine, "connect", self._refuse_to_guess)
        event.listen(engine.sync_engine, "handle_error", self._let_go)

    def _prepare_nothing(
        self,
        dialect: Any,  # noqa: ANN401  # SQLAlchemy's for this driver
        _entry: object,
        _arguments: object,
        keywords: dict[str, Any],
    ) -> None:
        if self.transaction_pooling:
            keywords.update(statement_cache_size=0, prepared_statement_cache_size=0)
            own = keywords.get("connection_class", dialect.dbapi.asyncpg.Connection)
            keywords["connection_class"] = _looking_up_in_a_transaction(own)
        if keywords.get("statement_cache_size") == 0:
            # A name of its own for each statement: what comes next may meet a connection without it.
            keywords.pop("prepared_statement_name_func", None)

    def _refuse_to_guess(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        driver = cast("Any", connection).driver_connection
        if self.transaction_pooling and not getattr(driver, _MADE_HERE, False):
            instead = "`connect_args`, in place of an `async_creator` of yours"
            raise OptionError("transaction_pooling", value=True, allowed=[instead])

    def _let_go(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is not None and context.sqlalchemy_exception is not None and not context.is_disconnect:
            await_only(_ASYNCPG.let_go(connection.connection.driver_connection, context.original_exception))

    @override
    def is_lost(self, error: BaseException) -> bool:
        # SQLAlchemy leaves its errors as they are while a connection is made: the classes of 08 are those,
        # and that of one that is closed before it was prepared.
        said = sqlstate_of(error) or str(error)
        raw = not isinstance(error, DBAPIError) and said.startswith(("08", _REFUSAL_OF_ASYNCPG))
        return raw or _HANGING_UP in str(getattr(error, "orig", error)) or super().is_lost(error)

    @override
    def is_closed(self, connection: DBAPIConnection) -> bool:
        closed: bool = cast("Any", connection).driver_connection.is_closed()
        return closed

    @override
    def in_transaction(self, driver_connection: Any) -> bool:  # of any driver
        inside: bool = driver_connection.is_in_transaction()
        return inside

    @override
    def has_ended_unseen(self, connection: DBAPIConnection) -> bool:
        # BEGIN goes with the first statement, of which SQLAlchemy's connection alone takes note.
        driver: Any = connection.driver_connection
        begun = getattr(connection, "_transaction", None) is not None and not driver.is_closed()
        return begun and not driver.is_in_transaction()

    @override
    def has_failed_unseen(self, connection: DBAPIConnection) -> bool:
        # The driver knows, and does not tell; it throws away what the server answers to COMMIT.
        driver: Any = connection.driver_connection
        if not driver.is_in_transaction():
            return False
        try:
            await_only(driver.execute("SELECT"))
        except Exception as error:  # noqa: BLE001  # a connection that is lost COMMIT itself will tell of
            return self.transaction_failed(error)
        return False

    @override
    def sever(self, driver_connection: Any) -> None:  # of any driver
        driver_connection.terminate()

    @override
    def release(self, driver_connection: Any) -> None:  # of any driver
        transport = driver_connection._transport  # noqa: SLF001  # its loop is closed: no public way left
        with suppress(Exception):
            driver_connection.terminate()
        close_socket(transport)


class PsycopgBackend(PostgreSQLBackend):
    """PostgreSQL through psycopg 3."""

    extra = "psycopg"
    connect_limit = MappingProxyType({"connect_timeout": _CONNECT_S})
    direct = PsycopgDirect()

    @override
    def install(self, engine: AsyncEngine) -> None:
        super().install(engine)
        event.listen(engine.sync_engine, "connect", self._set_up)
        self._finish_anywhere(engine.sync_engine.dialect)

    def _set_up(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        driver: Any = connection.driver_connection
        end_pipelines(driver)
        if self.transaction_pooling:
            driver.prepare_threshold = None

    @override
    def opened_before(self, connection: DBAPIConnection) -> bool:
        end_pipelines(connection.driver_connection)
        return super().opened_before(connection)

    def _finish_anywhere(self, dialect: Dialect) -> None:
        """Let the pool give up a connection that is closed already where nothing can be waited for."""
        terminate = dialect.do_terminate

        def terminate_anywhere(dbapi_connection: DBAPIConnection) -> None:
            if in_greenlet() or not self.is_closed(dbapi_connection):
                terminate(dbapi_connection)
            else:
                self.release(cast("Any", dbapi_connection).driver_connection)

        dialect.do_terminate = terminate_anywhere  # type: ignore[method-assign]  # no event comes before it

    @override
    def is_lost(self, error: BaseException) -> bool:
        # libpq has only a text for why a connection could not be made, psycopg this class.
        cause = getattr(error, "orig", error)
        said = str(cause)
        wordless = type(cause).__name__ in _OF_CONNECTIONS and sqlstate_of(error) is None
        passes = _FATAL not in said or any(words in said for words in _IN_A_WHILE)
        return (wordless and passes) or super().is_lost(error)

    @override
    def is_closed(self, connection: DBAPIConnection) -> bool:
        # libpq looks at its socket only when it is asked to; what an idle server says is its end.
        driver = cast("Any", connection).driver_connection
        return driver.closed or _hears_the_end(driver.pgconn)

    @override
    def in_transaction(self, driver_connection: Any) -> bool:  # of any driver
        return driver_connection.info.transaction_status.name in {"ACTIVE", "INTRANS", "INERROR"}

    @override
    def has_failed_unseen(self, connection: DBAPIConnection) -> bool:
        driver: Any = connection.driver_connection
        return not driver.closed and driver.info.transaction_status.name == "INERROR"

    @override
    def sever(self, driver_connection: Any) -> None:  # of any driver
        with suppress(Exception), socket.socket(fileno=os.dup(driver_connection.fileno())) as line:
            shut_down(line)

    @override
    def release(self, driver_connection: Any) -> None:  # of any driver
        driver_connection.pgconn.finish()


@cache
def _looking_up_in_a_transaction(kind: Any) -> Any:  # noqa: ANN401  # a class of asyncpg's connections
    """Make a kind of connection that asks for unknown types in a transaction.

    The driver turns `jit` off meanwhile, and on again: behind a pooler, maybe in another session.
    """

    class Connection(kind):  # type: ignore[misc]  # asyncpg need not be installed
        __slots__ = ()
        unitwork_made_it = True

        async def _introspect_types(self, *arguments: Any) -> Any:  # noqa: ANN401  # the driver's own
            if self.is_in_transaction():
                return await super()._introspect_types(*arguments)
            async with self.transaction():
                return await super()._introspect_types(*arguments)

    return Connection


def _set_read_only(connection: LazyConnection, *, on: bool) -> None:
    """Let the next BEGIN say that nothing is written, or leave it out again."""
    dialect: Any = connection.dialect
    dialect.set_readonly(held_by(connection).dbapi_connection, on)


def sqlstate_of(error: BaseException) -> str | None:
    """Return the five-character SQLSTATE of an error, if the server sent one."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def _hears_the_end(libpq: Any) -> bool:  # noqa: ANN401  # a connection of libpq
    line = select.poll()
    line.register(libpq.socket, select.POLLIN)
    for _ in range(_LAST_WORDS):
        if not line.poll(0):
            return False
        try:
            libpq.consume_input()
        except Exception:  # noqa: BLE001  # of psycopg, which need not be installed
            return True
    return False


def _never_sent(error: BaseException) -> bool:
    """Say whether the driver itself has refused to use a connection that it knows to be closed or busy."""
    cause = getattr(error, "orig", None)
    asyncpg = type(getattr(cause, "__cause__", None)).__name__
    return asyncpg in _REFUSALS or str(cause) == _REFUSAL_OF_PSYCOPG
