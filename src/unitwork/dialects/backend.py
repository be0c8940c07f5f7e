"""This module says what a database may need, and what most of them do."""

from __future__ import annotations

import enum
import socket
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.exc import DBAPIError, InvalidRequestError

from unitwork._logic.writes import ends_transaction
from unitwork.errors import OptionError
from unitwork.options import Isolation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._sqlalchemy.lazy import LazyConnection
    from unitwork.dialects.direct import Direct
    from unitwork.dialects.replication import Replication


class Telling(Protocol):
    """Told of a statement that was sent."""

    def __call__(self, sql: str, started: float, connection: Connection, /) -> None:
        """Take note of it; `started` is by `time.perf_counter()`."""


class BeginMode(NamedTuple):
    """How a connection begins its transactions; one engine variant exists for each."""

    read_only: bool = False
    isolation: Isolation | None = None
    autocommit: bool = False
    fresh: bool = False
    """From the primary, whoever else could answer."""


READ_WRITE = BeginMode()

CLOSED_TWICE = "This connection is closed"
"""What SQLAlchemy's pool says when a connection and the one in its place had ended before they were used."""

CHECKOUT = "unitwork_checkout"
"""Where the information about a connection says what it was taken for, if that is a block."""

_backends: WeakKeyDictionary[Dialect, WeakSet[Backend]] = WeakKeyDictionary()
"""Those of each engine: one that was given may serve several Databases."""

LENT = "unitwork_lent"
"""The execution option of a connection that is lent: its transactions are savepoints of another one."""


class Fault(enum.Enum):
    """What a database error means for the transaction."""

    STATEMENT = enum.auto()
    """The statement failed; a savepoint around it can be rolled back."""
    TRANSACTION = enum.auto()
    """The database has ended the whole transaction, savepoints included."""


def close_socket(transport: Any) -> None:  # noqa: ANN401  # of any event loop
    """Close the socket of a transport whose loop is closed, so that nothing waits for the collector."""
    connection = getattr(transport, "_sock", None)
    if connection is not None:
        transport._sock = None  # noqa: SLF001  # the loop that could do it is gone
        connection.close()


