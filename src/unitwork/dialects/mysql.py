"""This module holds what MariaDB and MySQL need."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from unitwork._logic.sql.shown import LIMIT
from unitwork.dialects.backend import LENT, Backend, BeginMode, Fault, close_socket, shut_down
from unitwork.dialects.replication import MariaDBReplication

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

_READ_ONLY = "unitwork_read_only"
_DEADLOCK = 1213
_LOCK_TIMEOUT = 1205
_STATEMENT_TIMEOUTS = frozenset({1969, 3024})
_LOST = frozenset({1180})
# No server that answers, one that is not ready or shutting down, a connection that was killed or given up.
_AWAY = frozenset({2002, 2003, 2006, 2013, 2055, 1040, 1047, 1053, 1927, 4031})
_NO_SAVEPOINT = 1305
_READ_ONLY_SERVER = 1290
_UNREACHABLE = frozenset({2002, 2003, 2006, 2013})
# Read-only; not prepared yet, or no longer, in a Galera cluster; shutting down.
_NO_WRITES = frozenset({1836, 1047, 1053})


class MySQLBackend(Backend):
    """MariaDB and MySQL through asyncmy or aiomysql."""

    replication = MariaDBReplication()
    connect_limit = MappingProxyType({"connect_timeout": 3})
    limits_statements = True
    begin_held = "START TRANSACTION"
    one_result_at_a_time = True

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        # The extra installs asyncmy alone.
        self.extra = "mysql" if url.drivername.endswith("+asyncmy") else ""

    @override
    def install(self, engine: AsyncEngine) -> None:
        event.listen(engine.sync_engine, "begin", _begin)
        dialect: Any = engine.sync_engine.dialect
        compiler = dialect.statement_compiler
        if not issubclass(
            compiler, _EmptyLists
        ):  # the dialect of an engine with options is that of the engine
            dialect.statement_compiler = type("Compiler", (_EmptyLists, compiler), {})

    @override
    def execution_options(self, mode: BeginMode) -> Mapping[str, Any]:
        options = super().execution_options(mode)
        if mode.read_only and not mode.autocommit:
            return {**options, _READ_ONLY: True}
        return options

    @override
    def mode_of(self, options: Mapping[str, Any]) -> BeginMode:
        return replace(super().mode_of(options), read_only=bool(options.get(_READ_ONLY)))

    @override
    def savepoint_is_gone(self, error: BaseException) -> bool:
        return code_of(error) == _NO_SAVEPOINT

    @override
    def fault_of(self, context: ExceptionContext) -> Fault:
        # After a deadlock the connection lives on in a new transaction: what follows would be half.
        if code_of(context.original_exception) in {_DEADLOCK, *_LOST}:
            return Fault.TRANSACTION
        return super().fault_of(context)

    @override
    def limited(self, connection: Connection, statement: str, seconds: float) -> str:
        # A cancelled query would run on in the server. MySQL has no such prefix.
        if not getattr(connection.dialect, "is_mariadb", False):
            return statement
        return f"{LIMIT}{max(seconds, 0.001):.3f} FOR {statement}"

    @override
    def is_closed(self, connection: DBAPIConnection) -> bool:
        driver = cast("Any", connection).driver_connection
        if hasattr(driver, "connected"):  # asyncmy
            transport = driver._transport  # noqa: SLF001  # where it hears that the server has hung up
            return transport is None or transport.is_closing() or not driver.connected
        reader = driver._reader  # noqa: SLF001  # aiomysql, as its own pool looks
        return driver.closed or reader.at_eof() or reader.exception() is not None

    @override
    def takes_no_writes(self, error: BaseException) -> bool:
        code = code_of(getattr(error, "orig", error))
        # This code is that of all options that forbid something.
        return code in _NO_WRITES or (code == _READ_ONLY_SERVER and "read-only" in str(error))

    @override
    def is_unreachable(self, error: BaseException) -> bool:
        return super().is_unreachable(error) or code_of(getattr(error, "orig", error)) in _UNREACHABLE

    @override
    def may_be_stored(self, error: BaseException) -> bool:
        return super().may_be_stored(error) and not _never_sent(error)

    @override
    def is_retryable(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and code_of(error.orig) in {_DEADLOCK, _LOCK_TIMEOUT}

    @override
    def is_lost(self, error: BaseException) -> bool:
        return super().is_lost(error) or code_of(getattr(error, "orig", error)) in _AWAY

    @override
    def is_timeout(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and code_of(error.orig) in _STATEMENT_TIMEOUTS

    @override
    def sever(self, driver_connection: Any) -> None:  # of any driver
        with suppress(Exception):
            shut_down(_transport_of(driver_connection).get_extra_info("socket"))

    @override
    def release(self, driver_connection: Any) -> None:  # of any driver
        transport = _transport_of(driver_connection)
        with suppress(Exception):
            driver_connection.close()
        close_socket(transport)


def _transport_of(driver_connection: Any) -> Any:  # noqa: ANN401  # of asyncmy, or of aiomysql
    """Return what asyncio sends the bytes of a connection with: the drivers have no public way to it."""
    transport = getattr(driver_connection, "_transport", None)
    return driver_connection._writer.transport if transport is None else transport  # noqa: SLF001  # see above


def code_of(error: BaseException | None) -> int | None:
    """Return the server's error number."""
    arguments = error.args if error is not None else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _never_sent(error: BaseException) -> bool:
    """Say whether the driver itself has refused to use a connection that it knows to be closed."""
    cause: Any = getattr(error, "orig", None)
    return type(cause).__name__ == "InterfaceError" and any(cause.args[1:])


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_READ_ONLY) and LENT not in options:
        connection.exec_driver_sql("START TRANSACTION READ ONLY")


class _EmptyLists:
    """A compiler whose empty lists fit any type; MariaDB compares no UUID with SQLAlchemy's numbers."""

    def visit_empty_set_expr(self, element_types: list[object], **_more: Any) -> str:
        """Return a SELECT of no rows, with as many columns as the items of the list."""
        nothing = ", ".join("NULL" for _type in element_types)
        return f"SELECT {nothing} FROM (SELECT 1) AS _empty_set WHERE 1!=1"  # noqa: S608  # no values
