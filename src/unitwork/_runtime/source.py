"""This module holds where sessions and connections of one Database come from."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from unitwork._runtime import context
from unitwork._runtime.connections.idle import Lender
from unitwork._runtime.connections.listeners import EngineListeners
from unitwork._runtime.connections.watch import Watch
from unitwork._runtime.connections.write_gate import WriteGate
from unitwork._runtime.finish import Finished, finish
from unitwork._runtime.lanes.express import Express
from unitwork._runtime.rolled_back.lent import lending_engine
from unitwork._runtime.rolled_back.pinned import Pinned, in_another_loop
from unitwork.dialects import Fault, orders
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.transactions.frame import Frame
    from unitwork.dialects import Backend
    from unitwork.dialects.direct import Direct


_STATEMENT_CHARACTERS = 120
_THREAD_ENDS_S = 0.05


class Home:
    """One engine and the event loop that uses it. Lives: as long as its source, or the loop.

    Attributes:
        asked_to_open: Who opens a connection where nothing can be waited for is told so.
        doubtful: The connections that the pool will replace when they are asked for.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.listeners = EngineListeners(engine.sync_engine)
        self.write_gate = WriteGate()
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self.lending: AsyncEngine | None = None
        self.connections: set[DBAPIConnection] = set()
        self.asked_to_open = False
        self.doubtful: set[DBAPIConnection] = set()
        self._lender: Lender | None = None

    def lender(self, direct: Direct) -> Lender:
        """Return who lends connections of the pool that the engine has now."""
        lender = self._lender
        if lender is None or lender.pool is not self.engine.sync_engine.pool:
            lender = self._lender = Lender(self, direct)
        return lender

    def before_opening(self, *_arguments: object) -> None:
        """Refuse to open a connection for whoever cannot wait for it, before a driver begins to."""
        self.asked_to_open = True
        if not in_greenlet():
            raise MissingGreenlet("a connection is opened where nothing can be waited for")

    def opened(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        """Remember a connection, to release it when its loop is closed before it is."""
        self.connections.add(connection)

    def closed(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self.doubtful.discard(connection)

    def lost(self, context: ExceptionContext) -> None:
        """Remember what SQLAlchemy does when a server is gone: it replaces all connections."""
        if context.is_disconnect and context.invalidate_pool_on_disconnect:
            self.doubtful.update(self.connections)

    def free(self) -> bool:
        """Say whether no loop uses this engine any more, or none has yet."""
        loop = self.loop() if self.loop is not None else None
        return loop is None or loop.is_closed()


class Source:
    """Engines, open frames and observers of one Database. Lives: as long as its Database.

    Attributes:
        pinned: The one connection that everything runs on while `db.rolled_back()` is open, else
            None. Whoever takes connections from the pool by another way than `home_engine()` must
            not do so while it is set: what is written there would not be seen, and would stay.
        ledger: The blocks and units that were entered since a test looks for leaks, else None.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        engine: AsyncEngine | None,
        engine_options: Mapping[str, Any],
        session_options: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.backend = backend
        self.session_options = session_options
        self.frames: dict[Connection, Frame] = {}
        self.watch = Watch(self)
        self.pinned: Pinned | None = None
        self.ledger: set[Entry] | None = None
        self.express = Express(self)
        self._engine_options = engine_options
        self._given = engine is not None
        self._moving = threading.Lock()
        self._homes = [self._equipped(engine or self._new_engine())]
        self._current: tuple[asyncio.AbstractEventLoop | None, Home] = (None, self._homes[0])

    @property
    def url(self) -> URL:
        """The URL of the database; its password shows in no text."""
        return self.backend.url

    def write_gate(self) -> WriteGate | None:
        """Return the queue of those who want the only write lock, if this database has one."""
        waits = self.backend.one_writer and not self.backend.shared_between_loops and self.pinned is None
        return self.home().write_gate if waits else None

    def home_listeners(self) -> EngineListeners:
        """Return who listens to the engine of the event loop that is running."""
        return self.home().listeners

    def home_engine(self) -> AsyncEngine:
        """Return the engine for the event loop that is running, if one is."""
        return self.home().engine

    def capacity(self) -> int | None:
        """Return how many connections the pool can give out at once; None is without limit."""
        pool: Any = self.home().engine.pool
        if isinstance(pool, NullPool) or not hasattr(pool, "size"):
            return None
        overflow: int = getattr(pool, "_max_overflow", -1)
        size: int = pool.size()
        return None if overflow < 0 else size + overflow

    def holders(self) -> str:
        """Say who holds the connections, for a person whose pool is exhausted."""
        now = time.monotonic()
        lines = [
            f"  {frame.owner}: for {now - frame.since:.1f} s, last statement: {_short(frame.last_statement)}"
            for frame in self.frames.values()
        ]
        lines += [
            f"  {visit.trip.name}: for {now - visit.since:.1f} s, last statement: {_short(visit.trip.sql)}"
            for visit in self.express.visits.open.values()
        ]
        return "\n".join([f"Connections of database {self.name!r} are held by:", *lines])

    async def pin(self) -> Pinned:
        """Take one connection, begin, and let all that ask an engine for one have that."""
        home = self.home()
        held = await home.engine.connect()
        try:
            await held.begin()
            await held.exec_driver_sql(self.backend.begin_held)
        except BaseException:
            await held.close()
            raise
        if home.lending is None:
            # Not before the first connection, from which a dialect learns what the server can.
            home.lending = lending_engine(self, home.engine)
        self.pinned = Pinned(self, held)
        self._current = (self.pinned.loop, Home(home.lending))
        return self.pinned

    def unpin(self) -> None:
        """Take connections from the pool again."""
        _loop, lending = self._current
        for connection in [known for known in self.frames if known.engine is lending.engine.sync_engine]:
            del self.frames[connection]
        self.pinned = None
        self._current = (None, self._homes[0])

    async def dispose(self) -> None:
        """Close all connections of this loop; forget those of loops that are closed."""
        if self.pinned is not None:
            return  # a program under test ends; its database goes on with the test
        here = self.home()
        context.strike(self)
        await here.engine.dispose()
        kept, self.backend.kept = self.backend.kept, None
        if kept is not None:
            # It was opened for a pool that is gone, and used by this one never.
            await greenlet_spawn(kept.close)
        with self._moving:
            for home in self._homes:
                if home is not here and home.free():
                    self._abandon(home)
            self._homes = [here, *(home for home in self._homes if not (home is here or home.free()))]
            self._current = (None, here)

    def home(self) -> Home:
        """Return the engine of the loop that runs here; threads may ask at the same time."""
        loop, home = self._current
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return home
        return home if running is loop else self._moved(running)

    def _moved(self, loop: asyncio.AbstractEventLoop) -> Home:
        """Make the engine of this loop the current one; adopt a free one, or build another."""
        if self.pinned is not None and not self.pinned.loop.is_closed():
            raise in_another_loop(self.name)
        self.pinned = None
        with self._moving:
            context.enlist(self)
            known = [home for home in self._homes if home.loop is not None and home.loop() is loop]
            home = known[0] if known else self._adopted() or self._twin()
            home.loop = weakref.ref(loop)
            self._current = (loop, home)
            return home

    def _adopted(self) -> Home | None:
        for home in self._homes:
            if home.free() or self.backend.shared_between_loops:
                if home.loop is not None:
                    self._abandon(home)
                return home
        return None

    def _abandon(self, home: Home) -> None:
        """Give an engine a new pool, without the event loop that its connections belong to."""
        if not self.backend.shared_between_loops:
            for connection in home.connections:
                with suppress(Exception):
                    self.backend.release(connection.driver_connection)
            home.connections.clear()
            home.doubtful.clear()
        for lost in [known for known in self.frames if known.engine is home.engine.sync_engine]:
            del self.frames[lost]
        home.write_gate = WriteGate()
        home.engine.sync_engine.dispose(close=False)

    def _twin(self) -> Home:
        if self._given:
            raise TransactionRefusedError(
                self.name,
                f"The AsyncEngine of database {self.name!r} is in use on another event loop.",
                "give the Database a URL instead, or dispose of it on the other loop first.",
            )
        home = self._equipped(self._new_engine())
        self._homes = [home, *(known for known in self._homes if not known.free())]
        return home

    def _new_engine(self) -> AsyncEngine:
        # A pool class of the user's own has options of its own.
        defaults = {} if "poolclass" in self._engine_options else self.backend.engine_options()
        options = {**defaults, **self._engine_options}
        return create_async_engine(self.url, **options)

    def _equipped(self, engine: AsyncEngine) -> Home:
        home = Home(engine)
        self.backend.install(engine)
        event.listen(engine.sync_engine, "handle_error", self._condemn)
        event.listen(engine.sync_engine, "handle_error", home.lost)
        event.listen(engine.sync_engine, "do_connect", home.before_opening)
        if self.backend.connects_whole:
            event.listen(engine.sync_engine, "do_connect", self._connect)
        event.listen(engine.sync_engine, "connect", home.opened)
        event.listen(engine.sync_engine, "close", home.closed)
        if self.backend.limits_statements:
            event.listen(engine.sync_engine, "before_cursor_execute", self._limit, retval=True)
        orders.listen(engine.sync_engine)
        home.listeners.are_complete()
        self.watch.equip(engine)
        return home

    def _connect(
        self, dialect: Dialect, _entry: object, arguments: list[Any], keywords: dict[str, Any]
    ) -> DBAPIConnection:
        """Open and set up a connection; a cancellation waits until that is done, and closes it."""
        if self.backend.kept is not None:
            return self.backend.kept
        opened: list[DBAPIConnection] = []

        def connect() -> None:
            opened.append(dialect.connect(*arguments, **keywords))
            self.backend.connected(opened[0])

        async def open_whole() -> Finished:
            return await finish(greenlet_spawn(connect))

        done = await_only(open_whole())
        failure = done.cancelled or done.error
        if failure is None:
            return opened[0]
        if opened:
            await_only(finish(greenlet_spawn(opened[0].close)))
        else:
            # aiosqlite's thread tells this loop that it has stopped, and must not find it closed.
            await_only(asyncio.sleep(_THREAD_ENDS_S))
        raise failure

    def _limit(
        self, connection: Connection, _cursor: object, statement: str, parameters: object, *_more: object
    ) -> tuple[str, object]:
        """Tell the database the time limit of the block, since it works on when nobody waits any more."""
        frame = self.frames.get(connection)
        deadline = frame.session.turns.top.deadline if frame is not None else None
        if deadline is not None:
            statement = self.backend.limited(connection, statement, deadline.remaining())
        return statement, parameters

    def _condemn(self, context: ExceptionContext) -> None:
        """Mark the frame whose connection had an error, however the statement got there."""
        frame = self.frames.get(context.connection) if context.connection is not None else None
        if context.connection is not None and frame is not None:
            error = context.sqlalchemy_exception or context.original_exception
            if self.backend.fault_of(context) is Fault.TRANSACTION:
                frame.database_ended(error)
            else:
                frame.database_failed(error, context.connection.get_nested_transaction())


def _short(statement: object) -> str:
    text = " ".join(str(statement).split()) if statement is not None else "none yet"
    return text if len(text) <= _STATEMENT_CHARACTERS else f"{text[:_STATEMENT_CHARACTERS]}…"
