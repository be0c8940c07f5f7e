"""This module is the driver lane: single statements outside of transactions, past SQLAlchemy's cursors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import greenlet_spawn

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.connections.addresses import server_of
from unitwork._runtime.connections.holders import Visitor
from unitwork._runtime.connections.loop_engine import LoopEngine
from unitwork._runtime.lanes.sending import (
    CameLateError,
    changed_by_listeners,
    end_cancelled,
    fail_as_sqlalchemy,
    rows_alone,
    told_stored,
)
from unitwork.dialects import BeginMode
from unitwork.dialects.direct import UnreadableRowsError
from unitwork.dialects.orders import Announced, run_on_driver
from unitwork.errors import AfterCommitError, CommitOutcomeUnknownError
from unitwork.options import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sqlalchemy.orm import Session
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from unitwork._runtime.lanes.calls import Call
    from unitwork._runtime.lanes.compiled import CompiledStatements
    from unitwork._runtime.lanes.inserts import InsertCall
    from unitwork._runtime.lanes.needs import Connections, FrameAccess, SessionAccess
    from unitwork._runtime.lanes.reads import ReadCall
    from unitwork._runtime.lanes.sending import StatementToSend
    from unitwork.dialects.direct import Rows

_BY_ITSELF = BeginMode(autocommit=True)

_UNKNOWN_DRIVER = LaneRefusal("the driver is not known well enough")
_ONE_CONNECTION = LaneRefusal("all share one connection")
_SESSION_IS_ASKED = LaneRefusal("the session has changes, or the entity")
_NOT_CONNECTED = LaneRefusal("no connection could be opened")
_DEAD = LaneRefusal("the connection is dead")
_BEGUN = LaneRefusal("somebody has begun a transaction on the connection that the pool gives")
_UNREADABLE = LaneRefusal("its rows cannot be read")
_FAILED = LaneRefusal("it failed")
_HEARD = LaneRefusal("somebody listens to what is sent, and may send more")
_LIMITED = LaneRefusal("the database is told its time limit")


class _Visit(NamedTuple):
    """A connection that one statement has, and what messages say of where that was."""

    home: LoopEngine
    held: PoolProxiedConnection
    place: str


class DriverLane:
    """The statements that commit by themselves, of one Database. Lives: as long as its lanes."""

    lane = Lane.DRIVER

    def __init__(self, connections: Connections, statements: CompiledStatements) -> None:
        self._connections = connections
        self._statements = statements
        self._watch = connections.watch

    def obstacle(self) -> LaneRefusal | None:
        """Say why nothing of this Database goes this way, if so."""
        if self._connections.backend.direct is None:
            return _UNKNOWN_DRIVER
        if isinstance(self._connections.home().engine.pool, StaticPool):
            return _ONE_CONNECTION
        return None

    async def read(self, read: ReadCall, unit: FrameAccess | None) -> Sequence[Any] | LaneRefusal:
        """Return what becomes of the rows of a read.

        Args:
            read: What to send.
            unit: The unit of work at rest whose session holds the entities; no connection is held after it.

        Raises:
            sqlalchemy.exc.DBAPIError: It failed, as it would with SQLAlchemy.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        if unit is None or not await _turn(unit):
            rows = await self._rows(read, read.name)
            return rows if isinstance(rows, LaneRefusal) else read.items(rows, None)
        return await self._read_at_rest(read, unit)

    async def read_for_session(self, read: ReadCall, unit: FrameAccess) -> Sequence[Any] | LaneRefusal:
        """As `read`, for the session of a unit itself, which must hold what it is asked for."""
        if not await _turn(unit):
            return _SESSION_IS_ASKED
        return await self._read_at_rest(read, unit)

    async def _read_at_rest(self, read: ReadCall, unit: FrameAccess) -> Sequence[Any] | LaneRefusal:
        session = unit.session
        try:
            refusal = self._why_not_in(session, unit, read.identity)
            rows = refusal or await self._rows(read.held_by(session), unit.owner)
            if isinstance(rows, LaneRefusal):
                return rows
            return read.items(rows, session.holder() if read.read.mapper is not None else None)
        finally:
            session.turns.give()

    async def insert(
        self, name: str, entity: object, unit: FrameAccess | None
    ) -> InsertCall | LaneRefusal | None:
        """Insert one new entity; it commits with its statement. What fails is left to the session.

        Return None if it is inserted; else why it is not, or what knows what Python has filled in.

        Raises:
            CommitOutcomeUnknownError: The connection was lost meanwhile.
            sqlalchemy.exc.DBAPIError: The database was locked for too long.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        insert = self._statements.insert(name, entity)
        if isinstance(insert, LaneRefusal):
            return insert
        if self._connections.home().listeners.of_cursors:
            return _HEARD
        claim = self._statements.claim(entity)
        try:
            refusal = await self._insert(insert, unit)
        finally:
            self._statements.release(claim)
        return refusal and insert

    async def _insert(self, insert: InsertCall, unit: FrameAccess | None) -> LaneRefusal | None:
        if unit is None or not await _turn(unit):
            return await self._stored(insert, insert.name, None)
        session = unit.session
        try:
            refusal = self._why_not_in(session, unit, None)
            if refusal is None and session.held is not None:
                refusal = self._statements.session_listeners.of_flushes(session.held)
            return refusal or await self._stored(insert, unit.owner, session.holder())
        finally:
            session.turns.give()

    async def change(self, name: str, call: Call, unit: FrameAccess | None) -> int | LaneRefusal:
        """Run an UPDATE or DELETE that commits by itself, and return how many rows it has touched.

        What fails is left to the session, and what entities in there would have to know of.

        Raises:
            CommitOutcomeUnknownError: The connection was lost meanwhile.
            sqlalchemy.exc.DBAPIError: The database was locked for too long.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        change = self._statements.change(name, call)
        if isinstance(change, LaneRefusal):
            return change
        direct: Any = self._connections.backend.direct
        if not direct.counts:
            return _UNKNOWN_DRIVER
        if self._connections.home().listeners.of_cursors:
            return _HEARD
        if unit is None or not await _turn(unit):
            return await self._changed(change, name)
        session = unit.session
        try:
            refusal = self._why_not_in(session, unit, None)
            if refusal is None and session.held is not None and session.held.identity_map:
                refusal = _SESSION_IS_ASKED  # its entities are to know of it
            return refusal or await self._changed(change, unit.owner)
        finally:
            session.turns.give()

    async def _changed(self, change: StatementToSend, place: str) -> int | LaneRefusal:
        try:
            rows = await self._written(change, place)
        except CameLateError as late:
            raise late.told from None
        return rows if isinstance(rows, LaneRefusal) else len(rows)

    async def _written(self, statement: StatementToSend, place: str) -> Rows | LaneRefusal:
        """Send what writes, in its turn where one at a time may."""
        gate = self._connections.write_gate()
        if gate is None:
            return await self._rows(statement, place)
        await gate.enter(statement, statement.name, self._connections.watch)
        try:
            return await self._rows(statement, place)
        finally:
            gate.leave(statement)

    async def _stored(self, insert: InsertCall, place: str, session: Session | None) -> LaneRefusal | None:
        told: AfterCommitError | None = None
        try:
            rows = self._statements.fill_in(insert) or await self._written(insert, place)
        except CameLateError as late:
            rows, told = late.rows, late.told
        if isinstance(rows, LaneRefusal):
            return rows
        try:
            refusal = insert.finish(rows, session)
        except Exception as error:  # noqa: BLE001  # raised again, with a note
            raise told_stored(error) from None
        if told is not None:
            raise told
        return refusal

    def _why_not_in(
        self, session: SessionAccess, unit: FrameAccess, identity: tuple[Any, ...] | None
    ) -> LaneRefusal | None:
        """Say why the session of a unit must do it itself, if so. In its turn."""
        if unit.current.transactional or not session.knows_nothing_of(identity):
            return _SESSION_IS_ASKED
        if self._connections.backend.limits_statements and session.limits_here():
            return _LIMITED
        held = session.held
        return None if held is None else self._statements.session_listeners.of_reads(held)

    # -- one check-out -----------------------------------------------------------------------------

    async def _rows(self, statement: StatementToSend, place: str) -> Rows | LaneRefusal:
        """Check a connection out, send one statement, and check it in; messages say in which place it was."""
        if statement.needs_primary:
            return await self._rows_at(self._connections.home(), statement, place)
        while True:
            server = self._connections.place_for_read()
            home = server if isinstance(server, LoopEngine) else await server
            try:
                return await self._rows_at(home, statement, place)
            except DBAPIError as error:
                if not (error.connection_invalidated and self._connections.lost(home, error)):
                    raise

    async def _rows_at(self, home: LoopEngine, statement: StatementToSend, place: str) -> Rows | LaneRefusal:
        lender = home.lender()
        held: Any = lender.idle() if home.listeners.of_cursors else lender.lend()  # wrapped, or not
        if held is None:
            held = await greenlet_spawn(self._connected, lender.pool, statement)
            if isinstance(held, LaneRefusal):
                return held
        visit = _Visit(home, held, place)
        if home.listeners.of_cursors:
            return await greenlet_spawn(self._rows_announced, visit, statement)
        home.held[held] = Visitor(statement.name, statement.sql)
        sent = statement
        try:
            rows = found = await self._sent(sent, visit)
            while (following := sent.following(found)) is not None:
                sent = following
                home.held[held] = Visitor(sent.name, sent.sql)
                found = await self._sent(sent, visit)
        except BaseException as error:
            visit = _Visit(home, lender.wrapped(held), place)
            refusal = await greenlet_spawn(self._failed, visit, sent, error)
            if refusal is None:
                raise
            return refusal
        finally:
            del home.held[held]
        self._connections.used(home, wrote=statement.writes)
        if not lender.take_back(held):
            await self._give_back(lender.wrapped(held), rows, statement)
        return rows

    async def _give_back(self, held: Any, rows: Rows | LaneRefusal, sent: StatementToSend) -> None:  # noqa: ANN401  # wrapped
        try:
            await greenlet_spawn(held.close)
        except Exception as error:
            if isinstance(rows, LaneRefusal) or not sent.writes:
                raise
            raise CameLateError(rows, AfterCommitError(self._connections.name, [error])) from None

    def _sent(self, statement: StatementToSend, visit: _Visit) -> Awaitable[Rows | LaneRefusal]:
        """Send one statement, and tell those who watch."""
        direct: Any = self._connections.backend.direct
        sending = rows_alone(statement, direct, visit.held, visit.home.prepared)
        if not self._watch.active:
            return sending
        server = server_of(visit.home.engine.sync_engine, visit.held.info)
        return self._watch.statements.sent(statement.sql, self.lane, server, sending)

    def _connected(self, pool: Pool, statement: StatementToSend) -> PoolProxiedConnection | LaneRefusal:
        direct: Any = self._connections.backend.direct
        try:
            held = pool.connect()
        except PoolTimeoutError as error:
            error.add_note(self._connections.holders())
            raise
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return _NOT_CONNECTED
        if direct.is_broken(held.driver_connection):
            held.invalidate()
            return _DEAD
        if statement.writes and direct.in_transaction(held.driver_connection):
            # A listener of the pool has sent something: what is written now would be undone at the check-in.
            held.close()
            return _BEGUN
        return held

    def _rows_announced(self, visit: _Visit, statement: StatementToSend) -> Rows | LaneRefusal:
        """Send a read so that whoever listens to SQLAlchemy's cursors hears of it. In a greenlet."""
        home, held = visit.home, visit.held
        direct: Any = self._connections.backend.direct
        found: list[Rows | LaneRefusal] = []
        sent = statement

        async def send(sql: str, parameters: Any) -> int | None:  # noqa: ANN401  # of any driver
            changed = changed_by_listeners(sent, sql, parameters)
            try:
                rows = await rows_alone(changed, direct, held, home.prepared)
            except BaseException as error:
                if not isinstance(error, Exception):
                    await direct.stopped(held.driver_connection)
                raise
            found.append(rows)
            return None if isinstance(rows, LaneRefusal) else len(rows)

        connection = Connection(home.engine.sync_engine, held)
        home.held[connection] = Visitor(sent.name, sent.sql)
        try:
            # What a listener sends by itself commits by itself, too.
            connection.execution_options(**self._connections.backend.execution_options(_BY_ITSELF))
            run_on_driver(connection, Announced(sent.sql, send), sent.parameters, self.lane)
            while (following := sent.following(found[-1])) is not None:
                sent = following
                home.held[connection] = Visitor(sent.name, sent.sql)
                run_on_driver(connection, Announced(sent.sql, send), sent.parameters, self.lane)
        except BaseException as error:
            if isinstance(error, UnreadableRowsError):
                return _UNREADABLE
            if isinstance(error, DBAPIError):
                error.add_note(f"In {visit.place} on database {self._connections.name!r}.")
            raise
        finally:
            del home.held[connection]
            connection.close()
        self._connections.used(home, wrote=False)
        return found[0]

    def _failed(self, visit: _Visit, statement: StatementToSend, error: BaseException) -> LaneRefusal | None:
        """Return a connection whose statement failed, or discard it; raise what is to be heard instead.

        Most fail as if SQLAlchemy had sent them. A new entity is left to the session, which tells what is
        wrong with it, unless it has waited in vain and would do so again.
        """
        direct: Any = self._connections.backend.direct
        held = visit.held
        if statement.writes:
            self._connections.used(visit.home, wrote=True)  # for all that is known
        if not isinstance(error, Exception):
            end_cancelled(held, direct, error)
            return None
        if isinstance(error, UnreadableRowsError):
            held.close()
            if statement.writes:
                raise told_stored(error.__cause__) from None
            return _UNREADABLE
        # A time limit of the driver's own says nothing of what the server does.
        lost = isinstance(error, OSError) or direct.is_broken(held.driver_connection)
        if lost and statement.writes:
            held.invalidate(error)
            raise CommitOutcomeUnknownError(self._connections.name, statement.name) from error
        if not statement.adds or direct.gave_up(error):
            self._tell(visit, statement, error)
        held.close()
        return _FAILED

    def _tell(self, visit: _Visit, statement: StatementToSend, error: Exception) -> None:
        """Let SQLAlchemy raise it: its class of error, its events, what becomes of the connection."""
        connection = Connection(visit.home.engine.sync_engine, visit.held)
        backend = self._connections.backend
        if not backend.begins_silently:
            connection.execution_options(**backend.execution_options(_BY_ITSELF))
        try:
            fail_as_sqlalchemy(connection, statement, error, backend.direct)
        except DBAPIError as failure:
            failure.add_note(f"In {visit.place} on database {self._connections.name!r}.")
            raise
        finally:
            connection.close()


async def _turn(unit: FrameAccess) -> bool:
    """Take the turn of a unit at rest; a block of another task that covers it is not waited for."""
    unit.admit()
    return await unit.session.turns.take_at_rest(unit)
