"""This module lets one run of migrations at a time touch a database, and one this process's Alembic."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncConnection

    from unitwork.lifecycle import Lifecycle

__all__: list[str] = []

_WAIT_S = 3600
_POLL_S = 0.02
_POLL_DATABASE_S = 0.1
_NAME = "unitwork migrations"
_NUMBER = int.from_bytes(hashlib.sha256(_NAME.encode()).digest()[:8], signed=True)

# `alembic.context` belongs to the process; runs at the same time would exchange their environments.
_process = threading.Lock()


class ProcessLock:
    """Holds this process's Alembic, across tasks, threads and event loops."""

    async def __aenter__(self) -> None:
        while not _process.acquire(blocking=False):  # noqa: ASYNC110  # it is one of threads and of loops
            await asyncio.sleep(_POLL_S)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _process.release()


class DatabaseLock:
    """Holds the migrations of a database on one connection, also while that commits.

    PostgreSQL and MariaDB have locks for this; on SQLite the run is one transaction that writes, and
    waits for the others. There the checks of foreign keys are off meanwhile: rebuilding a table would
    delete what refers to it. Behind a pooler the lock is that of a transaction of its own, on a second
    connection, which stays open as long; who waits for it holds nothing meanwhile.
    """

    def __init__(self, connection: AsyncConnection, database: Lifecycle) -> None:
        self._connection = connection
        self._name = database.name
        self._dialect = connection.dialect.name
        self._pooled = database.source.backend.transaction_pooling
        self._transaction: AsyncConnection | None = None

    async def __aenter__(self) -> None:
        if self._pooled:
            self._transaction = await self._locked()
        elif self._dialect == "postgresql":
            await self._ask("SELECT pg_advisory_lock(:key)", key=_NUMBER)
        elif self._dialect in {"mysql", "mariadb"}:
            if await self._ask("SELECT GET_LOCK(:key, :wait)", key=self._key(), wait=_WAIT_S) != 1:
                raise TransactionRefusedError(
                    self._name,
                    f"Other migrations of database {self._name!r} have not ended within {_WAIT_S} s.",
                    "find out what holds them: SHOW PROCESSLIST.",
                )
        elif self._dialect == "sqlite":
            await self._pragma("foreign_keys=OFF", f"busy_timeout={_WAIT_S * 1000}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._connection.rollback()
            await self._release()
        except BaseException as failure:
            # Closing it frees the lock as well.
            await self._connection.invalidate()
            if self._transaction is not None:
                await self._transaction.invalidate()
                await self._transaction.close()
            if error is None:
                raise
            error.add_note(f"Releasing the lock of the migrations failed as well: {type(failure).__name__}.")

    async def _locked(self) -> AsyncConnection:
        """Return a connection whose transaction has the lock."""
        connection = await self._connection.engine.connect()
        try:
            while not await connection.scalar(
                text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _NUMBER}
            ):
                # Waiting in there, it would keep a connection of the server from whoever has the lock.
                await connection.rollback()
                await asyncio.sleep(_POLL_DATABASE_S)
            # It also lets go of what the question saw, for which CREATE INDEX CONCURRENTLY would wait.
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _release(self) -> None:
        if self._transaction is not None:
            await self._transaction.close()
        elif self._dialect == "postgresql":
            await self._ask("SELECT pg_advisory_unlock(:key)", key=_NUMBER)
        elif self._dialect in {"mysql", "mariadb"}:
            await self._ask("SELECT RELEASE_LOCK(:key)", key=self._key())
        elif self._dialect == "sqlite":
            await self._pragma("foreign_keys=ON", "busy_timeout=5000")

    async def _ask(self, statement: str, **values: object) -> object:
        found = await self._connection.scalar(text(statement), values)
        # Alembic begins its transactions itself. The lock is that of the connection, and stays.
        await self._connection.commit()
        return found

    async def _pragma(self, *pragmas: str) -> None:
        # Not through SQLAlchemy, which would begin a transaction, in which the first has no effect.
        driver: Any = (await self._connection.get_raw_connection()).driver_connection
        for pragma in pragmas:
            await (await driver.execute(f"PRAGMA {pragma}")).close()

    def _key(self) -> str:
        database = str(self._connection.engine.url.database)
        return f"{_NAME} {hashlib.sha256(database.encode()).hexdigest()[:32]}"
