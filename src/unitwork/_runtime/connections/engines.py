"""This module holds the engines of one Database: one for each event loop that uses it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, MissingGreenlet
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from unitwork._runtime.connections.connecting import connect_whole
from unitwork._runtime.connections.idle import Lender
from unitwork._runtime.connections.listeners import EngineListeners
from unitwork._runtime.connections.pool import serve_in_turn
from unitwork._runtime.connections.write_gate import WriteGate
from unitwork._runtime.finish import cancel_again
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

_FORESEEN = "skip_user_error_events"
"""What SQLAlchemy marks a statement with whose error is an answer."""


_of_this_process: weakref.WeakSet[Engines] = weakref.WeakSet()
_of_the_parent: list[object] = []
"""What would close connections of the parent process if a child let go of it."""


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
        self._unusable: set[DBAPIConnection] = set()
        self._lender: Lender | None = None

    def equip(self) -> None:
        """Add what this library listens to."""
        engine, backend = self.engine.sync_engine, self._backend
        serve_in_turn(engine.pool)
        backend.install(self.engine)
        self._keep_places()
        event.listen(engine, "handle_error", self._condemn)
        event.listen(engine, "handle_error", self._lost)
        event.listen(engine, "do_connect", self._before_opening)
        if backend.connects_whole:
            event.listen(engine, "do_connect", connect_whole(backend))
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "close", self._closed)
        event.listen(engine, "checkout", self._refuse_unusable)
        if backend.limits_statements:
            event.listen(engine, "before_cursor_execute", self._limit, retval=True)
        orders.listen(engine)
        self.listeners.are_complete()

    def forked(self) -> None:
        """Replace the pool in a child process. What is known of the connections is kept, and not used."""
        _of_the_parent.append((self.engine.sync_engine.pool, self._connections, self.held))
        self._connections, self.held = set(), {}
        self.doubtful.clear()
        self._unusable.clear()
        self.loop = None
        self.write_gate = WriteGate()
        self.engine.sync_engine.dispose(close=False)

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
            self._unusable.clear()
        self.held.clear()
        self.write_gate = WriteGate()
        self.engine.sync_engine.dispose(close=False)

    # -- what is heard ---------------------------------------------------------------------------

    def _keep_places(self) -> None:
        """Keep the place of a connection in the pool when it is lost while what was set on it is set back.

        SQLAlchemy does that on the way back to the pool, and an error there loses the place for good.
        """
        dialect: Any = self.engine.sync_engine.dialect
        set_back = dialect._reset_characteristics  # noqa: SLF001  # no event tells of it

        def set_back_or_replace(characteristics: object, connection: DBAPIConnection) -> None:
            try:
                set_back(characteristics, connection)
            except BaseException as error:
                self._unusable.add(connection)
                self.doubtful.add(connection)
                if isinstance(error, asyncio.CancelledError):
                    cancel_again()
                elif not isinstance(error, Exception):
                    raise

        vars(dialect)["_reset_characteristics"] = set_back_or_replace

    def _refuse_unusable(
        self, connection: DBAPIConnection, _entry: ConnectionPoolEntry, _given: object
    ) -> None:
        """Let the pool replace a connection that is known to be closed, or not as it was."""
        if connection in self._unusable or self._backend.is_closed(connection):
            raise DisconnectionError("the connection was closed while nobody used it")

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
        self._unusable.discard(connection)

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
        sent = context.execution_context
        if sent is not None and sent.execution_options.get(_FORESEEN):
            return  # SQLAlchemy asks whether a table exists, and reads the answer from the error
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
        self._lost = False
        self._all = [self._new(given or make())]
        self._current: tuple[asyncio.AbstractEventLoop | None, LoopEngine] = (None, self._all[0])
        _of_this_process.add(self)

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
        pool = here.engine.sync_engine.pool
        await here.engine.dispose()
        kept, self._backend.kept = self._backend.kept, None
        if kept is not None and not _is_out(pool):
            # It was opened for a pool that is gone, and used by this one never.
            await greenlet_spawn(kept.close)
        with self._moving:
            for engine in self._all:
                if engine is not here and engine.free():
                    engine.abandon()
            self._all = [here, *(engine for engine in self._all if not (engine is here or engine.free()))]
            self._current = (None, here)

    def forked(self) -> None:
        """Begin anew in a child process; the connections are those of the parent, and are not touched."""
        self._moving = threading.Lock()
        used = [engine for engine in self._all if engine.loop is not None]
        self._lost = bool(used) and self._backend.kept is not None
        for engine in used:
            engine.forked()
        self.stand_in = None
        self._current = (None, self._all[0])

    def _moved(self, loop: asyncio.AbstractEventLoop) -> LoopEngine:
        """Make the engine of this loop the current one; adopt a free one, or build another."""
        if self._lost:
            raise self._refused(
                "is in the memory of the process that this one was forked from.",
                "make the Database after the fork, or keep its rows in a file.",
            )
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
                self._refuse_to_share(engine)
                if engine.loop is not None:
                    engine.abandon()
                return engine
        return None

    def _refuse_to_share(self, engine: LoopEngine) -> None:
        """Refuse the one connection of a database in memory to a second loop while the first one uses it."""
        loop = engine.loop() if engine.loop is not None else None
        if loop is None or loop.is_closed():
            return
        if loop.is_running() or _is_out(engine.engine.sync_engine.pool):
            raise self._refused(
                "is in memory, and in use on another event loop.",
                "use it in one loop at a time, or keep its rows in a file.",
            )

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

    def elsewhere(self) -> TransactionRefusedError:
        """Build the error for a statement that a session routes to an engine of another database."""
        return self._refused(
            "has an engine of its own, and the session routes a statement to another one.",
            "make a Database for each engine, and open a block on it; drop `binds` or `get_bind`.",
        )

    def _refused(self, problem: str, fix: str) -> TransactionRefusedError:
        return TransactionRefusedError(self._database, f"Database {self._database!r} {problem}", fix)

    def _new(self, engine: AsyncEngine) -> LoopEngine:
        new = LoopEngine(engine, self._backend)
        new.equip()
        self._equipped(engine)
        return new


def _is_out(pool: Any) -> bool:  # noqa: ANN401  # of any class
    """Say whether somebody has a connection of this pool, as far as it can tell."""
    return hasattr(pool, "checkedout") and pool.checkedout() > 0


def _begin_anew() -> None:
    for engines in list(_of_this_process):
        engines.forked()


if hasattr(os, "register_at_fork"):  # where a process can be forked at all
    os.register_at_fork(after_in_child=_begin_anew)
