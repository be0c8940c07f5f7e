"""This module takes single statements to connections of the pool, past SQLAlchemy's cursors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._runtime.lanes.loading import NeedsSession
from unitwork.dialects import BeginMode
from unitwork.dialects.direct import UnreadableRowsError
from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from unitwork._runtime.lanes.trips import Trip
    from unitwork._runtime.source import Source
    from unitwork.dialects.direct import Direct, Rows

_BY_ITSELF = BeginMode(autocommit=True)


class ConnectionLostError(Exception):
    """The connection broke while a statement was under way."""


class Visit(NamedTuple):
    """One statement that has a connection of the pool now."""

    trip: Trip
    since: float


class Visits:
    """The visits to the pool of one Database. Lives: as long as its source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.open: dict[PoolProxiedConnection, Visit] = {}

    async def rows(self, trip: Trip, *, reads: bool) -> Rows:
        """Check a connection out, send one statement, and check it in.

        Args:
            trip: What to send.
            reads: It fails as if SQLAlchemy had sent it; else with the error of the driver, unless that has
                waited in vain and would do so again.

        Raises:
            NeedsSession: Nothing was sent, or what came cannot be understood.
            ConnectionLostError: It was lost meanwhile, and something may be written.
            sqlalchemy.exc.DBAPIError: A read failed, or the database was locked for too long.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        direct: Any = self._source.backend.direct
        lender = self._source.home().lender(direct)
        held = lender.idle()
        if held is None:
            held = await greenlet_spawn(self._connected, lender.pool)
        self.open[held] = Visit(trip, time.monotonic())
        try:
            rows = await trip.rows(direct, held.driver_connection)
        except BaseException as error:
            await greenlet_spawn(self._failed, held, trip, error, reads)
            raise
        finally:
            del self.open[held]
        if not lender.take_back(held):
            await greenlet_spawn(held.close)
        return rows

    def _connected(self, pool: Pool) -> PoolProxiedConnection:
        direct: Any = self._source.backend.direct
        try:
            held = pool.connect()
        except PoolTimeoutError as error:
            error.add_note(self._source.holders())
            raise
        except Exception as error:
            raise NeedsSession("no connection could be opened") from error
        if direct.is_broken(held.driver_connection):
            held.invalidate()
            raise NeedsSession("the connection is dead")
        return held

    def _failed(
        self,
        held: PoolProxiedConnection,
        trip: Trip,
        error: BaseException,
        reads: bool,  # noqa: FBT001  # greenlets take no keywords
    ) -> None:
        """Return a connection whose statement failed, or discard it; raise what is to be heard instead."""
        direct: Any = self._source.backend.direct
        if isinstance(error, NeedsSession):
            held.close()
        elif isinstance(error, UnreadableRowsError):
            held.close()
            if reads:
                raise NeedsSession("its rows cannot be read") from error
        elif isinstance(error, Exception):
            if reads or direct.gave_up(error):
                self._fail(Connection(self._source.home_engine().sync_engine, held), trip, error)
            _end_failed(held, direct, error)
        else:
            _end_cancelled(held, direct, error)

    def _fail(self, connection: Connection, trip: Trip, error: Exception) -> None:
        """Let SQLAlchemy tell of it: its class of error, its events, and what becomes of the connection."""
        backend = self._source.backend
        if not backend.begins_silently:
            connection.execution_options(**backend.execution_options(_BY_ITSELF))
        try:
            run_on_driver(connection, Failed(trip.sql, error), trip.parameters)
        except DBAPIError as failure:
            failure.add_note(f"In {trip.name} on database {self._source.name!r}.")
            raise
        finally:
            connection.close()


def _end_failed(held: PoolProxiedConnection, direct: Direct, error: Exception) -> None:
    """Return a connection whose statement failed, or discard it, and say that it was lost."""
    # A time limit of the driver's own says nothing of what the server does.
    if not isinstance(error, OSError) and not direct.is_broken(held.driver_connection):
        held.close()
        return
    held.invalidate(error)
    raise ConnectionLostError from error


def _end_cancelled(held: PoolProxiedConnection, direct: Direct, error: BaseException) -> None:
    """Return a connection whose statement was stopped, or discard it. In a greenlet."""
    driver = held.driver_connection
    if await_only(direct.stopped(driver)) and not direct.is_broken(driver):
        held.close()
    else:
        held.invalidate(error)
