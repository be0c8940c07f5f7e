"""This module holds what MariaDB and MySQL need."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from unitwork._logic.sql.shown import LIMIT
from unitwork.dialects.at_rest import BEGIN, keep_at_rest, may_be_open, put_to_rest
from unitwork.dialects.backend import Backend, BeginMode, Fault, close_socket, shut_down
from unitwork.dialects.mysql_driver import MySQLDirect, code_of, is_at_rest, is_closed, transport_of
from unitwork.dialects.replication import MariaDBReplication

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

_READ_ONLY = "START TRANSACTION READ ONLY"
_DEADLOCK = 1213
_LOCK_TIMEOUT = 1205
_STATEMENT_TIMEOUTS = frozenset({1969, 3024})
_LOST = frozenset({1180})
# No server that answers, one that is not ready or shutting down, a connection that was killed or given up.
_AWAY = frozenset({2002, 2003, 2006, 2013, 2055, 1040, 1047, 1053, 1927, 4031})
_NO_SAVEPOINT = 1305
_READ_ONLY_SERVER = 1290
# Read-only; not prepared yet, or no longer, in a Galera cluster; shutting down.
_NO_WRITES = frozenset({1836, 1047, 1053})


class MySQLBackend(Backend):
    """MariaDB and MySQL through asyncmy or aiomysql."""

    direct = MySQLDirect()
    begins_silently = False
    replication = MariaDBReplication()
    connect_limit = MappingProxyType({"connect_timeout": 3})
    limits_statements = True
    may_end_inside = True
    one_result_at_a_time = True

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        # The extra installs asyncmy alone.
        self.extra = "mysql" if url.drivername.endswith("+asyncmy") else ""

    @override
    def install(self, engine: AsyncEngine) -> None:
        keep_at_rest(engine.sync_engine)
        self.serve(engine)
        dialect: Any = engine.sync_engine.dialect
        compiler = dialect.statement_compiler
        if not issubclass(
            compiler, _EmptyLists
        ):  # the dialect of an engine with options is that of the engine
            dialect.statement_compiler = type("Compiler", (_EmptyLists, compiler), {})

    @override
    def opened_before(self, connection: DBAPIConnection) -> bool:
        connection.rollback()  # AUTOCOMMIT would commit what is open
        put_to_rest(connection)
        return is_at_rest(connection.driver_connection)

    @override
    def execution_options(self, mode: BeginMode) -> Mapping[str, Any]:
        if mode.autocommit:
            return {BEGIN: None}
        options = super().execution_options(mode)
        return {**options, BEGIN: _READ_ONLY} if mode.read_only else options

    @override
    def mode_of(self, options: Mapping[str, Any]) -> BeginMode:
        alone = super().mode_of(options).autocommit or options.get(BEGIN, "") is None
        return BeginMode(autocommit=alone, read_only=options.get(BEGIN) == _READ_ONLY)

    @override
    def in_transaction(self, driver_connection: Any) -> bool:  # of any driver
        return may_be_open(driver_connection)

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
        return is_closed(cast("Any", connection).driver_connection)

    @override
    def takes_no_writes(self, error: BaseException) -> bool:
        code = code_of(getattr(error, "orig", error))
        # This code is that of all options that forbid something.
        return code in _NO_WRITES or (code == _READ_ONLY_SERVER and "read-only" in str(error))

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
            shut_down(transport_of(driver_connection).get_extra_info("socket"))

    @override
    def release(self, driver_connection: Any) -> None:  # of any driver
        transport = transport_of(driver_connection)
        with suppress(Exception):
            driver_connection.close()
        close_socket(transport)


def _never_sent(error: BaseException) -> bool:
    """Say whether the driver itself has refused to use a connection that it knows to be closed."""
    cause: Any = getattr(error, "orig", None)
    return type(cause).__name__ == "InterfaceError" and any(cause.args[1:])


class _EmptyLists:
    """A compiler whose empty lists fit any type; MariaDB compares no UUID with SQLAlchemy's numbers."""

    def visit_empty_set_expr(self, element_types: list[object], **_more: Any) -> str:
        """Return a SELECT of no rows, with as many columns as the items of the list."""
        nothing = ", ".join("NULL" for _type in element_types)
        return f"SELECT {nothing} FROM (SELECT 1) AS _empty_set WHERE 1!=1"  # noqa: S608  # no values
