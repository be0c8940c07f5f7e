"""This module holds the engines of one Database: one for each event loop that uses it."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from unitwork._runtime.connections.connecting import connect_whole
from unitwork._runtime.connections.idle import Lender
from unitwork._runtime.connections.listeners import EngineListeners
from unitwork._runtime.connections.write_gate import WriteGate
from unitwork.dialects import Fault, orders
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from unitwork._runtime.connections.holders import Holder
    from unitwork._runtime.connections.stand_in import StandIn
    from unitwork.dialects import Backend
    from unitwork.dialects.direct import Direct


class LoopEngine:
    """One engine and the event loop that uses it. Lives: as long as its Database, or the loop.

    Attributes:
        held: Who has which connection: by SQLAlchemy's `Connection`, or what the pool gave out.
        asked_to_open: Who opens a connection where nothing can be waited for is told so.
        doubtful: The connections that the pool will replace when they are asked for.
        lending: The engine of a stand-in for this one, made once, since it knows compiled statements.
    """

    def __init__(self, engine: AsyncEngine, backend: Backend) -> None:
        self.engine = engine
        self._backend = backend
        self.listeners = EngineListeners(engine.sync_engine)
        self.write_gate = WriteGate()
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self.held: dict[object, Holder] = {}
        self.asked_to_open = False
        self.doubtful: set[DBAPIConnection] = set()
        self.lending: AsyncEngine | None = None
        self._connections: set[DBAPIConnection] = set()
        self._lender: Lender | None = None

    def equip(self) -> None:
        """Add what this library listens to."""
        engine, backend = self.engine.sync_engine, self._backend
        backend.install(self.engine)
        event.listen(engine, "handle_error", self._condemn)
        event.listen(engine, "handle_error", self._lost)
        event.listen(engine, "do_connect", self._before_opening)
        if backend.connects_whole:
            event.listen(engine, "do_connect", connect_whole(backend))
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "close", self._closed)
        if backend.limits_statements:
            event.listen(engine, "before_cursor_execute", self._limit, retval=True)
        orders.listen(engine)
        self.listeners.are_complete()

    def lender(self, direct: Direct) -> Lender:
        """Return who lends connections of the pool that the engine has now."""
        pool = self.engine.sync_engine.pool
        lender = self._lender
        if lender is None or lender.pool is not pool:
            audience = self.listeners.of_pool(pool)
            lender = Lender(pool, direct, audience, self.doubtful, may_lend=self.asked_to_open)
            self._lender = lender
        return lender

    def capacity(self) -> int | None:
        """Return how many connections the pool can give out at once; None is without limit."""
        pool: Any = self.engine.pool
        if isinstance(pool, NullPool) or not hasattr(pool, "size"):
            return None
        overflow: int = getattr(pool, "_max_overflow", -1)
        size: int = pool.size()
        return None if overflow < 0 else size + overflow

    def free(self) -> bool:
        """Say whether no loop uses this engine any more, or none has yet."""
        loop = self.loop() if self.loop is not None else None
        return loop is None or loop.is_closed()

    def abandon(self) -> None:
        """Replace the pool, without the event loop that its connections belong to."""
        if not self._backend.shared_between_loops:
            for connection in self._connections:
                with suppress(Exception):
                    self._backend.release(connection.driver_connection)
            self._connections.clear()
            self.doubtful.clear()
        self.held.clear()
        self.write_gate = WriteGate()
        self.engine.sync_engine.dispose(close=False)

    # -- what is heard ---------------------------------------------------------------------------

    def _before_opening(self, *_arguments: object) -> None:
        """Refuse to open a connection for whoever cannot wait for it, before a driver begins to."""
        self.asked_to_open = True
        if not in_greenlet():
            raise MissingGreenlet("a connection is opened where nothing can be waited for")

    def _opened(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        """Remember a connection, to release it when its loop is closed before it is."""
        self._connections.add(connection)

    def _closed(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        self._connections.discard(connection)
        self.doubtful.discard(connection)

    def _lost(self, context: ExceptionContext) -> None:
        """Remember what SQLAlchemy does when a server is gone: it replaces all connections."""
        if context.is_disconnect and context.invalidate_pool_on_disconnect:
            self.doubtful.update(self._connections)

    def _condemn(self, context: ExceptionContext) -> None:
        """Tell whoever has the connection of an error on it, however the statement got there."""
        connection = context.connection
        holder = self.held.get(connection) if connection is not None else None
        if connection is None or holder is None:
            return
        error = context.sqlalchemy_exception or context.original_exception
        if self._backend.fault_of(context) is Fault.TRANSACTION:
            holder.database_ended(error)
        else:
            holder.database_failed(error, connection.get_nested_transaction())

    def _limit(
        self, connection: Connection, _cursor: object, statement: str, parameters: object, *_more: object
    ) -> tuple[str, object]:
        """Tell the database the time limit of the block, since it works on when nobody waits any more."""
        holder = self.held.get(connection)
        seconds = holder.time_left() if holder is not None else None
        if seconds is not None:
            statement = self._backend.limited(connection, statement, seconds)
        return statement, parameters


class Engines:
    """The engines of one Database. Lives: as long as the Database.

    Args:
        database: What the Database is called.
        backend: What its kind of database needs.
        given: An engine of the caller's own, which cannot be doubled.
        make: Makes an engine, where none is given.
        equipped: Called with each engine before it is used.

    Attributes:
        stand_in: What lends in place of the pools now, if anything does.
        disposed: It was disposed of, and not used since.
    """

    def __init__(
        self,
        database: str,
        backend: Backend,
        given: AsyncEngine | None,
        make: Callable[[], AsyncEngine],
        equipped: Callable[[AsyncEngine], None],
    ) -> None:
        self._database = database
        self._backend = backend
        self._make = make
        self._equipped = equipped
        self.given = given is not None
        self.stand_in: StandIn | None = None
        self.disposed = False
        self._moving = threading.Lock()
        self._all = [self._new(given or make())]
        self._current: tuple[asyncio.AbstractEventLoop | None, LoopEngine] = (None, self._all[0])

    def here(self) -> LoopEngine:
        """Return the engine of the loop that runs here; threads may ask at the same time."""
        loop, engine = self._current
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return engine
        return engine if running is loop else self._moved(running)

    def holders(self) -> list[Holder]:
        """Return who has connections of any of the engines."""
        return [holder for engine in self._all for holder in list(engine.held.values())]

    def take(self, connection: Connection, holder: Holder) -> None:
        """Take note of who has a connection."""
        self.here().held[connection] = holder

    def give_back(self, connection: Connection) -> None:
        """Take note that a connection has gone back; its event loop may be gone too."""
        for engine in self._all:
            engine.held.pop(connection, None)

    def replace(self, stand_in: StandIn) -> None:
        """Let all that ask an engine for a connection ask the stand-in."""
        replaced = self.here()
        lending = LoopEngine(stand_in.engine, self._backend)
        lending.held = replaced.held  # where its listeners look, which hear of the stand-in's connections
        self.stand_in = stand_in
        self._current = (stand_in.loop, lending)

    def restore(self) -> None:
        """Take connections from the pools again."""
        _loop, lending = self._current
        lending.held.clear()
        self.stand_in = None
        self._current = (None, self._all[0])

    async def dispose(self) -> None:
        """Close all connections of this loop; forget those of loops that are closed."""
        here = self.here()
        self.disposed = True
        await here.engine.dispose()
        kept, self._backend.kept = self._backend.kept, None
        if kept is not None:
            # It was opened for a pool that is gone, and used by this one never.
            await greenlet_spawn(kept.close)
        with self._moving:
            for engine in self._all:
                if engine is not here and engine.free():
                    engine.abandon()
            self._all = [here, *(engine for engine in self._all if not (engine is here or engine.free()))]
            self._current = (None, here)

    def _moved(self, loop: asyncio.AbstractEventLoop) -> LoopEngine:
        """Make the engine of this loop the current one; adopt a free one, or build another."""
        if self.stand_in is not None and not self.stand_in.loop.is_closed():
            raise self.stand_in.in_another_loop()
        self.stand_in = None
        with self._moving:
            self.disposed = False
            known = [engine for engine in self._all if engine.loop is not None and engine.loop() is loop]
            engine = known[0] if known else self._adopted() or self._twin()
            engine.loop = weakref.ref(loop)
            self._current = (loop, engine)
            return engine

    def _adopted(self) -> LoopEngine | None:
        for engine in self._all:
            if engine.free() or self._backend.shared_between_loops:
                if engine.loop is not None:
                    engine.abandon()
                return engine
        return None

    def _twin(self) -> LoopEngine:
        if self.given:
            raise TransactionRefusedError(
                self._database,
                f"The AsyncEngine of database {self._database!r} is in use on another event loop.",
                "give the Database a URL instead, or dispose of it on the other loop first.",
            )
        engine = self._new(self._make())
        self._all = [engine, *(known for known in self._all if not known.free())]
        return engine

    def _new(self, engine: AsyncEngine) -> LoopEngine:
        new = LoopEngine(engine, self._backend)
        new.equip()
        self._equipped(engine)
        return new
