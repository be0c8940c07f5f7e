"""This module holds what PostgreSQL needs, through asyncpg and psycopg alike."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from unitwork.dialects.backend import Backend, BeginMode, close_socket
from unitwork.dialects.direct import AsyncpgDirect, PsycopgDirect
from unitwork.options import Isolation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

_QUERY_CANCELED = "57014"
# Serialization failure, deadlock, lock not available.
_RETRYABLE = frozenset({"40001", "40P01", "55P03"})
_LONGEST_MS = 2_147_483_647


class PostgreSQLBackend(Backend):
    """PostgreSQL: read-only and isolation ride on BEGIN, and cost no round trip."""

    plain_is_silent = True
    deferred_exist = "SELECT EXISTS (SELECT FROM pg_constraint WHERE condeferred)"
    check_deferred = (
        "SAVEPOINT unitwork_check",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "ROLLBACK TO SAVEPOINT unitwork_check",
        "RELEASE SAVEPOINT unitwork_check",
    )

    @override
    def execution_options(self, mode: BeginMode) -> Mapping[str, Any]:
        if mode.isolation is Isolation.READ_UNCOMMITTED:
            # PostgreSQL gives the stronger one; asyncpg does not know the name.
            mode = replace(mode, isolation=Isolation.READ_COMMITTED)
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
        return replace(super().mode_of(options), read_only=read_only)

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
    def is_retryable(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and sqlstate_of(error) in _RETRYABLE

    @override
    def is_timeout(self, error: BaseException) -> bool:
        return isinstance(error, DBAPIError) and sqlstate_of(error) == _QUERY_CANCELED


class AsyncpgBackend(PostgreSQLBackend):
    """PostgreSQL through asyncpg."""

    extra = "asyncpg"
    direct = AsyncpgDirect()

    @override
    def in_transaction(self, driver_connection: Any) -> bool:  # of any driver
        inside: bool = driver_connection.is_in_transaction()
        return inside

    @override
    def release(self, driver_connection: Any) -> None:  # of any driver
        transport = driver_connection._transport  # noqa: SLF001  # its loop is closed: no public way left
        with suppress(Exception):
            driver_connection.terminate()
        close_socket(transport)


class PsycopgBackend(PostgreSQLBackend):
    """PostgreSQL through psycopg 3."""

    extra = "psycopg"
    direct = PsycopgDirect()

    @override
    def in_transaction(self, driver_connection: Any) -> bool:  # of any driver
        return driver_connection.info.transaction_status.name in {"ACTIVE", "INTRANS", "INERROR"}

    @override
    def release(self, driver_connection: Any) -> None:  # of any driver
        driver_connection.pgconn.finish()


def sqlstate_of(error: DBAPIError) -> str | None:
    """Return the five-character SQLSTATE of an error, if the server sent one."""
    return getattr(error.orig, "sqlstate", None)


def _never_sent(error: BaseException) -> bool:
    # asyncpg's InterfaceError is its own refusal to use a connection that it knows to be closed.
    cause = getattr(error, "orig", None)
    return type(getattr(cause, "__cause__", None)).__name__ == "InterfaceError"
