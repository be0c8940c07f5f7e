"""This module holds one engine, and the event loop that uses it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, MissingGreenlet
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool
from sqlalchemy.util.concurrency import in_greenlet

from unitwork._runtime.connections.connecting import after_others, connect_whole
from unitwork._runtime.connections.idle import Lender
from unitwork._runtime.connections.listeners import EngineListeners
from unitwork._runtime.connections.pool import PlacedConnection, serve_in_turn
from unitwork._runtime.connections.prepared import PreparedStatements
from unitwork._runtime.connections.write_gate import WriteGate
from unitwork._sqlalchemy.versions import keep_first_error
from unitwork.dialects import Fault, orders
from unitwork.errors import OptionError

if TYPE_CHECKING:
    import asyncio
    import weakref
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from unitwork._runtime.connections.holders import Holder
    from unitwork._runtime.connections.pool_watch import PoolWatch
    from unitwork.dialects import Backend

INSTEAD_OF_AUTOCOMMIT = (
    "another one: a block could roll nothing back. For single statements by hand write "
    "`db.engine.execution_options(isolation_level='AUTOCOMMIT')`"
)
_FORESEEN = "skip_user_error_events"
"""What SQLAlchemy marks a statement with whose error is an answer."""
_EQUIPPED = "unitwork_equipped"
"""What the information about a connection says that was opened, or set up, by an engine of ours."""
_EARLY: Any = object()
"""Stands for connections that were opened before."""
_of_the_parent: list[object] = []
"""What would close connections of the parent process if a child let go of it."""


class Heard(Protocol):
    """The engines that one is among."""

    def let_hear(self, engine: LoopEngine) -> None:
        """Let those who listen to an engine that the program knows hear of this one, too."""
        ...


class LoopEngine:
    """One engine and the event loop that uses it. Lives: as long as its Database, or the loop.

    Attributes:
        held: Who has which connection: by SQLAlchemy's `Connection`, or what the pool gave out.
        asked_to_open: Who opens a connection where nothing can be waited for is told so.
        doubtful: The connections that the pool will replace, or set up, when they are asked for.
        prepared: What the driver has prepared on its connections.
        lending: The engine of a stand-in for this one, made once, since it knows compiled statements.
    """

    def __init__(self, engine: AsyncEngine, backend: Backend) -> None:
        self.engine = engine
        self._backend = backend
        self.listeners = EngineListeners(engine.sync_engine)
        self.prepared = PreparedStatements(engine.sync_engine, backend.direct)
        self.write_gate = WriteGate()
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self.held: dict[object, Holder] = {}
        self.asked_to_open = False
        self.doubtful: set[DBAPIConnection] = set()
        self.lending: AsyncEngine | None = None
        self.pool_watch: PoolWatch | None = None
        """What tells observers of its connections."""
        self.engines: Heard | None = None
        """Those that it is one of."""
        self._connections: set[DBAPIConnection] = set()
        self._unusable: set[DBAPIConnection] = set()
        self._early = 0
        """How many connections there may be that were opened before: by whoever has made the engine."""
        self._lender: Lender | None = None

    def equip(self) -> None:
        """Add what this library listens to."""
        engine, backend = self.engine.sync_engine, self._backend
        serve_in_turn(engine.pool, only_one=backend.shared_between_loops)
        if isinstance(engine.pool, AsyncAdaptedQueuePool):
            self._expect(engine.pool.checkedin() + engine.pool.checkedout())
        vars(engine)["_connection_cls"] = PlacedConnection
        backend.install(self.engine)
        keep_first_error(engine.dialect)
        self.prepared.equip()
        self._forgive_losses()
        event.listen(engine, "handle_error", self._tell_failure)
        event.listen(engine, "handle_error", self._leave_what_takes_no_writes)
        event.listen(engine, "handle_error", self._condemn)
        event.listen(engine, "handle_error", self._lost)
        event.listen(engine, "handle_error", self._never_had)
        event.listen(engine, "handle_error", _hand_on_notes)
        event.listen(engine, "do_connect", self._before_opening)
        if backend.connects_whole:
            event.listen(engine, "do_connect", after_others(connect_whole(backend), backend.opened_before))
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "close", self._closed)
        event.listen(engine, "checkout", self._refuse_unusable)
        # Not heard as an event: one of the engine itself makes each connection look for listeners of its own.
        vars(engine)["update_execution_options"] = self._without_autocommit(engine.update_execution_options)
        if backend.may_end_inside:
            event.listen(engine, "before_cursor_execute", self._before)
            event.listen(engine, "after_cursor_execute", self._after)
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
        self._early = 0
        self.loop = None
        self.write_gate = WriteGate()
        self.engine.sync_engine.dispose(close=False)

    def lender(self) -> Lender:
        """Return who lends connections of the pool that the engine has now."""
        pool = self.engine.sync_engine.pool
        lender = self._lender
        if lender is None or lender.pool is not pool:
            lender = Lender(self.engine.sync_engine, self._backend, self.listeners, self.doubtful)
            self._lender = lender
        lender.may_lend = self.asked_to_open
        return lender

    def capacity(self) -> int | None:
        """Return how many connections the pool can give out at once; None is without limit."""
        pool: Any = self.engine.pool
        if isinstance(pool, NullPool) or not hasattr(pool, "size"):
            return None
        overflow: int = getattr(pool, "_max_overflow", -1)
        size: int = pool.size()
        return None if overflow < 0 else size + overflow

    def in_use(self) -> int:
        """Return how many connections are checked out."""
        pool: Any = self.engine.pool
        return int(pool.checkedout()) if hasattr(pool, "checkedout") else len(self.held)

    def leave_server(self) -> None:
        """Close all connections under those who have them: their server has no part in this any more."""
        for connection in list(self._connections):
            with suppress(Exception):
                self._backend.sever(connection.driver_connection)
            self._unusable.add(connection)
            self.doubtful.add(connection)

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
            self._early = 0
        self.held.clear()
        self.write_gate = WriteGate()
        self.engine.sync_engine.dispose(close=False)

    # -- what is heard ---------------------------------------------------------------------------

    def _forgive_losses(self) -> None:
        """Let the pool replace a connection that is lost while what was set on it is set back.

        SQLAlchemy does that on the way back to the pool, when all that was asked for is done.
        """
        dialect: Any = self.engine.sync_engine.dialect
        set_back = dialect._reset_characteristics  # noqa: SLF001  # no event tells of it

        def set_back_or_replace(characteristics: object, connection: DBAPIConnection) -> None:
            try:
                set_back(characteristics, connection)
            except Exception:  # noqa: BLE001  # any driver's
                self._unusable.add(connection)
                self.doubtful.add(connection)

        vars(dialect)["_reset_characteristics"] = set_back_or_replace

    def _refuse_unusable(
        self, connection: DBAPIConnection, entry: ConnectionPoolEntry, _given: object
    ) -> None:
        """Let the pool replace a connection that is known to be closed, or not as it was.

        One that was opened before there was a Database is set up, where that can be waited for.
        """
        if connection in self._unusable or self._backend.is_closed(connection):
            raise DisconnectionError("the connection was closed while nobody used it")
        if connection not in self._connections:
            self._set_up(connection, entry)

    def _set_up(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        """Set up a connection that was opened before the engine was given to a Database; or replace it."""
        if _EQUIPPED not in entry.info and not isinstance(self.engine.pool, StaticPool):
            try:
                is_as_ours = self._backend.opened_before(connection)
            except Exception as error:
                raise DisconnectionError("the connection could not be set up") from error
            if not is_as_ours:
                raise DisconnectionError("the connection was opened for other uses")
        entry.info[_EQUIPPED] = True
        self._connections.add(connection)
        self._expect(self._early - 1)

    def _expect(self, early: int) -> None:
        """Take note of how many connections may be left that must be set up first, which takes a greenlet."""
        self._early = max(early, 0)
        (self.doubtful.add if self._early else self.doubtful.discard)(_EARLY)

    def _without_autocommit(self, update: Callable[..., None]) -> Callable[..., None]:
        """Refuse what would make each statement of a block commit; an engine made of this one may do so."""

        def update_execution_options(**options: Any) -> None:
            if commits_by_itself(options.get("isolation_level")):
                raise OptionError("isolation_level", options["isolation_level"], [INSTEAD_OF_AUTOCOMMIT])
            update(**options)

        return update_execution_options

    def _before_opening(self, *_arguments: object) -> None:
        """Refuse to open a connection for whoever cannot wait for it, before a driver begins to."""
        self.asked_to_open = True
        if self.engines is not None:
            self.engines.let_hear(self)
        if not in_greenlet():
            raise MissingGreenlet("a connection is opened where nothing can be waited for")

    def _opened(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        """Remember a connection, to release it when its loop is closed before it is."""
        self._connections.add(connection)
        entry.info[_EQUIPPED] = True
        if self.pool_watch is not None:
            self.pool_watch.opened(entry)

    def _closed(self, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        if self._early and connection not in self._connections:
            self._expect(self._early - 1)
        self._connections.discard(connection)
        self.doubtful.discard(connection)
        self._unusable.discard(connection)

    def _lost(self, context: ExceptionContext) -> None:
        """Remember what SQLAlchemy does when a server is gone: it replaces all connections."""
        if context.is_disconnect and context.invalidate_pool_on_disconnect:
            self.doubtful.update(self._connections)

    def _tell_failure(self, context: ExceptionContext) -> None:
        """Let observers hear of a statement that has failed before they hear of what that has led to."""
        if self.listeners.of_failures is not None:
            self.listeners.of_failures(context)

    def _leave_what_takes_no_writes(self, context: ExceptionContext) -> None:
        """Count a server as gone that refuses writes; the next connections look for one that takes them."""
        error, connection = context.original_exception, context.connection
        holder = self.held.get(connection) if connection is not None else None
        if holder is not None and holder.may_write and self._backend.takes_no_writes(error):
            context.is_disconnect = True

    def _never_had(self, context: ExceptionContext) -> None:
        """Let the error of a connection that could not be made say what that of a lost one says.

        Drivers differ in that; of the connections that there are it says nothing, so it comes after `_lost`.
        """
        if context.connection is None and self._backend.is_lost(context.original_exception):
            context.is_disconnect = True

    def _condemn(self, context: ExceptionContext) -> None:
        """Tell whoever has the connection of an error on it, however the statement got there."""
        connection = context.connection
        holder = self.held.get(connection) if connection is not None else None
        if connection is None or holder is None:
            return
        sent = context.execution_context
        if sent is not None and sent.execution_options.get(_FORESEEN):
            return  # SQLAlchemy asks whether a table exists, and reads the answer from the error
        if orders.failed_by_its_feed(context):
            return  # whoever has sent it says what has failed
        error = context.sqlalchemy_exception or context.original_exception
        if self._backend.fault_of(context) is Fault.TRANSACTION:
            holder.database_ended(error)
        else:
            holder.database_failed(error, connection.get_nested_transaction())

    def _before(self, connection: Connection, _cursor: object, statement: str, *_more: object) -> None:
        """Tell whoever has the connection what is about to be sent."""
        holder = self.held.get(connection)
        if holder is not None:
            holder.before_statement(statement)

    def _after(self, connection: Connection, *_more: object) -> None:
        """Tell whoever has the connection that it was sent."""
        holder = self.held.get(connection)
        if holder is not None:
            holder.after_statement()

    def _limit(
        self, connection: Connection, _cursor: object, statement: str, parameters: object, *_more: object
    ) -> tuple[str, object]:
        """Tell the database the time limit of the block, since it works on when nobody waits any more."""
        holder = self.held.get(connection)
        seconds = holder.time_left() if holder is not None else None
        if seconds is not None:
            statement = self._backend.limited(connection, statement, seconds)
        return statement, parameters


def _hand_on_notes(context: ExceptionContext) -> None:
    """Say of an error what was said of the driver's, which SQLAlchemy puts into its own."""
    told = context.sqlalchemy_exception
    for note in getattr(context.original_exception, "__notes__", ()):
        if told is not None and note not in getattr(told, "__notes__", ()):
            told.add_note(note)


def commits_by_itself(isolation_level: object) -> bool:
    """Say whether an isolation level makes each statement commit by itself."""
    return isinstance(isolation_level, str) and isolation_level.upper() == "AUTOCOMMIT"
