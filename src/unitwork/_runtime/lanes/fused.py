"""This module is the fused lane: a statement in a block, on its connection, past the ORM's machinery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._runtime.lanes.loading import NeedsSession
from unitwork._runtime.sessions.guard import is_handed_out
from unitwork._runtime.transactions.frames import PhysicalTransaction
from unitwork.dialects.direct import UnreadableRowsError
from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from unitwork._runtime.lanes.express import Express
    from unitwork._runtime.lanes.trips import Addition, Call, Trip
    from unitwork._runtime.sessions.session import TurnedSession
    from unitwork.dialects.direct import Rows


class Fused:
    """The single statements in blocks of one Database. Lives: as long as its source.

    Each runs when it is the turn of its task in the session of the block.
    """

    def __init__(self, express: Express) -> None:
        self._express = express

    async def read(self, call: Call, session: TurnedSession) -> Sequence[Any] | None:
        """Return what becomes of the rows of a read; None if the session itself must do it."""
        if self._is_needed(session, call.identity):
            return None
        try:
            rows = await self._rows(call, session)
            return call.items(rows, session.holder() if rows and call.read.mapper is not None else None)
        except NeedsSession:
            return None

    async def insert(self, name: str, entity: object, session: TurnedSession) -> bool:
        """Insert a new entity, which the session holds then; say whether that could be done here."""
        session.check_new((entity,))
        try:
            addition = self._addition(name, entity, session, pending=False)
        except NeedsSession:
            return False
        return not self._is_needed(session, None) and await self._inserted(addition, session)

    async def flush(self, session: TurnedSession) -> bool:
        """Insert the only entity that waits in a session; say whether that could be done here."""
        held = session.held
        if held is None or len(held.new) != 1 or held.deleted:
            return False
        session.check_changes()
        (entity,) = held.new
        try:
            addition = self._addition("flush", entity, session, pending=True)
        except NeedsSession:
            return False
        if session.has_modified():
            return False
        held.expunge(entity)
        if not self._is_needed(session, None) and await self._inserted(addition, session):
            return True
        Session.add(held, entity)
        return False

    def _addition(self, name: str, entity: object, session: TurnedSession, *, pending: bool) -> Addition:
        # Only a flush of the ORM knows which of its entities a savepoint takes back.
        frame, held = session.turns.top, session.held
        if not isinstance(frame, PhysicalTransaction) or frame.idles:
            raise NeedsSession("no transaction block is open, or a savepoint")
        listener = self._express.session_listeners.of_flushes(held)
        if listener is not None:
            raise NeedsSession(listener)
        addition = self._express.addition(name, entity, pending=pending)
        known: Any = held.identity_map if held is not None else ()
        if addition.identity in known:
            raise NeedsSession("the session holds an entity with this key")
        return addition

    async def _inserted(self, addition: Addition, session: TurnedSession) -> bool:
        frame = cast("PhysicalTransaction", session.turns.top)
        return await self._express.claimed(addition.entity, self._insert(addition, session, frame))

    async def _insert(self, addition: Addition, session: TurnedSession, frame: PhysicalTransaction) -> bool:
        try:
            rows = await self._rows(addition, session)
            addition.insert.finish(addition.entity, addition.values, rows, session.holder())
        except NeedsSession:
            return False
        frame.inserted(addition.entity)
        return True

    def _is_needed(self, session: TurnedSession, identity: tuple[Any, ...] | None) -> bool:
        """Say whether the session has something to do first, to hear, or to answer by itself."""
        held = session.held
        if held is None:
            return False
        if not session.knows_nothing_of(identity):
            return True
        # A savepoint that was begun in there by hand is sent by the session alone.
        if session.turns.top is session.turns.top.root and held.in_nested_transaction():
            return True
        return self._express.session_listeners.of_reads(held) is not None

    async def _rows(self, trip: Trip, session: TurnedSession) -> Rows:
        session.check_statement(trip.statement)
        direct: Any = self._express.direct
        connection = session.turns.top.connection
        if connection is None or direct is None or not direct.in_transaction(_driver(connection)):
            return await greenlet_spawn(self._rows_of_first, trip, session)
        if self._are_heard_on(connection):
            raise NeedsSession("somebody listens to the connection")
        try:
            rows: Rows = await trip.rows(direct, _driver(connection))
        except NeedsSession:
            raise
        except BaseException as failure:
            await greenlet_spawn(self._fail, connection, trip, failure)
            raise
        return rows

    def _rows_of_first(self, trip: Trip, session: TurnedSession) -> Rows:
        """Send a statement before which SQLAlchemy may have to begin. In a greenlet."""
        connection = _connection(session)
        if self._are_heard_on(connection):
            raise NeedsSession("somebody listens to the connection")
        direct = self._express.direct
        if direct is None:
            result = connection.exec_driver_sql(trip.sql, trip.parameters)
            trip.described_by(result.cursor)
            return result.all() if result.returns_rows else ()
        try:
            if direct.in_transaction(_driver(connection)) or session.turns.top.mode.autocommit:
                return await_only(trip.rows(direct, _driver(connection)))
            return _rows_of_cursor(connection, trip)
        except NeedsSession:
            raise
        except BaseException as failure:
            self._fail(connection, trip, failure)
            raise

    def _are_heard_on(self, connection: Connection) -> bool:
        return is_handed_out(connection) and self._express.engine_listeners().are_on(connection)

    def _fail(self, connection: Connection, trip: Trip, failure: BaseException) -> None:
        """Fail as if SQLAlchemy had sent it: its class of error, its events, what becomes of the block."""
        error = failure.__cause__ or failure if isinstance(failure, UnreadableRowsError) else failure
        if self._express.direct is not None and not isinstance(error, Exception):
            await_only(self._express.direct.stopped(_driver(connection)))
        try:
            run_on_driver(connection, Failed(trip.sql, error), trip.parameters)
        except Exception:
            # A driver may have closed what was cancelled, and says only that.
            if isinstance(error, Exception):
                raise


def _driver(connection: Connection) -> Any:  # noqa: ANN401  # of any driver
    return connection.connection.driver_connection


def _connection(session: TurnedSession) -> Connection:
    """Return the connection of the block, or of a savepoint, which must be begun on it."""
    frame = session.turns.top
    if frame is frame.root and not frame.idles:
        return frame.connection or session.acquired(frame)
    return Session.connection(session.sync_session)


def _rows_of_cursor(connection: Connection, trip: Trip) -> Rows:
    """Ask through the cursor that SQLAlchemy gives the driver, which sends BEGIN before it."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(trip.sql, trip.parameters or ())
        trip.described_by(cursor)
        return cursor.fetchall() if cursor.description else ()
    finally:
        cursor.close()
