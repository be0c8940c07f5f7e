"""This module chooses the lane of a read, and is the driver lane: past SQLAlchemy's cursors."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.util import LRUCache, await_only, greenlet_spawn

from unitwork._logic.routing import LaneChoice
from unitwork._runtime import state
from unitwork._runtime.express_read import ExpressRead
from unitwork._runtime.guard import GuardedSession
from unitwork._runtime.insert_one import InsertOne, given_values
from unitwork._runtime.listeners import session_listener, writing_listener
from unitwork._runtime.loading import NeedsSession
from unitwork._runtime.starvation import held_by_this_task
from unitwork.errors import CommitOutcomeUnknownError
from unitwork.options import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from unitwork._runtime.engine import Source
    from unitwork._runtime.entry import Entry
    from unitwork._runtime.execute import Asked
    from unitwork._runtime.reading import Reading
    from unitwork.dialects.direct import Direct, Rows

_KNOWN_STATEMENTS = 500
_HARMLESS_OPTIONS = frozenset({"expire_on_commit", "autoflush"})


class Visit(NamedTuple):
    """One read that has a connection of the pool now."""

    name: str
    since: float
    sql: str


class ConnectionLostError(Exception):
    """The connection broke while a statement was under way."""


class Trip(Protocol):
    """One statement to be sent, with its values."""

    @property
    def name(self) -> str:
        """What sends it, for people."""
        ...

    @property
    def sql(self) -> str: ...

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        """Send it, and return its rows."""
        ...


class Call(NamedTuple):
    """One call of a read: what is asked, and what the driver is given."""

    read: ExpressRead
    reading: Reading
    asked: Asked
    arguments: Any
    identity: tuple[Any, ...] | None = None
    """What a session knows the entity by, if it may have it already."""

    @property
    def name(self) -> str:
        return self.reading.name

    @property
    def sql(self) -> str:
        return self.read.sql

    @property
    def parameters(self) -> Any:  # noqa: ANN401  # as SQLAlchemy takes them for its driver
        """The arguments as `exec_driver_sql` takes them."""
        return (tuple(self.arguments) if isinstance(self.arguments, list) else self.arguments) or None

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        return await self.read.rows(direct, driver, self.arguments)

    def items(self, rows: Rows, session: Session | None) -> Sequence[Any]:
        """Return what becomes of the rows; entities are held by the session, if there is one."""
        return self.read.items(rows, self.reading, session)


class Addition(NamedTuple):
    """One new entity to be inserted."""

    insert: InsertOne
    name: str
    entity: object
    values: dict[str, Any]
    arguments: Any

    @property
    def sql(self) -> str:
        return self.insert.sql

    async def rows(self, direct: Direct, driver: Any) -> Rows:  # noqa: ANN401  # of any driver
        return await self.insert.rows(direct, driver, self.arguments)


class Express:
    """The faster lanes of one Database. Lives: as long as its source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.fastest = Lane.DRIVER
        self.direct = source.backend.direct
        self.visits: dict[PoolProxiedConnection, Visit] = {}
        self._fixed: weakref.WeakKeyDictionary[Any, ExpressRead | NeedsSession] = weakref.WeakKeyDictionary()
        self._inserts: LRUCache[Any, InsertOne | NeedsSession] = LRUCache(_KNOWN_STATEMENTS)
        self._keyed: LRUCache[Any, ExpressRead | NeedsSession] = LRUCache(_KNOWN_STATEMENTS)
        # Never used: it tells who listens to the sessions of its class.
        self._session = GuardedSession()

    # -- which lane ------------------------------------------------------------------------------

    def call(self, reading: Reading, asked: Asked, identity: tuple[Any, ...] | None = None) -> Call:
        """Prepare a read for a lane without SQLAlchemy's ORM.

        Raises:
            NeedsSession: It would not be the same there; says why.
        """
        problem = self._problem()
        if problem is not None:
            raise NeedsSession(problem)
        read = self._read_for(asked, reading)
        try:
            return Call(read, reading, asked, read.arguments(asked), identity)
        except Exception as error:
            raise NeedsSession("its values cannot be sent") from error

    def _problem(self) -> str | None:
        """Say what on this Database would be passed by now, if anything."""
        source = self._source
        if self.fastest is Lane.SESSION:
            return "the Database was told to use no faster one"
        if source.pinned is not None:
            return "all work of this Database is rolled back"
        if not _HARMLESS_OPTIONS.issuperset(source.session_options):
            return "the sessions of this Database have options of their own"
        return source.home_listeners().foreign() or session_listener(self._session)

    def _read_for(self, asked: Asked, reading: Reading) -> ExpressRead:
        known: Any = self._fixed if asked.fixed else self._keyed
        key = asked.statement if asked.fixed else asked.cache_key()
        if key is None:
            raise NeedsSession("SQLAlchemy cannot cache it")
        key = key if asked.fixed else key.key
        read: ExpressRead | NeedsSession | None = known.get(key)
        if read is None:
            read = known[key] = self._made(asked)
        if isinstance(read, NeedsSession):
            raise read.with_traceback(None)
        read.check_fit(reading)
        return read

    def _made(self, asked: Asked) -> ExpressRead | NeedsSession:
        try:
            return ExpressRead(asked, self._source.home_engine().dialect)
        except NeedsSession as refused:
            return refused

    def unit(self) -> Entry | None:
        """Return the idle unit of work that the driver lane reads for; None outside of everything.

        Raises:
            NeedsSession: A transaction is open here, or the driver is not known.
        """
        if self.fastest is not Lane.DRIVER:
            raise NeedsSession("the Database was told to use no faster one")
        if self.direct is None:
            raise NeedsSession("the driver is not known well enough")
        if not state.open_scopes():
            return None
        scope = state.innermost(self._source)
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
            NeedsSession: It failed, or a session must load it: the session lane says how.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        try:
            if unit is None:
                return call.items(await self._rows(call), None)
            return await self._in_unit(unit, call)
        except (PoolTimeoutError, NeedsSession):
            raise
        except Exception as error:
            raise NeedsSession("it failed") from error

    async def _in_unit(self, unit: Entry, call: Call) -> Sequence[Any]:
        """Read in an idle unit of work: its session holds the entities, and no connection afterwards."""
        frame = unit.frame
        session = frame.session
        frame.admit()
        await session.turns.take(frame)
        try:
            if frame.transactional or not session.knows_nothing_of(call.identity):
                raise NeedsSession("the session has changes, or the entity")
            rows = await self._rows(call)
            return call.items(rows, session.sync_session if call.read.mapper is not None else None)
        finally:
            session.turns.give()

    async def _rows(self, trip: Trip) -> Rows:
        return await greenlet_spawn(self._visit, self._source.home_engine().pool, trip)

    def _visit(self, pool: Pool, trip: Trip) -> Rows:
        """Check a connection out, send one statement, and check it in. In a greenlet."""
        direct: Any = self.direct
        try:
            held = pool.connect()
        except PoolTimeoutError as error:
            error.add_note(self._source.holders())
            raise
        driver = held.driver_connection
        if direct.is_broken(driver):
            held.invalidate()
            raise NeedsSession("the connection is dead")
        self.visits[held] = Visit(trip.name, time.monotonic(), trip.sql)
        try:
            rows = await_only(trip.rows(direct, driver))
        except BaseException as error:
            if _end_failed(held, direct, error):
                raise
            raise ConnectionLostError from error
        finally:
            del self.visits[held]
        held.close()
        return rows

    # -- one new entity ----------------------------------------------------------------------------

    async def add(self, name: str, entity: object) -> None:
        """Insert one new entity, outside of a transaction; it commits with its statement.

        Raises:
            NeedsSession: It is not for this lane, or the database refused it: the session lane says how.
            CommitOutcomeUnknownError: The connection was lost meanwhile.
            sqlalchemy.exc.TimeoutError: The pool had no connection in time.
        """
        problem = self._problem() or writing_listener(self._session)
        if problem is not None:
            raise NeedsSession(problem)
        unit = self.unit()
        try:
            addition = self._addition(name, entity)
        except Exception as error:
            raise NeedsSession("its values cannot be sent") from error
        gate = self._source.write_gate()
        if gate is None:
            await self._add(addition, unit)
            return
        await gate.enter(addition)
        try:
            await self._add(addition, unit)
        finally:
            gate.leave(addition)

    async def _add(self, addition: Addition, unit: Entry | None) -> None:
        if unit is None:
            await self._insert(addition, None)
            return
        frame = unit.frame
        session = frame.session
        frame.admit()
        await session.turns.take(frame)
        try:
            if frame.transactional or not session.knows_nothing_of(None):
                raise NeedsSession("the session has changes")
            await self._insert(addition, session.sync_session)
        finally:
            session.turns.give()

    def _addition(self, name: str, entity: object) -> Addition:
        mapper, values = given_values(entity)
        key = (mapper, frozenset(values))
        known: InsertOne | NeedsSession | None = self._inserts.get(key)
        if known is None:
            try:
                known = InsertOne(*key, self._source.home_engine().dialect)
            except NeedsSession as refused:
                known = refused
            self._inserts[key] = known
        if isinstance(known, NeedsSession):
            raise known.with_traceback(None)
        if known.observed:
            raise NeedsSession("somebody listens to entities being inserted")
        return Addition(known, name, entity, values, known.arguments(values))

    async def _insert(self, addition: Addition, session: Session | None) -> None:
        try:
            rows = await self._rows(addition)
        except (PoolTimeoutError, NeedsSession):
            raise
        except ConnectionLostError as lost:
            raise CommitOutcomeUnknownError(self._source.name, addition.name) from lost.__cause__
        except Exception as error:
            raise NeedsSession("it failed") from error
        addition.insert.finish(addition.entity, addition.values, rows, session)


def _end_failed(held: PoolProxiedConnection, direct: Direct, error: BaseException) -> bool:
    """Return or discard a connection after an error; say whether the server knows of it. In a greenlet."""
    driver = held.driver_connection
    cancelled = not isinstance(error, Exception)
    if cancelled and not await_only(direct.stopped(driver)):
        held.invalidate(error)
        return True
    if not direct.is_broken(driver):
        held.close()
        return True
    held.invalidate(error)
    return cancelled
