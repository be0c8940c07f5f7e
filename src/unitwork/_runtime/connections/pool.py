"""This module is the pool of a Database: a queue, in which whoever waits is served in its turn.

It knows more of SQLAlchemy's pool than is public: its queue, and how a place in it is counted.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool
from sqlalchemy.pool.base import _ConnectionRecord  # pyright: ignore[reportPrivateUsage]
from sqlalchemy.util import await_only
from sqlalchemy.util.queue import Empty, Full, QueueCommon
from typing_extensions import override

from unitwork._runtime.connections.losses import nothing_stored_with
from unitwork._runtime.context import this_task
from unitwork._sqlalchemy.versions import returned_always

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection


_ONLY_ONE_AFTER_S = 30.0
"""How long the only connection of a pool is waited for, as for those of SQLAlchemy's usual one."""
_PATIENCE_S = 0.005
"""How long whoever waits lets others go first, who return a connection and ask for one again at once."""


class _Turn(asyncio.Future["ConnectionPoolEntry"]):
    """The place of one who waits. Lives: as long as that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.since = loop.time()
        self.task = asyncio.current_task(loop)

    @property
    def waited_s(self) -> float:
        """For how long, by the clock of its event loop."""
        return max(0.0, self.get_loop().time() - self.since)


class HandOverQueue(QueueCommon["ConnectionPoolEntry"]):
    """The idle places of a pool, and who waits for one: in the order in which they came.

    asyncio's queue wakes who waits, and whoever comes meanwhile takes what it was woken for: a task that
    returns a connection and asks for the next one at once would always win. Here it may win for a few
    milliseconds, which costs nobody a turn of the event loop; then what comes back is handed over.
    """

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:  # noqa: FBT001, FBT002  # as SQLAlchemy's
        self.maxsize = maxsize
        self.use_lifo = use_lifo
        self._idle: deque[ConnectionPoolEntry] = deque()
        self._waiting: deque[_Turn] = deque()
        self._will_serve = False

    def waiting(self) -> list[tuple[str, float]]:
        """Return the tasks that wait, in order, and for how many seconds."""
        return [
            (f"task {turn.task.get_name()!r}" if turn.task is not None else "nobody's task", turn.waited_s)
            for turn in list(self._waiting)
            if not turn.done()
        ]

    @property
    def awaited(self) -> bool:
        """Whether somebody waits."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    @override
    def empty(self) -> bool:
        return not self._idle

    @override
    def full(self) -> bool:
        return 0 < self.maxsize <= len(self._idle)

    @override
    def qsize(self) -> int:
        return len(self._idle)

    @override
    def put_nowait(self, item: ConnectionPoolEntry) -> None:
        if self._waiting and self.awaited:
            self._serve_or_soon(item)
        elif 0 < self.maxsize <= len(self._idle):
            raise Full
        else:
            self._idle.append(item)

    def _serve_or_soon(self, item: ConnectionPoolEntry) -> None:
        """Hand over to the first who waits, or let it wait until the code that runs has no use for it."""
        first = self._waiting[0]
        loop = first.get_loop()
        if self.full() or loop.time() - first.since >= _PATIENCE_S:
            self._waiting.popleft().set_result(item)
            return
        self._idle.append(item)
        if not self._will_serve:
            self._will_serve = True
            loop.call_soon(self._serve)

    def _serve(self) -> None:
        self._will_serve = False
        while self._idle and self.awaited:
            self._waiting.popleft().set_result(self.get_nowait())

    @override
    def put(self, item: ConnectionPoolEntry, block: bool = True, timeout: float | None = None) -> None:
        self.put_nowait(item)  # a pool never waits for room: it closes what it has no room for

    @override
    def get_nowait(self) -> ConnectionPoolEntry:
        if not self._idle:
            raise Empty
        return self._idle.pop() if self.use_lifo else self._idle.popleft()

    @override
    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        if self._idle:
            return self._idle.pop() if self.use_lifo else self._idle.popleft()
        if not block:
            raise Empty
        return await_only(self._turn(timeout))

    async def _turn(self, timeout_s: float | None) -> ConnectionPoolEntry:
        loop = asyncio.get_running_loop()
        turn = _Turn(loop)
        self._waiting.append(turn)
        over = loop.call_later(timeout_s, _give_up, turn) if timeout_s is not None else None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.put_nowait(turn.result())  # it was our turn just when we were cancelled
            raise
        finally:
            if over is not None:
                over.cancel()


