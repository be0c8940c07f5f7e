"""This module holds the session that tasks share: lazy, taking turns, and closed for good."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._runtime.blocks.hand_savepoint import HandSavepoint
from unitwork._runtime.sessions.by_hand import by_hand_refused
from unitwork._runtime.sessions.checks import CheckedSession
from unitwork._runtime.sessions.guard import GuardedSession, guarded_class
from unitwork._runtime.sessions.streams import TurnedResult
from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from sqlalchemy import Connection, Result
    from sqlalchemy.ext.asyncio import AsyncSessionTransaction

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.sessions.turns import Turns
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

_Operation = TypeVar("_Operation", bound=Callable[..., Coroutine[Any, Any, Any]])

_Result = TypeVar("_Result")

_OPERATIONS = (
    "execute",
    "scalar",
    "get",
    "get_one",
    "refresh",
    "flush",
    "connection",
    "run_sync",
    "delete",
    "delete_all",
    "merge",
    "merge_all",
)


def _in_turn(operation: _Operation) -> _Operation:
    """Make an operation of the session wait for its turn, and mark what a failure means."""

    @wraps(operation)
    async def run(self: TurnedSession, *arguments: Any, **keywords: Any) -> object:
        scope, frame = here = self.place()
        frame.admit()
        await self.turns.take(frame)
        failed = True
        outer, self.running_in = self.running_in, here
        try:
            result = await operation(self, *arguments, **keywords)
            failed = False
        except BaseException as error:
            self.failed(scope, frame, error)
            raise
        finally:
            self.running_in = outer
            try:
                if frame.settles:
                    await frame.settle(failed=failed)
            finally:
                self.turns.give()
        return result

    return cast("_Operation", run)


def _begun(operation: _Operation) -> _Operation:
    """Let the session inside begin before an operation of its own."""

    @wraps(operation)
    def run(self: TurnedSession, *arguments: Any, **keywords: Any) -> object:
        if self.started:
            self.begin_as_block()
        return operation(self, *arguments, **keywords)

    return cast("_Operation", run)


class TurnedSession(CheckedSession):
    """An `AsyncSession` that is set up by its first use, and shared by tasks one operation at a time.

    It is closed for good with its block or unit of work. Lives: as long as that.
    """

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        # AsyncSession.__init__ runs with the first use (see __getattr__): an empty block costs nothing.
        self.source = source
        self.turns: Turns
        self.started = False
        self.savepoints: list[HandSavepoint] = []
        self._streams: list[weakref.ref[TurnedResult]] = []
        self.ends_allowed = 0
        # Where the operation is that has the turn: what it sends need not look for that again.
        self.running_in: tuple[Entry | None, Frame] | None = None
        self.loop = loop

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever AsyncSession has
        # Only what is not set yet comes here, so all of AsyncSession's own attributes do, once.
        if name.startswith("__") or self.started:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._start()
        self.begin_as_block()
        return getattr(self, name)

    def __repr__(self) -> str:
        return f"<session of {self.turns.top.owner} on database {self.source.name!r}>"

    def _start(self) -> None:
        _scope, frame = self.place()
        frame.admit()
        options: dict[str, Any] = {"expire_on_commit": False, **self.source.session_options}
        kind = options.pop("sync_session_class", Session)
        engine = self.source.home_engine()
        self.started = True
        try:
            # The connection comes begun (see acquire), and the session ends what it finds.
            super().__init__(
                bind=engine,
                sync_session_class=guarded_class(kind),
                close_resets_only=False,
                join_transaction_mode="control_fully",
                **options,
            )
        except BaseException:
            self.started = False
            raise
        self._guarded.belongs_to(self)

    def holder(self) -> Session:
        """Return the session inside for entities to be held by; it need not have begun for that."""
        if not self.started:
            self._start()
        return self.sync_session

    def begin_as_block(self) -> None:
        """Let the session inside know that a transaction is open, before it does something itself."""
        frame = self.turns.top.root
        if not (self.begun or frame.ended) and frame.transactional:
            Session.begin(self.sync_session)

    def bind_for(self, target: Engine | Connection) -> Engine | Connection:
        """Return what the session shall use in place of an engine of this Database. In a greenlet."""
        if not isinstance(target, Engine) or target is not self.source.home_engine().sync_engine:
            return target
        frame = self.turns.top.root
        return frame.connection or self.acquired(frame)

    def acquired(self, frame: Frame) -> Connection:
        """Check a connection out, and begin. A cancellation reaches the wait for the pool alone."""
        engine = self.source.home_engine().sync_engine
        self.check_starvation(frame)
        backend = self.source.backend
        options = backend.execution_options(frame.mode)
        if backend.one_writer:
            await_only(frame.queue_to_write())
        try:
            connection = engine.connect()
        except BaseException:
            frame.disconnected()
            raise
        frame.connected(connection)
        if backend.begins_silently and not options:
            connection.begin()
            return connection
        done = await_only(frame.see_through(partial(_begin, connection, options)))
        if done.error is not None:
            frame.disconnected()
        if done.cancelled is not None:
            raise done.cancelled from done.error
        if done.error is not None:
            raise done.error
        return connection

    # -- AsyncSession ----------------------------------------------------------------------------

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """As `AsyncSession.add`; refused inside a read-only block."""
        self._add_when_free([instance], warn=_warn)

    def add_all(self, instances: Iterable[object]) -> None:
        """As `AsyncSession.add_all`; refused inside a read-only block."""
        self._add_when_free(list(instances), warn=True)

    def _add_when_free(self, instances: list[object], *, warn: bool) -> None:
        self.check_new(instances)
        # Checked here, where the caller is; it may be added later, in another task's context.
        add = super(GuardedSession, self._guarded).add

        def change() -> None:
            for instance in instances:
                add(instance, _warn=warn)

        self.turns.when_free(self.place()[1], change)

    @property
    def _guarded(self) -> GuardedSession:
        return cast("GuardedSession", self.sync_session)

    async def commit(self) -> None:
        """Commit by hand: in a unit of work; inside a transaction block it is refused."""
        await self._by_hand("commit")

    async def rollback(self) -> None:
        """Roll back by hand: in a unit of work; inside a transaction block it is refused."""
        await self._by_hand("rollback")

    async def close(self) -> None:
        """Close by hand: in a unit of work; inside a transaction block it is refused."""
        await self._by_hand("close")

    async def reset(self) -> None:
        """As `close`."""
        await self._by_hand("close")

    async def invalidate(self) -> None:
        """As `close`."""
        await self._by_hand("close")

    async def _by_hand(self, verb: str) -> None:
        scope, frame = self.place()
        frame.check_open()
        if scope is None:
            raise by_hand_refused(self.source.name, verb, frame.owner)
        await scope.by_hand(verb)

    def begin(self) -> AsyncSessionTransaction:
        """Refused: the block has begun already."""
        _scope, frame = self.place()
        raise by_hand_refused(self.source.name, "begin", frame.owner)

    def begin_nested(self) -> AsyncSessionTransaction:
        """Begin a savepoint by hand; the same as a block with propagation NESTED."""
        return HandSavepoint(self)

    async def end_savepoints(self, frame: Frame, error: BaseException | None) -> None:
        """End the savepoints that were begun by hand inside a frame and are open still."""
        while self.savepoints and self.savepoints[-1].parent is frame:
            await self.savepoints[-1].end(error)

    async def stream(self, *arguments: Any, **keywords: Any) -> AsyncResult[Any]:
        """As `AsyncSession.stream`; without a transaction the rows are fetched at once."""
        _scope, frame = self.place()
        if frame.settles or self.source.backend.one_result_at_a_time:
            options = {**keywords.pop("execution_options", {}), "yield_per": None, "stream_results": False}
            result = await self.execute(*arguments, execution_options=options, **keywords)
            return AsyncResult(result)
        options = {**keywords.pop("execution_options", {}), "stream_results": True}
        result = await self._stream(*arguments, execution_options=options, **keywords)
        turned = TurnedResult(result, self)
        self._streams.append(weakref.ref(turned))
        return turned

    async def close_streams(self) -> None:
        """Close the streamed results that are open still, before their transaction ends."""
        streams, self._streams = self._streams, []
        for known in streams:
            turned = known()
            if turned is not None and not turned.closed:
                await turned.close()

    @_in_turn
    async def in_turn(self, work: Callable[[TurnedSession], Awaitable[_Result]]) -> _Result:
        """Do something with this session when it is this task's turn."""
        return await work(self)

    @_in_turn
    @_begun
    async def _stream(self, *arguments: Any, **keywords: Any) -> Result[Any]:
        return await greenlet_spawn(self.sync_session.execute, *arguments, **keywords)

    async def fetch(self, rows: Coroutine[Any, Any, object]) -> object:
        """Fetch more rows of a streamed result, when it is this task's turn."""
        try:
            scope, frame = self.place()
            frame.admit()
            await self.turns.take(frame)
        except BaseException:
            rows.close()
            raise
        try:
            return await rows
        except BaseException as error:
            self.failed(scope, frame, error)
            raise
        finally:
            self.turns.give()


def _begin(connection: Connection, options: Mapping[str, Any]) -> None:
    try:
        if options:
            _set(connection, options)
        connection.begin()
    except BaseException:
        connection.close()
        raise


def _set(connection: Connection, options: Mapping[str, Any]) -> None:
    """Set the options of a transaction. Some are sent, and SQLAlchemy leaves their errors as they come."""
    try:
        connection.execution_options(**options)
    except SQLAlchemyError:
        raise
    except Exception as error:
        run_on_driver(connection, Failed(f"SET {', '.join(options)}", error))
        raise


for _name in _OPERATIONS:
    setattr(TurnedSession, _name, _in_turn(_begun(getattr(AsyncSession, _name))))
