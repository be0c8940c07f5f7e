"""This module lends the one connection of `rolled_back()` to all that ask an engine for one."""

from __future__ import annotations

import asyncio
import copy
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from unitwork._runtime.rolled_back.pinned import Level, Pinned
from unitwork._runtime.transactions.connection import Checkout
from unitwork.dialects.backend import LENT
from unitwork.dialects.orders import run_in_its_way
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect, ExceptionContext, ExecutionContext

    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

T = TypeVar("T")


class Lent:
    """The held connection as one borrower sees it: its transactions are savepoints.

    Lives: from check-out to check-in.
    """

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned
        self._level: Level | None = None
        self._frame: Frame | None = None
        self._borrower = asyncio.current_task()
        pinned.lent.add(self)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the driver's connection has
        return getattr(self._pinned.connection, name)

    def owner(self) -> str:
        """Say whose it is."""
        if self._frame is not None:
            return self._frame.owner
        name = self._borrower.get_name() if self._borrower is not None else "nobody"
        return f"a connection by hand in task {name!r}"

    def begin(self, frame: Frame | None, *, read_only: bool, plain: bool) -> None:
        """Begin with a savepoint; without a transaction each statement has one of its own."""
        self._frame = frame
        if plain:
            return
        level = self._new_level(read_only=read_only)
        await_only(self._pinned.begin(level, self._caller()))
        self._level = level

    def taken_for(self, frame: Frame | None) -> None:
        """Take note of the block that it turns out to be taken for, or that it is so no more."""
        self._frame = frame
        if self._level is not None:
            self._level.frame = frame
            self._level.owner = self.owner()

    def commit(self) -> None:
        """Release the savepoint."""
        if self._level is not None:
            await_only(self._pinned.keep(self._level, self._caller()))
            self._level = None

    def rollback(self) -> None:
        """Roll back to the savepoint."""
        level, self._level = self._level, None
        if level is not None:
            await_only(self._pinned.undo(level, self._caller()))

    def run(self, sql: str, work: Callable[[], T]) -> T:
        """Send a statement, when it is its turn."""
        self._refuse_what_commits(sql)
        return await_only(self._run(sql, work))

    def close(self) -> None:
        """Check in. What is still open is rolled back by whoever uses the connection next."""
        self._pinned.lent.discard(self)
        if self._level is not None:
            self._level.abandoned = True
            self._level = None
            self._pinned.wake()

    terminate = close

    async def _run(self, sql: str, work: Callable[[], T]) -> T:
        pinned, caller = self._pinned, self._caller()
        if self._level is not None:
            return await pinned.run(self._level, caller, sql, work)
        level = self._new_level(read_only=False)
        await pinned.begin(level, caller)
        try:
            result = await pinned.run(level, caller, sql, work)
        except BaseException:
            await pinned.undo(level, caller)
            raise
        await pinned.keep(level, caller)
        return result

    def _new_level(self, *, read_only: bool) -> Level:
        return Level(self.owner(), self._frame, self._caller(), read_only=read_only)

    def _caller(self) -> asyncio.Task[Any] | None:
        # BEGIN may run in a task of its own, for the one that has the session's turn.
        holder = self._frame.session.turns.holder if self._frame is not None else None
        return holder or asyncio.current_task()

    def _refuse_what_commits(self, sql: str) -> None:
        source = self._pinned.source
        if source.backend.commits_by_itself(sql):
            raise TransactionRefusedError(
                source.name,
                f"The statement commits on database {source.name!r}: rolled_back() could not undo it.",
                "create tables before `rolled_back()`; test such statements on a database of their own.",
                [f"Statement: {' '.join(sql.split())}"],
            )


class LendingPool(NullPool):
    """A pool that lends the same connection to all who ask."""

    def __init__(self, source: Source, dialect: Dialect) -> None:
        super().__init__(self._lend, reset_on_return=None, dialect=dialect)
        self._source = source

    def _lend(self) -> Any:  # noqa: ANN401  # as a driver's connection
        pinned = pinned_on(self._source)
        if pinned is None:
            raise TransactionRefusedError(
                self._source.name,
                f"An engine or session of rolled_back() on database {self._source.name!r} is used after it.",
                "take `db.engine` and `db.session_factory` anew in each test.",
            )
        pinned.check()
        return Lent(pinned)

    def checkedout(self) -> int:
        """Return how many connections are lent."""
        pinned = pinned_on(self._source)
        return len(pinned.lent) if pinned is not None else 0


