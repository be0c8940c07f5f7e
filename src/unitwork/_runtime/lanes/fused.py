"""This module is the fused lane: a statement in a block, on its connection, past the ORM's machinery."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._logic.routing import LaneRefusal
from unitwork._logic.writes import runs_others
from unitwork._runtime.connections.addresses import server_of_connection
from unitwork._runtime.lanes.sending import (
    fail_as_sqlalchemy,
    first_rows,
    rows_alone,
    rows_of_cursor,
    rows_renewed,
    times,
)
from unitwork._sqlalchemy.lazy import held_by
from unitwork._sqlalchemy.private import fail_flush, heard_of_schema
from unitwork.dialects.direct import numbers
from unitwork.dialects.orders import LANE
from unitwork.options import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sqlalchemy import Connection

    from unitwork._runtime.lanes.changes import ChangeCall
    from unitwork._runtime.lanes.compiled import CompiledStatements
    from unitwork._runtime.lanes.flushes import Flush
    from unitwork._runtime.lanes.inserts import InsertCall
    from unitwork._runtime.lanes.needs import Connections, FrameAccess, SessionAccess, TransactionAccess
    from unitwork._runtime.lanes.reads import ReadCall
    from unitwork._runtime.lanes.sending import StatementToSend
    from unitwork.dialects.direct import Direct, Rows

_SESSION_IS_ASKED = LaneRefusal("the session has changes, or the entity")
_SAVEPOINT_BY_HAND = LaneRefusal("a savepoint was begun by hand")
_NO_BLOCK = LaneRefusal("no transaction block is open")
_DOES_NOT_COUNT = LaneRefusal("the driver does not tell how many rows have changed")
_CONNECTION_IS_HEARD = LaneRefusal("somebody listens to the connection")


class FusedLane:
    """The single statements in blocks of one Database. Lives: as long as its lanes.

    Each runs when it is the turn of its task in the session of the block.
    """

    lane = Lane.FUSED

    def __init__(self, connections: Connections, statements: CompiledStatements) -> None:
        self._connections = connections
        self._statements = statements
        self._watch = connections.watch

    async def read(self, read: ReadCall, session: SessionAccess) -> Sequence[Any] | LaneRefusal:
        """Return what becomes of the rows of a read; an entity that the session has is not read again."""
        mapper = read.read.mapper
        if read.identity is not None and mapper is not None:
            known = session.known(read.identity, mapper.class_)
            if known is not None:
                return [known]
        refusal = self._why_not_in(session, read.identity)
        rows = refusal or await self._rows(read.held_by(session), session)
        following = read.following(rows)
        while following is not None:
            following = following.following(await self._rows(following, session))
        if isinstance(rows, LaneRefusal):
            return rows
        return read.items(rows, session.holder() if rows and mapper is not None else None)

    async def insert(
        self, name: str, entity: object, session: SessionAccess, before: InsertCall | None = None
    ) -> LaneRefusal | None:
        """Insert a new entity, which the session holds then.

        Args:
            name: What inserts it, for people.
            entity: Any object.
            session: The session of a block.
            before: What could not insert it, but has let Python fill in.
        """
        session.check_new((entity,))
        insert = self._why_not_in(session, None) or self._insert(name, entity, session)
        if isinstance(insert, LaneRefusal):
            return insert
        if before is not None:
            insert.fill_in_as(before)
        try:
            return await self._stored(insert, session)
        except BaseException as error:  # raised again
            if session.held is not None:
                await _failed(session, session.held, error)
            raise

    async def insert_all(self, entities: Sequence[object], session: SessionAccess) -> LaneRefusal | None:
        """Insert new entities of one kind, which the session holds then."""
        session.check_new(entities)
        refusal = self._why_not_in(session, None) or self._why_not_written(session)
        insertion = refusal or self._statements.insertion(entities, session.held)
        if isinstance(insertion, LaneRefusal):
            return insertion
        claims = [self._statements.claim(entity) for entity in entities]
        try:
            return await self._flushed(insertion, session, session.holder())
        finally:
            for claim in claims:
                self._statements.release(claim)

    async def delete(self, entity: object, session: SessionAccess) -> LaneRefusal | None:
        """Delete an entity that the session holds."""
        session.check_change()
        held = session.held
        if held is None:
            return _SESSION_IS_ASKED
        refusal = self._why_not_in(session, None) or self._why_not_written(session)
        deletion = refusal or self._statements.deletion(entity, held)
        return deletion if isinstance(deletion, LaneRefusal) else await self._flushed(deletion, session, held)

    async def change(self, change: ChangeCall, session: SessionAccess) -> int | LaneRefusal:
        """Run an UPDATE or DELETE, of which the session's entities know; return how many rows it touched."""
        direct = self._connections.backend.direct
        if direct is None or not direct.counts:
            return _DOES_NOT_COUNT
        refusal = _why_no_block(session) or self._why_not_in(session, None)
        held = session.held
        touches = refusal is None and held is not None and change.change.touches_held(held)
        evaluated = change.evaluated() if touches else None
        if touches and evaluated is None:
            return _SESSION_IS_ASKED
        rows = refusal or await self._rows(change, session)
        if isinstance(rows, LaneRefusal):
            return rows
        if evaluated is not None and held is not None:
            past = self._statements.session_listeners.past
            past(held, session.begin_as_block)
            past(held, partial(change.change.tell, evaluated, held))
        return len(rows)

    async def flush(self, session: SessionAccess) -> LaneRefusal | None:
        """Send what waits in a session, and only that: the rest of its work is for SQLAlchemy."""
        held = session.held
        if held is None or not session.check_changes():
            return None
        refusal = self._why_not_to(session, held) or self._why_not_written(session)
        flush = refusal or self._statements.flush(held)
        if isinstance(flush, LaneRefusal):
            return flush
        session.flushing = True
        try:
            return await self._flushed(flush, session, held)
        finally:
            session.flushing = False

    # -- whether ---------------------------------------------------------------------------------

    def _why_not_in(self, session: SessionAccess, identity: tuple[Any, ...] | None) -> LaneRefusal | None:
        """Say what the session has to do first, to hear, or to answer by itself, if anything."""
        held = session.held
        if held is None:
            return None
        if not session.knows_nothing_of(identity):
            return _SESSION_IS_ASKED
        return self._why_not_to(session, held)

    def _why_not_to(self, session: SessionAccess, held: Session) -> LaneRefusal | None:
        """Say why nothing may be sent past a session, if so."""
        # A savepoint that was begun in there by hand is sent by the session alone.
        if session.turns.top is session.turns.top.root and held.in_nested_transaction():
            return _SAVEPOINT_BY_HAND
        return self._statements.session_listeners.of_reads(held)

    def _why_not_written(self, session: SessionAccess) -> LaneRefusal | None:
        """Say why nothing is written here past the session, if so.

        If somebody listens to the connection, what Python fills in would be filled in before that is noticed.
        """
        refusal = _why_no_block(session)
        if refusal is not None:
            return refusal
        begun: Connection | None = session.turns.top.connection
        if begun is None or not session.shares(begun):
            return None
        return _CONNECTION_IS_HEARD if self._connections.home().listeners.are_on(begun) else None

    def _insert(self, name: str, entity: object, session: SessionAccess) -> InsertCall | LaneRefusal:
        """Prepare an INSERT for the transaction that is open."""
        return self._why_not_written(session) or self._statements.insert(name, entity, session.held)

    # -- sending ---------------------------------------------------------------------------------

    async def _stored(self, insert: InsertCall, session: SessionAccess) -> LaneRefusal | None:
        transaction: TransactionAccess = session.turns.top
        claim = self._statements.claim(insert.entity)
        try:
            # What Python fills in comes last: where the session has to insert it, it is asked again.
            rows = self._statements.fill_in(insert) or await self._rows(insert, session)
            refusal = rows if isinstance(rows, LaneRefusal) else insert.finish(rows, session.holder())
        finally:
            self._statements.release(claim)
        if refusal is None:
            transaction.inserted(insert.entity)
        return refusal

    async def _flushed(self, flush: Flush, session: SessionAccess, held: Session) -> LaneRefusal | None:
        """Send the statements of a flush; what is refused in the middle is left to the ORM, with the rest."""
        transaction: TransactionAccess = session.turns.top
        refusal, done = None, 0
        try:
            for _states, calls in flush.steps:
                refusal = flush.take(done, [await self._rows(call, session) for call in calls], held)
                if refusal is not None:
                    break
                done += 1
            past = self._statements.session_listeners.past
            past(held, partial(flush.register, done, held, transaction))
        except BaseException as error:  # raised again
            await _failed(session, held, error)
            raise
        return refusal

    async def _rows(self, statement: StatementToSend, session: SessionAccess) -> Rows | LaneRefusal:
        session.check_statement(statement.statement, statement.effects)
        home = self._connections.home()
        direct = self._connections.backend.direct
        if direct is None or home.listeners.of_cursors or self._must_be_heard(statement, session):
            return await greenlet_spawn(self._rows_of_cursor, statement, session, direct)
        frame: FrameAccess = session.turns.top
        begun: Connection | None = frame.connection
        if begun is None and frame is not frame.root:
            begun = await session.acquired_idle(frame)
        if not (direct.can_be_begun or (begun is not None and direct.in_transaction(_driver(begun)))):
            return await greenlet_spawn(self._rows_of_cursor, statement, session, direct)
        connection = begun or await _idle_connection(session)
        if connection is None:
            connection = await greenlet_spawn(_connection, session)
        if session.shares(connection) and (
            home.listeners.are_on(connection) or home.listeners.of_cursors_on(connection)
        ):
            return await greenlet_spawn(self._rows_of_cursor, statement, session, direct)
        try:
            sending = self._sending(statement, session, connection, direct)
            if self._watch.active:
                server = server_of_connection(connection)
                sending = self._watch.statements.sent(
                    statement.sql, self.lane, server, sending, times(statement)
                )
            return await sending
        except BaseException as failure:
            await greenlet_spawn(self._fail, connection, statement, failure)
            raise

    def _sending(
        self, statement: StatementToSend, session: SessionAccess, connection: Connection, direct: Direct
    ) -> Awaitable[Rows | LaneRefusal]:
        """Return what sends a statement on the driver's connection: the first one after BEGIN."""
        driver = _driver(connection)
        if not direct.in_transaction(driver):
            self._tell_before(connection, statement)
            send = rows_alone if session.turns.top.mode.autocommit else first_rows
            return send(statement, direct, held_by(connection), self._connections.home().prepared)
        self._note(connection, statement)
        held = held_by(connection)
        if direct.hears_of_schema and not heard_of_schema(held.dbapi_connection, connection.dialect):
            return rows_renewed(statement, direct, held, connection.dialect)
        return statement.rows(direct, driver)

    def _rows_of_cursor(
        self, statement: StatementToSend, session: SessionAccess, direct: Direct | None
    ) -> Rows | LaneRefusal:
        """Send a statement through a cursor: SQLAlchemy or the driver begins with it, or others hear of it.

        In a greenlet.
        """
        connection = _connection(session)
        listeners = self._connections.home().listeners
        heard = listeners.of_cursors or self._must_be_heard(statement, session, connection)
        if session.shares(connection):
            if listeners.are_on(connection):
                return _CONNECTION_IS_HEARD
            heard = heard or listeners.of_cursors_on(connection)
        if direct is None or heard:
            options = {LANE: self.lane}
            result = connection.exec_driver_sql(
                statement.sql, statement.parameters, execution_options=options
            )
            refusal = statement.described_by(result.cursor)
            if refusal is not None:
                return refusal
            return result.all() if result.returns_rows else numbers(result.rowcount)
        watch = self._watch
        send = partial(self._rows_in_greenlet, statement, session, connection)
        try:
            if watch.active:
                server = server_of_connection(connection)
                return watch.statements.sent_at_once(statement.sql, self.lane, server, send, times(statement))
            return send()
        except BaseException as failure:
            self._fail(connection, statement, failure)
            raise

    def _must_be_heard(
        self, statement: StatementToSend, session: SessionAccess, connection: Connection | None = None
    ) -> bool:
        """Say whether what we ourselves listen to cursors for has a part in a statement.

        It may end the transaction, or has a time limit that the database is told; or the transaction on this
        connection has ended, and is to be begun anew.
        """
        backend = self._connections.backend
        if backend.limits_statements and session.limits_here():
            return True
        if not backend.may_end_inside or session.turns.top.mode.autocommit:
            return False
        direct = backend.direct
        if connection is not None and direct is not None and not direct.in_transaction(_driver(connection)):
            return True
        return runs_others(statement.sql, backend.dialect)

    def _note(self, connection: Connection, statement: StatementToSend) -> None:
        """Let whoever has the connection know of a write, of which no cursor tells."""
        if statement.writes and self._connections.backend.may_end_inside:
            self._tell_before(connection, statement)

    def _tell_before(self, connection: Connection, statement: StatementToSend) -> None:
        """Let whoever has the connection know of a statement; he may refuse to go on."""
        if (holder := self._connections.home().held.get(connection)) is not None:
            holder.before_statement(statement.sql)

    def _rows_in_greenlet(
        self, statement: StatementToSend, session: SessionAccess, connection: Connection
    ) -> Rows | LaneRefusal:
        direct: Any = self._connections.backend.direct
        if direct.in_transaction(_driver(connection)):
            self._note(connection, statement)
            return await_only(statement.rows(direct, _driver(connection)))
        prepared = self._connections.home().prepared
        if session.turns.top.mode.autocommit:
            return await_only(rows_alone(statement, direct, held_by(connection), prepared))
        return rows_of_cursor(statement, connection, prepared)

    def _fail(self, connection: Connection, statement: StatementToSend, failure: BaseException) -> None:
        """Fail as if SQLAlchemy had sent it: its class of error, its events, what becomes of the block."""
        direct = self._connections.backend.direct
        is_error = isinstance(failure, Exception)
        if direct is not None:
            if not is_error:
                await_only(direct.stopped(_driver(connection)))
            elif direct.is_outdated(failure):
                statement.forget_columns()
                await_only(direct.forget_statements(_driver(connection)))
        try:
            fail_as_sqlalchemy(connection, statement, failure, direct)
        except Exception:
            # A driver may have closed what was cancelled, and says only that.
            if is_error:
                raise


async def _failed(session: SessionAccess, held: Session, error: BaseException) -> None:
    """Undo what a session holds, as a flush of its own does that has failed, and raise the error."""
    session.begin_as_block()
    session.flushing = True
    try:
        await greenlet_spawn(fail_flush, held, error)
    finally:
        session.flushing = False


def _why_no_block(session: SessionAccess) -> LaneRefusal | None:
    frame: FrameAccess = session.turns.top
    return _NO_BLOCK if frame.idles or not frame.transactional else None


def _driver(connection: Connection) -> Any:  # noqa: ANN401  # of any driver
    adapted: Any = held_by(connection).dbapi_connection
    return adapted.driver_connection


async def _idle_connection(session: SessionAccess) -> Connection | None:
    """Check a connection out for a block that has none, unless it takes a greenlet to get it."""
    frame: FrameAccess = session.turns.top
    if frame is not frame.root or frame.idles:
        return None
    return await session.acquired_idle(frame)


def _connection(session: SessionAccess) -> Connection:
    """Return the connection of the block, or of a savepoint, which must be begun on it."""
    frame: FrameAccess = session.turns.top
    if frame is frame.root and not frame.idles:
        return frame.connection or session.acquired(frame)
    return Session.connection(session.holder())
