"""This module chooses the lane of a read, and is the driver lane: past SQLAlchemy's cursors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.pool import StaticPool
from sqlalchemy.util import LRUCache

from unitwork._logic.routing import LaneChoice
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime import context
from unitwork._runtime.blocks.starvation import held_by_this_task
from unitwork._runtime.connections.listeners import SessionListeners
from unitwork._runtime.lanes.asked import Asked
from unitwork._runtime.lanes.express_read import ExpressRead
from unitwork._runtime.lanes.fused import Fused
from unitwork._runtime.lanes.insert_one import InsertOne, given_values
from unitwork._runtime.lanes.loading import NeedsSession
from unitwork._runtime.lanes.reading import Reading
from unitwork._runtime.lanes.trips import Addition, Call
from unitwork._runtime.lanes.visits import ConnectionLostError, Visits
from unitwork._runtime.sessions.guard import GuardedSession
from unitwork.dialects.direct import UnreadableRowsError
from unitwork.errors import CommitOutcomeUnknownError
from unitwork.options import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import InstanceState, Mapper, Session

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.connections.listeners import EngineListeners
    from unitwork._runtime.sessions.session import TurnedSession
    from unitwork._runtime.source import Source
    from unitwork.dialects.direct import Rows as DriverRows

R = TypeVar("R")

_KNOWN_STATEMENTS = 500
_ENTITIES = Reading("a statement of the session", Shape(Rows.MANY, Item.ENTITY))
_COLUMN = Reading("a statement of the session", Shape(Rows.MANY, Item.SCALAR))
_HARMLESS_OPTIONS = frozenset({"expire_on_commit", "autoflush"})


class Express:
    """The faster lanes of one Database. Lives: as long as its source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.fastest = Lane.DRIVER
        self.direct = source.backend.direct
        self.visits = Visits(source)
        self.fused = Fused(self)
        # By what SQLAlchemy knows a statement by, or the statement; a text says why there is no read.
        self._reads: LRUCache[Any, ExpressRead | str] = LRUCache(_KNOWN_STATEMENTS)
        self._inserts: LRUCache[Any, InsertOne | str] = LRUCache(_KNOWN_STATEMENTS)
        self._has_options = not _HARMLESS_OPTIONS.issuperset(source.session_options)
        # Never used, but what is being inserted belongs to it.
        self._session = GuardedSession()
        self.session_listeners = SessionListeners(self._session)

    # -- which lane ------------------------------------------------------------------------------

    def call(self, reading: Reading, asked: Asked, identity: tuple[Any, ...] | None = None) -> Call:
        """Prepare a read for a lane without SQLAlchemy's ORM.

        Raises:
            NeedsSession: It would not be the same there; says why.
        """
        return self._call(self._read_for(asked), reading, asked, identity)

    def call_of(self, statement: Select[Any]) -> Call:
        """Prepare a statement that a session is given: for its entities, or its only column.

        Raises:
            NeedsSession: It would not be the same there; says why.
        """
        asked = Asked(statement)
        read = self._read_for(asked)
        return self._call(read, _COLUMN if read.mapper is None else _ENTITIES, asked, None)

    def _call(
        self, read: ExpressRead, reading: Reading, asked: Asked, identity: tuple[Any, ...] | None
    ) -> Call:
        read.check_fit(reading)
        try:
            return Call(read, reading, asked, read.arguments(asked), identity)
        except Exception as error:
            raise NeedsSession("its values cannot be sent") from error

    def _problem(self) -> str | None:
        """Say what on this Database would be passed by now, if anything."""
        if self.fastest is Lane.SESSION:
            return "the Database was told to use no faster one"
        if self._source.pinned is not None:
            return "all work of this Database is rolled back"
        if self._has_options:
            return "the sessions of this Database have options of their own"
        return self._source.home_listeners().foreign() or self.session_listeners.of_reads()

    def _read_for(self, asked: Asked) -> ExpressRead:
        problem = self._problem()
        if problem is not None:
            raise NeedsSession(problem)
        if asked.statement.get_execution_options():
            raise NeedsSession("it has execution options")  # which are no part of what it is known by
        key: Any = asked.statement
        if not asked.fixed:
            named = asked.cache_key()
            if named is None:
                raise NeedsSession("SQLAlchemy cannot cache it")
            key = named.key
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = self._made(asked, self._dialect())
        if isinstance(read, str):
            raise NeedsSession(read)
        return read

    def _made(self, asked: Asked, dialect: Dialect) -> ExpressRead | str:
        try:
            return ExpressRead(asked, dialect)
        except NeedsSession as refused:
            return str(refused)
        except Exception:  # noqa: BLE001  # the session lane raises what is right
            return "SQLAlchemy does not compile it"

    def _dialect(self) -> Dialect:
        """Return the dialect, if it knows the server; what is compiled before is for another one."""
        dialect = self._source.home_engine().dialect
        if getattr(dialect, "server_version_info", None) is None:
            raise NeedsSession("no connection has been opened yet")
        return dialect

    def engine_listeners(self) -> EngineListeners:
        """Return who listens to the engine of the event loop that is running."""
        return self._source.home_listeners()

    def unit(self) -> Entry | None:
        """Return the idle unit of work that the driver lane reads for; None outside of everything.

        Raises:
            NeedsSession: A transaction is open here, or the driver is not known.
        """
        if self.fastest is not Lane.DRIVER:
            raise NeedsSession("the Database was told to use no faster one")
        if self.direct is None:
            raise NeedsSession("the driver is not known well enough")
        if isinstance(self._source.home_engine().pool, StaticPool):
            raise NeedsSession("all share one connection")
        if not context.open_scopes():
            return None
        scope = context.innermost(self._source)
        if held_by_this_task(self._source) or (scope is not None and not scope.frame.idles):
            raise NeedsSession("a block is open")
        if scope is not None and scope.frame.transactional:
            raise NeedsSession("a transaction is open")
        return scope

    def explain(self, reading: Reading, asked: Asked) -> LaneChoice:
        """Say which lane a read takes here and now, and why no faster one."""
        lane = Lane.SESSION
        try:
            self.call(reading, asked)
            lane = Lane.FUSED
            self.unit()
        except NeedsSession as needed:
            return LaneChoice(lane, str(needed))
        return LaneChoice(Lane.DRIVER)

    # -- the driver lane ---------------------------------------------------------------------------

    async def items(self, call: Call, unit: Entry | None) -> Sequence[Any]:
        """Return what becomes of the rows of a read, outside of a transaction.

        Raises:
            NeedsSession: Only the session lane can do it, or can say what is wrong.
            sqlalchemy.exc.DBAPIError: It failed, as it would with SQLAlchemy.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        if unit is None:
            return call.items(await self.visits.rows(call, reads=True), None)

        async def read(session: TurnedSession) -> Sequence[Any]:
            rows = await self.visits.rows(call, reads=True)
            return call.items(rows, session.sync_session if call.read.mapper is not None else None)

        return await self._in_unit(unit, call.identity, self.session_listeners.of_reads, read)

    async def _in_unit(
        self,
        unit: Entry,
        identity: tuple[Any, ...] | None,
        listener: Callable[[Session], str | None],
        send: Callable[[TurnedSession], Awaitable[R]],
    ) -> R:
        """Send in an idle unit of work: its session holds the entities, and no connection afterwards."""
        frame = unit.frame
        session = frame.session
        frame.admit()
        await session.turns.take(frame)
        try:
            if frame.transactional or not session.knows_nothing_of(identity):
                raise NeedsSession("the session has changes, or the entity")
            if session.started and listener(session.sync_session) is not None:
                raise NeedsSession("somebody listens to the session")
            return await send(session)
        finally:
            session.turns.give()

    # -- one new entity ----------------------------------------------------------------------------

    async def add(self, name: str, entity: object) -> None:
        """Insert one new entity, outside of a transaction; it commits with its statement.

        Raises:
            NeedsSession: It is not for this lane, or the database refused it: the session lane says how.
            CommitOutcomeUnknownError: The connection was lost meanwhile.
            sqlalchemy.exc.DBAPIError: The database was locked for too long.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        unit = self.unit()
        if unit is None:
            await self._add(name, entity, None)
            return
        await self._in_unit(
            unit, None, self._any_listener, lambda session: self._add(name, entity, session.sync_session)
        )

    async def _add(self, name: str, entity: object, session: Session | None) -> None:
        addition = self.addition(name, entity)
        await self.claimed(entity, self._insert(addition, session))

    async def add_in_block(self, name: str, entity: object, session: TurnedSession) -> None:
        """Insert one new entity in the transaction that is open.

        Raises:
            NeedsSession: It is not for this lane.
            sqlalchemy.exc.DBAPIError: The database refused it.
        """
        if not await session.in_turn(partial(self.fused.insert, name, entity)):
            raise NeedsSession("the session does more with it")

    async def claimed(self, entity: object, work: Coroutine[Any, Any, R]) -> R:
        """Do something with a new entity, which belongs to a session meanwhile: no other task may add it."""
        claimed: InstanceState[Any] = instance_state(entity)
        claimed.session_id = self._session.hash_key
        try:
            return await work
        finally:
            if claimed.session_id == self._session.hash_key:
                claimed.session_id = None

    def _any_listener(self, session: Session) -> str | None:
        return self.session_listeners.of_reads(session) or self.session_listeners.of_flushes(session)

    def addition(self, name: str, entity: object, *, pending: bool = False) -> Addition:
        """Prepare the INSERT of a new entity for a lane without SQLAlchemy's flush.

        Raises:
            NeedsSession: It would not be the same there; says why.
        """
        problem = self._problem() or self.session_listeners.of_flushes()
        if problem is not None:
            raise NeedsSession(problem)
        if self._source.session_options.get("expire_on_commit"):
            raise NeedsSession("the commit expires it")
        try:
            return self._addition(name, *given_values(entity, pending=pending), entity)
        except Exception as error:
            raise NeedsSession("its values cannot be sent") from error

    def _addition(self, name: str, mapper: Mapper[Any], values: dict[str, Any], entity: object) -> Addition:
        key = (mapper, frozenset(values))
        known = self._inserts.get(key)
        if known is None:
            dialect = self._dialect()
            try:
                known = InsertOne(*key, dialect)
            except NeedsSession as refused:
                known = str(refused)
            self._inserts[key] = known
        if isinstance(known, str):
            raise NeedsSession(known)
        if known.observed:
            raise NeedsSession("somebody listens to entities being inserted")
        return Addition(known, name, entity, values, known.arguments(values))

    async def _insert(self, addition: Addition, session: Session | None) -> None:
        try:
            rows = await self._rows(addition)
        except (PoolTimeoutError, DBAPIError, NeedsSession):
            raise
        except ConnectionLostError as lost:
            raise CommitOutcomeUnknownError(self._source.name, addition.name) from lost.__cause__
        except UnreadableRowsError as unread:
            raise _told_stored(unread.__cause__) from None
        except Exception as error:
            raise NeedsSession("it failed") from error
        try:
            addition.insert.finish(addition.entity, addition.values, rows, session)
        except Exception as error:  # noqa: BLE001  # raised again, with a note
            raise _told_stored(error) from None

    async def _rows(self, addition: Addition) -> DriverRows:
        gate = self._source.write_gate()
        if gate is None:
            return await self.visits.rows(addition, reads=False)
        await gate.enter(addition)
        try:
            return await self.visits.rows(addition, reads=False)
        finally:
            gate.leave(addition)


def _told_stored(error: BaseException | None) -> BaseException:
    """Add to an error that the row is there all the same."""
    failure = error or RuntimeError("unreadable")
    failure.add_note("The row is stored; what the database filled in cannot be read.")
    return failure