class LendingEngine(OptionEngine):
    """An engine that lends the held connection. What listens on its original hears it too."""

    def __init__(self, source: Source, original: Engine) -> None:
        dialect = _lending(original.dialect)
        self._lending = LendingPool(source, dialect)
        super().__init__(original, {LENT: True})
        self.dialect = dialect
        event.listen(self, "begin", partial(_begin, source))

    @property
    def pool(self) -> LendingPool:  # type: ignore[override]  # fixed, where SQLAlchemy's may be replaced
        """The pool that lends."""
        return self._lending

    def dispose(self, close: bool = True) -> None:  # noqa: FBT001, FBT002  # as SQLAlchemy's
        """Nothing: the connection is not this engine's own."""


def pinned_on(source: Source) -> Pinned | None:
    """Return the one connection of a Database, while `rolled_back()` is open."""
    return cast("Pinned | None", source.engines.stand_in)


async def pin(source: Source) -> None:
    """Take one connection, begin, and let all that ask an engine for one have that."""
    home = source.home()
    held = await home.engine.connect()
    try:
        await held.begin()
        await held.exec_driver_sql("SELECT 1")  # BEGIN may wait for a statement
    except BaseException:
        await held.close()
        raise
    if home.lending is None:
        # Not before the first connection, from which a dialect learns what the server can.
        home.lending = AsyncEngine(LendingEngine(source, home.engine.sync_engine))
    source.engines.replace(Pinned(source, held, home.lending))


def _begin(source: Source, connection: Connection) -> None:
    mode = source.backend.mode_of(connection.get_execution_options())
    holder = source.home().held.get(connection)
    frame = cast("Frame", holder.frame) if isinstance(holder, Checkout) else None
    _lent(connection).begin(frame, read_only=mode.read_only, plain=mode.autocommit)


def _lent(connection: Connection) -> Lent:
    return cast("Lent", connection.connection.dbapi_connection)


class _Listeners:
    """The listeners of a dialect, without those that run a statement: `_execute` calls them in turn."""

    do_execute = do_executemany = do_execute_no_params = ()

    def __init__(self, original: Any) -> None:  # noqa: ANN401  # SQLAlchemy's dispatcher
        self._original = original

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any kind of listeners
        return getattr(self._original, name)

    @property
    def handle_error(self) -> Iterable[Any]:
        return (*self._original.handle_error, _keep_connection)


def _lending(original: Dialect) -> Dialect:
    """Copy a dialect, so that it sends each statement in turn, and sets nothing on the connection."""
    dialect: Any = copy.copy(original)
    own = vars(dialect)
    own.pop("_reset_characteristics", None)  # that of the original sets them back on its own connections
    own["_has_events"] = True
    own["dispatch"] = _Listeners(original.dispatch)
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        own[name] = partial(_execute, original, name)
    for name in ("do_savepoint", "do_rollback_to_savepoint", "do_release_savepoint"):
        own[name] = partial(_mark, getattr(original, name))
    for name in ("set_isolation_level", "reset_isolation_level", "set_readonly", "set_deferrable"):
        own[name] = _set_nothing
    lending: Dialect = dialect
    return lending


def _execute(original: Any, name: str, cursor: Any, sql: str, *more: Any) -> None:  # noqa: ANN401  # the driver's
    context: ExecutionContext = more[-1]

    def work() -> None:
        if run_in_its_way(cursor, context):
            return
        if not any(run(cursor, sql, *more) for run in getattr(original.dispatch, name)):
            getattr(original, name)(cursor, sql, *more)

    _lent(context.root_connection).run(sql, work)


def _mark(send: Callable[[Connection, str], None], connection: Connection, name: str) -> None:
    """Name a savepoint so that no transaction around has one of the same name, which MariaDB would drop."""
    send(connection, f"{name}_{id(_lent(connection))}")


def _set_nothing(_connection: DBAPIConnection, *_value: object) -> None:
    """The transaction has begun: `mode_of` tells the savepoint what can still be told."""


def _keep_connection(context: ExceptionContext) -> None:
    # A cancelled statement leaves the held connection whole, see `Pinned`.
    if not isinstance(context.original_exception, Exception):
        context.is_disconnect = False