def shut_down(connection: Any) -> None:  # noqa: ANN401  # a socket, or asyncio's view of one
    """End both directions of a socket: whoever waits for it hears of that."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def backends_on(dialect: Dialect) -> Iterable[Backend]:
    """Return that of each Database on an engine."""
    return _backends.get(dialect, ())


def told_of(dialect: Dialect) -> Sequence[Telling]:
    """Return what tells the observers of each Database on an engine of what is sent past its cursors."""
    return [backend.tell for backend in backends_on(dialect) if backend.tell is not None]


class Backend:
    """What one kind of database needs. This one is for databases that need nothing special."""

    extra = ""
    direct: Direct | None = None
    """How the driver is asked without SQLAlchemy's cursors, if that is known."""
    one_writer = False
    """Only one transaction at a time can write; a second one of the same task would wait forever."""
    begins_ahead = False
    """What begins a transaction can be sent outside of a greenlet (`begin`)."""
    sets_silently = False
    """To set the options of a transaction sends nothing."""
    begins_silently = True
    """BEGIN without options sends nothing by itself: it travels with the first statement, or never."""

    connects_whole = False
    """Opening a connection is quick, and must not be interrupted half way: it holds locks meanwhile."""
    one_result_at_a_time = False
    """A connection cannot send another statement while a streamed result is open."""
    cancels_itself = True
    """The driver may end its own waiting by cancelling the task that waits, as `asyncio.timeout` does."""
    deferred_exist = ""
    """A query: whether there are constraints that are checked by COMMIT, if the database has such."""
    check_deferred: tuple[str, ...] = ()
    """What checks them now, in a transaction that goes on."""
    limits_statements = False
    """Each statement of a block with a time limit is to be changed by `limited`."""
    replication: Replication | None = None
    """How its servers are asked for their part in a cluster, if that is known."""
    connect_limit: Mapping[str, Any] = MappingProxyType({})
    """What makes the driver give up a server that does not answer, where there are others."""
    fails_as_a_whole = False
    """After a statement that has failed, its transaction can only roll back: the server refuses all else."""
    may_end_inside = False
    """A statement may end the transaction that it is sent in, and the driver does not tell."""
    shared_between_loops = False
    """All event loops must use one engine, because another one would be another database."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.dialect = url.get_backend_name()
        """What SQLAlchemy calls this kind of database."""
        self.kept: DBAPIConnection | None = None
        """A connection that a new pool must use again, instead of opening one."""
        self.tell: Telling | None = None
        """Told of what is sent past all cursors, such as BEGIN, while somebody observes."""
        self.beginnings: dict[BeginMode, Any] = {}
        """What is known of how its transactions begin, by their modes."""
        self.transaction_pooling = False
        """Each transaction may run on another connection of the server, which a pooler chooses."""

    def engine_options(self) -> Mapping[str, Any]:
        """Return defaults for `create_async_engine`; what the user passes comes first."""
        return {"pool_use_lifo": True}

    def begin_by_hand(self, *, immediate: bool | None, given: bool) -> None:  # noqa: ARG002  # for those that can
        """Say how sessions and connections by hand begin.

        Args:
            immediate: Whether they take the lock to write at once; None where nobody has said so.
            given: The engine is the program's own.

        Raises:
            OptionError: It was said, and the database has no such lock.
        """
        if immediate is not None:
            raise OptionError("begin_immediate", immediate, [f"it for SQLite: this is {self.dialect}"])

    def expect_transaction_pooling(self) -> None:
        """Rely on nothing of the server's connection that outlives a transaction.

        Raises:
            OptionError: There are no such poolers for this kind of database, or this driver.
        """
        why = f"it is for PostgreSQL with asyncpg or psycopg, and this is {self.url.drivername}"
        raise OptionError("transaction_pooling", value=True, allowed=[f"False: {why}"])

    def install(self, engine: AsyncEngine) -> None:
        """Add the listeners that this database needs to an engine."""

    def serve(self, engine: AsyncEngine) -> None:
        """Be one of those on an engine: observers of each hear what is sent past its cursors."""
        _backends.setdefault(engine.sync_engine.dialect, WeakSet()).add(self)

    def connected(self, connection: DBAPIConnection) -> None:
        """Set up a connection that was just opened, if opening it must not be interrupted."""

    def opened_before(self, connection: DBAPIConnection) -> bool:  # noqa: ARG002  # for those that need it
        """Set up a connection that was opened before the engine was known. In a greenlet.

        False if another one must be opened in its place.
        """
        return True

    def end_transaction(self, connection: DBAPIConnection) -> None:
        """Roll back what a loop that is closed has left open on a connection that is kept. In a greenlet."""
        if self.in_transaction(connection.driver_connection):
            connection.rollback()

    async def begin(self, connection: Connection) -> None:
        """Begin on a connection; for those that can send what does so ahead of SQLAlchemy."""
        raise NotImplementedError

    def begins_lazily(self, mode: BeginMode) -> bool:
        """Say whether transactions of this mode can begin with their first statement, unless it is heard."""
        return self.begins_silently and not self.execution_options(mode)

    def begin_with_next(self, connection: LazyConnection) -> bool:  # noqa: ARG002  # for those that send something
        """Let what begins a transaction go with its first statement, if it can; say whether it does."""
        return True

    def forget_beginning(self, connection: LazyConnection) -> None:
        """Send nothing more of what was to begin a transaction, and set back what was set: it ends."""

    def execution_options(self, mode: BeginMode) -> Mapping[str, Any]:
        """Return the execution options that make an engine begin in this mode."""
        options: dict[str, Any] = {}
        if mode.autocommit:
            options["isolation_level"] = "AUTOCOMMIT"
        elif mode.isolation is not None:
            options["isolation_level"] = mode.isolation.value
        return options

    def survives_cancellation(self, sql: str) -> bool:  # noqa: ARG002  # for those that know
        """Say whether the connection and its transaction are whole after this statement was cancelled."""
        return False

    def mode_of(self, options: Mapping[str, Any]) -> BeginMode:
        """Return what execution options ask for: the way back from `execution_options`."""
        return BeginMode(autocommit=options.get("isolation_level") == "AUTOCOMMIT")

    def read_only_switch(self, *, on: bool) -> str | None:  # noqa: ARG002  # for those that can
        """Return what makes a savepoint read-only, and what makes the one around it writable again."""
        return None

    def commits_by_itself(self, sql: str) -> bool:
        """Say whether a statement ends the open transaction: by its words, or as DDL does on MariaDB."""
        return ends_transaction(sql, self.url.get_backend_name())

    def savepoint_is_gone(self, error: BaseException) -> bool:  # noqa: ARG002  # for those that know
        """Say whether an error of a driver means that the transaction of a savepoint has ended."""
        return False

    def is_closed(self, connection: DBAPIConnection) -> bool:  # noqa: ARG002  # for those that know
        """Say whether the driver knows that an idle connection is closed. Sends nothing."""
        return False

    def transaction_failed(self, error: BaseException) -> bool:  # noqa: ARG002  # for those that do
        """Say whether a statement was refused because one before it has failed in the same transaction."""
        return False

    def in_transaction(self, driver_connection: Any) -> bool:  # noqa: ANN401, ARG002  # of any driver
        """Say whether a transaction is open, as far as the driver knows without asking."""
        return True

    def has_ended_unseen(self, connection: DBAPIConnection) -> bool:  # noqa: ARG002  # for those that know
        """Say whether a transaction has begun on the connection, and the driver knows that it is over."""
        return False

    def has_failed_unseen(self, connection: DBAPIConnection) -> bool:  # noqa: ARG002  # as above
        """Say whether something has failed after which COMMIT does no more than roll back. In a greenlet."""
        return False

    def fault_of(self, context: ExceptionContext) -> Fault:
        """Say how far a database error reaches."""
        lost = context.is_disconnect or not isinstance(context.original_exception, Exception)
        return Fault.TRANSACTION if lost else Fault.STATEMENT

    def limited(self, connection: Connection, statement: str, seconds: float) -> str:  # noqa: ARG002  # for those that can
        """Return a statement that the database gives up after this time."""
        return statement

    def limit_commit(self, connection: Connection, seconds: float) -> None:
        """Make the database give up COMMIT after this time, if it can."""

    def takes_no_writes(self, error: BaseException) -> bool:  # noqa: ARG002  # for those that know
        """Say whether the server refuses writes, or all statements: it is a replica now, or about to stop."""
        return False

    def reads_on_replicas(self, mode: BeginMode) -> bool:
        """Say whether a replica can give a transaction of this mode."""
        return mode.read_only and not mode.fresh

    def may_be_stored(self, error: BaseException) -> bool:
        """Say whether a COMMIT that failed with this error may be stored all the same."""
        return isinstance(error, OSError) or (isinstance(error, DBAPIError) and error.connection_invalidated)

    def is_retryable(self, error: BaseException) -> bool:  # noqa: ARG002  # for those that know
        """Say whether the same work may succeed when it is done again from the beginning."""
        return False

    def is_lost(self, error: BaseException) -> bool:
        """Say whether a connection was lost, or could not be made, and another one may be had in a while."""
        if isinstance(error, InvalidRequestError):
            return str(error) == CLOSED_TWICE
        return isinstance(error, DBAPIError) and error.connection_invalidated

    def is_timeout(self, error: BaseException) -> bool:  # noqa: ARG002  # for those that know
        """Say whether the database itself gave up because its time limit was over."""
        return False

    def sever(self, driver_connection: Any) -> None:  # noqa: ANN401  # of any driver
        """Break a connection under what waits for its server, so that it fails at once."""

    def release(self, driver_connection: Any) -> None:  # noqa: ANN401  # of any driver
        """Free what a connection of a closed event loop holds, without that loop."""