def _give_up(turn: asyncio.Future[ConnectionPoolEntry]) -> None:
    if not turn.done():
        turn.set_exception(Empty())


def _let_go_of_half_opened(error: BaseException) -> None:
    """Forget what the code that was opening a connection has held when it was interrupted.

    A driver may leave its socket to whoever is last to refer to it. That would be the traceback, for as
    long as somebody keeps the exception, or until the garbage collector finds it.
    """
    if not isinstance(error, Exception):
        traceback.clear_frames(error.__traceback__)


def _cancellations() -> int:
    """Return how often somebody has asked to cancel the task that runs, if one does."""
    task = this_task()
    return task.cancelling() if task is not None else 0


def _hear_of_cancellation(asked_before: int) -> None:
    """Be cancelled, if somebody has asked for that while a connection was opened.

    Drivers that connect with `asyncio.wait_for` hear nothing of it, if the server has just answered: in
    Python 3.11 it returns the answer then.
    """
    if _cancellations() > asked_before:
        raise asyncio.CancelledError


class Place(_ConnectionRecord):
    """The place of one connection in a pool. It is never lost, whatever fails on the way back.

    That is what listeners do there, and what sets an isolation level back. Lives: as long as its pool.
    """

    __slots__ = ()

    is_lent = False
    """It is out without SQLAlchemy's wrapper around it."""

    def __init__(self, pool: Pool, connect: bool = True) -> None:  # noqa: FBT001, FBT002  # as SQLAlchemy's
        asked_before = _cancellations()
        try:
            super().__init__(pool, connect)
            _hear_of_cancellation(asked_before)
        except BaseException as error:
            self._close_what_was_opened()
            _let_go_of_half_opened(error)
            raise

    @override
    def get_connection(self) -> DBAPIConnection:
        if self.is_lent:  # it is wrapped as it is, whatever has become of it
            assert self.dbapi_connection is not None  # noqa: S101  # else it would not have been lent
            return self.dbapi_connection
        held, asked_before = self.dbapi_connection, _cancellations()
        try:
            found = super().get_connection()
            if found is not held:
                _hear_of_cancellation(asked_before)
        except BaseException as error:
            self._close_what_was_opened()
            _let_go_of_half_opened(error)
            raise
        return found

    def _close_what_was_opened(self) -> None:
        """Close a connection that was opened and not set up: a listener failed, or it was interrupted."""
        opened, self.dbapi_connection = self.dbapi_connection, None
        if opened is not None:
            pool = cast("Any", self)._ConnectionRecord__pool  # noqa: SLF001  # see above
            pool._close_connection(opened, terminate=True)  # noqa: SLF001

    def checkin(self, _fairy_was_created: bool = True) -> None:  # noqa: FBT001, FBT002  # as SQLAlchemy's
        self.is_back = False
        try:
            super().checkin(_fairy_was_created)
        except BaseException as error:
            if not self.is_back:
                # Nobody knows how far it got: the next one gets another connection.
                try:
                    self.invalidate(error)
                finally:
                    pool = cast("Any", self)._ConnectionRecord__pool  # noqa: SLF001  # see above
                    pool._return_conn(self)  # noqa: SLF001
            raise


class PlacedConnection(Connection):
    """SQLAlchemy's connection. One that a listener refuses goes back to the pool, not to the collector."""

    def __init__(self, engine: Engine, connection: PoolProxiedConnection | None = None, **more: Any) -> None:
        try:
            super().__init__(engine, connection, **more)
        except BaseException as error:
            held = getattr(self, "_dbapi_connection", None)
            nothing_stored_with(error)
            if connection is None and held is not None:
                held.close()
            raise


class TurnPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool for asyncio, with a queue that hands over, and an end that is one.

    What is returned after `dispose()` is closed. A place that a failed connect gives up goes to the first
    who waits for one.
    """

    _queue_class = HandOverQueue
    _to_wrap: Place | None = None
    disposed = False

    @override
    def dispose(self) -> None:
        self.disposed = True
        super().dispose()

    @override
    def connect(self) -> PoolProxiedConnection:
        return returned_always(super().connect())

    def lend(self) -> Place | None:
        """Take an idle place out as it is, past the wrapper that SQLAlchemy makes around each.

        Where nobody listens to connections being taken: what listeners are told of is the wrapper. None if
        the connection cannot be used as it is.
        """
        place = cast("Place", cast("HandOverQueue", self._pool).get_nowait())
        if place._is_hard_or_soft_invalidated():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see above
            self.bring_back(place)
            return None
        return place

    def bring_back(self, place: Place) -> None:
        """Return a place that was lent."""
        self._do_return_conn(place)

    def wrapped(self, place: Place) -> PoolProxiedConnection:
        """Put SQLAlchemy's wrapper around a place that was lent; from now on it goes back with that."""
        self._to_wrap, place.is_lent = place, True
        try:
            wrapper: Any = Place.checkout(self)
        finally:
            self._to_wrap, place.is_lent = None, False
        wrapper._counter += 1  # noqa: SLF001  # as SQLAlchemy counts who has it
        return returned_always(wrapper)

    @override
    def _do_get(self) -> ConnectionPoolEntry:
        return super()._do_get() if self._to_wrap is None else self._to_wrap

    @override
    def _create_connection(self) -> ConnectionPoolEntry:
        return Place(self)

    @override
    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        cast("Any", record).is_back = True
        if self.disposed:
            record.close()
        super()._do_return_conn(record)

    @override
    def _dec_overflow(self) -> Any:
        queue = cast("HandOverQueue", self._pool)
        if queue.awaited:
            queue.put_nowait(Place(self, connect=False))
            return True
        return super()._dec_overflow()


def queue_of(pool: Pool) -> QueueCommon[ConnectionPoolEntry] | None:
    """Return the idle places of a pool, as far as they are known."""
    return getattr(pool, "_pool", None)


def waiting_for(pool: Pool) -> list[tuple[str, float]]:
    """Return the tasks that wait for a connection, and for how many seconds, as far as the pool knows."""
    queue = getattr(pool, "_pool", None)
    return queue.waiting() if isinstance(queue, HandOverQueue) else []


def serve_in_turn(pool: Pool, *, only_one: bool) -> None:
    """Make the pool of an engine a queue, if it is the usual one, or has one connection for all.

    Args:
        pool: That of an engine, which may be of the caller's own.
        only_one: Whatever size was asked for, there is one connection: it is the database.
    """
    if type(pool) is StaticPool:
        _have_one_in_turn(pool)
    if type(pool) is not AsyncAdaptedQueuePool:
        return
    found: Any = pool
    if found.overflow() >= found._max_overflow > -1:  # noqa: SLF001  # see above
        return  # somebody may wait in its queue now
    idle = found._pool  # noqa: SLF001  # see above
    opened = found.checkedin() + found.checkedout()
    if only_one and opened <= 1:
        turns = HandOverQueue(1)
        found._overflow, found._max_overflow = opened - 1, 0  # noqa: SLF001
    else:
        turns = HandOverQueue(idle.maxsize, use_lifo=idle.use_lifo)
    while not idle.empty():
        place = idle.get_nowait()
        place.__class__ = Place
        turns.put_nowait(place)
    found.__class__ = TurnPool
    found._pool = turns  # noqa: SLF001


def _have_one_in_turn(pool: StaticPool) -> None:
    """Let the one connection of a pool be had by one at a time, unless somebody has it now.

    SQLAlchemy gives it to all at once: the ROLLBACK of one task would undo what another has written.
    """
    found: Any = pool
    place: Any = vars(pool).get("connection")
    if place is not None and place.fairy_ref is not None:
        return
    turns = HandOverQueue(1)
    if place is not None:
        del vars(pool)["connection"]
        place.__class__ = Place
        turns.put_nowait(place)
    found.__class__ = TurnPool
    found._pool = turns  # noqa: SLF001  # see above
    found._overflow = turns.qsize() - 1  # noqa: SLF001
    found._max_overflow = 0  # noqa: SLF001
    found._timeout = _ONLY_ONE_AFTER_S  # noqa: SLF001
    found._overflow_lock = threading.Lock()  # noqa: SLF001
