"""This module holds the one connection that everything runs on while `db.rolled_back()` is open."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.util import greenlet_spawn

from unitwork._runtime import context
from unitwork._runtime.finish import finish
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

T = TypeVar("T")

_PATIENCE_S = 5.0
"""How long nothing may change for somebody who waits; then those in front wait for the one who waits."""
_numbers = itertools.count(1)
_ONE_LOOP = (
    "give the fixture that opens it the loop of the tests; see 'One event loop' in the how-to on tests."
)
_WHO_HAS_LOOPS = [
    "pytest-asyncio: asyncio_default_fixture_loop_scope and asyncio_default_test_loop_scope agree?",
    "Starlette's TestClient runs the application in a loop of its own: use httpx.AsyncClient.",
]


class Level:
    """One transaction of the code under test: a savepoint. Lives: until it ends.

    Args:
        owner: What messages call it.
        frame: The frame of the block that began it; none for a connection by hand.
        task: The task that began it; none when it is around everybody.
        read_only: The database is told to refuse writes.
    """

    __slots__ = ("abandoned", "frame", "kept", "lost", "name", "owner", "read_only", "task")

    def __init__(
        self,
        owner: str,
        frame: Frame | None,
        task: asyncio.Task[Any] | None,
        *,
        read_only: bool,
    ) -> None:
        self.owner = owner
        self.frame = frame
        self.task = task
        self.read_only = read_only
        self.name = f"unitwork_{next(_numbers)}"
        self.abandoned = False
        """Its connection is gone; whoever comes next rolls it back."""
        self.kept = False
        """Committed, while a transaction inside it is still open; released after that."""
        self.lost = False
        """Undone together with a transaction around it."""

    def is_around(self, task: asyncio.Task[Any] | None) -> bool:
        """Say whether the calling code is inside: it would wait for itself."""
        if self.task is None or self.task is task or self.task.done():
            return True
        frame = self.frame
        if frame is None:
            return False
        return any(not scope.outside and scope.frame.key is frame.key for scope in context.open_scopes())


class Borrower(Protocol):
    """Whoever has the connection now."""

    def owner(self) -> str:
        """Say whose it is."""
        ...


class Pinned:
    """The one connection of a Database, and who may use it now. Lives: as long as `rolled_back()`.

    Each transaction is a level: a savepoint inside the one before. A transaction that is begun
    inside another one (of the same task or context, such as REQUIRES_NEW) nests in it; one from
    beside waits until the other has ended.

    Args:
        source: The Database.
        held: The connection, whose transaction has begun.
        engine: What lends it.
    """

    def __init__(self, source: Source, held: AsyncConnection, engine: AsyncEngine) -> None:
        self.source = source
        self.engine = engine
        self.loop = asyncio.get_running_loop()
        self.lent: set[Borrower] = set()
        sync: Any = held.sync_connection
        self.connection: Any = sync.connection.dbapi_connection
        self._driver: Any = sync.connection.driver_connection
        self._held = held
        self._levels: list[Level] = []
        self._wire = asyncio.Lock()
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._sent = ""
        self._has_deferred: object = None
        self._broken: TransactionRefusedError | None = None

    # -- transactions --------------------------------------------------------------------------

    async def begin(self, level: Level, task: asyncio.Task[Any] | None) -> None:
        """Wait until this transaction may begin, and begin it."""
        await self._turn(level.owner, lambda: self._free_for(task))
        self._levels.append(level)
        done = await finish(self._begin(level))
        if done.error is not None:
            self._levels.remove(level)
        elif done.cancelled is not None:
            level.abandoned = True
        failure = done.error or done.cancelled
        if failure is not None:
            self.wake()
            raise failure

    async def keep(self, level: Level, task: asyncio.Task[Any] | None) -> None:
        """Commit: what was done stays until the end of `rolled_back()`."""
        await self._turn(level.owner, lambda: level.lost or self._reaches(level, task))
        if level.lost:
            raise self._lost(level)
        await _whole(self._keep(level))

    async def undo(self, level: Level, task: asyncio.Task[Any] | None) -> None:
        """Roll back, with all that was begun inside and is open still."""
        await self._turn(level.owner, lambda: level.lost or self._reaches(level, task))
        await _whole(self._undo(level))

    async def run(self, level: Level, task: asyncio.Task[Any] | None, sql: str, work: Callable[[], T]) -> T:
        """Do what sends a statement of this transaction, when it may go on."""
        await self._turn(level.owner, lambda: level.lost or self._reaches(level, task))
        if level.lost:
            raise self._lost(level)
        result = await self._send(work, sql)
        self.check()
        return result

    async def _begin(self, level: Level) -> None:
        try:
            await self._control(f"SAVEPOINT {level.name}")
        except Exception as error:
            if self.source.backend.transaction_failed(error):
                raise self._inside_a_failed_one(level) from error
            raise
        if level.read_only:
            await self._narrow(read_only=True)

    async def _keep(self, level: Level) -> None:
        level.kept = True
        try:
            await self._check_deferred(level)
            await self._release_kept()
        except BaseException as error:
            level.kept = False
            if not self.source.backend.transaction_failed(error):
                raise
            await self._undo(level)  # as the server does with a COMMIT after an error, and says nothing

    async def _check_deferred(self, level: Level) -> None:
        """Check what COMMIT would check, where no other transaction is around that has not committed yet."""
        backend = self.source.backend
        if not backend.deferred_exist or any(known.task for known in self._levels if known is not level):
            return
        if self._has_deferred is None:
            self._has_deferred = await self._control(backend.deferred_exist)
        for statement in backend.check_deferred if self._has_deferred else ():
            await self._control(statement)

    async def _release_kept(self) -> None:
        while self._levels and self._levels[-1].kept:
            top = self._levels[-1]
            await self._control(f"RELEASE SAVEPOINT {top.name}")
            self._levels.remove(top)
            await self._ended(top)

    async def _undo(self, level: Level) -> None:
        if level not in self._levels:
            return  # somebody else who found it abandoned was first
        place = self._levels.index(level)
        for inner in self._levels[place + 1 :]:
            inner.lost = True
        del self._levels[place:]
        try:
            await self._control(f"ROLLBACK TO SAVEPOINT {level.name}")
            await self._control(f"RELEASE SAVEPOINT {level.name}")
        finally:
            await self._ended(level)
        await self._release_kept()

    async def _ended(self, level: Level) -> None:
        if level.read_only:
            await self._narrow(read_only=any(around.read_only for around in self._levels))
        self.wake()

    async def _narrow(self, *, read_only: bool) -> None:
        switch = self.source.backend.read_only_switch(on=read_only)
        if switch is not None:
            await self._control(switch)

    def _inside_a_failed_one(self, level: Level) -> TransactionRefusedError:
        around = self._levels[-2].owner if len(self._levels) > 1 else "rolled_back()"
        return TransactionRefusedError(
            self.source.name,
            f"{level.owner} cannot begin under rolled_back(): a statement of {around} around it failed.",
            "let the error end that block, run what may fail with NESTED, or use a database of its own.",
        )

    def _lost(self, level: Level) -> TransactionRefusedError:
        return TransactionRefusedError(
            self.source.name,
            f"The transaction of {level.owner} was undone, with one around it, under rolled_back().",
            "end the one that was begun last first; to test such an order, use a database of its own.",
        )

    # -- the end -------------------------------------------------------------------------------

    @property
    def failure(self) -> TransactionRefusedError | None:
        """Why there is nothing any more that could be rolled back, if there is not."""
        return self._broken

    def open(self) -> list[str]:
        """Say whose connections are still in use."""
        return [lent.owner() for lent in self.lent]

    def waiting(self) -> list[str]:
        """Say who waits for a turn."""
        return list(self._waiting.values())

    async def end(self) -> None:
        """Roll all back and give the connection back, whatever it takes."""
        self._broken = self._broken or TransactionRefusedError(
            self.source.name,
            f"rolled_back() on database {self.source.name!r} has ended, and with it this connection.",
            "let the task that uses it end before `rolled_back()` does.",
        )
        self.wake()
        async with self._wire:
            done = await finish(self._held.rollback())
            if done.error is not None:
                await finish(self._held.invalidate())
            await finish(self._held.close())

    def in_another_loop(self) -> TransactionRefusedError:
        """Build the error for whoever uses the Database in another event loop than `rolled_back()`."""
        return TransactionRefusedError(
            self.source.name,
            f"rolled_back() on database {self.source.name!r} is open in another event loop.",
            _ONE_LOOP,
            _WHO_HAS_LOOPS,
        )

    # -- turns ---------------------------------------------------------------------------------

    def _free_for(self, task: asyncio.Task[Any] | None) -> bool:
        return not self._levels or self._levels[-1].is_around(task)

    def _reaches(self, level: Level, task: asyncio.Task[Any] | None) -> bool:
        return self._levels[-1] is level or self._levels[-1].is_around(task)

    async def _turn(self, who: str, allowed: Callable[[], bool]) -> None:
        while True:
            self.check()
            while self._levels and self._levels[-1].abandoned:
                await _whole(self._undo(self._levels[-1]))
            if allowed():
                return
            await self._wait(who)

    async def _wait(self, who: str) -> None:
        waiter = self.loop.create_future()
        self._waiting[waiter] = who
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await waiter
        except TimeoutError:
            raise self._stuck(who) from None
        finally:
            self._waiting.pop(waiter, None)

    def wake(self) -> None:
        """Let those who wait look again."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _stuck(self, who: str) -> TransactionRefusedError:
        return TransactionRefusedError(
            self.source.name,
            f"{who} waits for a transaction beside it, and under rolled_back() there is one connection.",
            "end that transaction before you wait for this code, or use a database of its own per test.",
            [f"Open: {', '.join(level.owner for level in self._levels)}"],
        )

    # -- the wire ------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to go on when there is no transaction any more that could be rolled back."""
        if self._broken is not None:
            raise self._broken

    async def _control(self, sql: str) -> object:
        """Send a statement of our own; return the first value of what it returns."""

        def work() -> object:
            cursor = self.connection.cursor()
            try:
                cursor.execute(sql)
                return cursor.fetchone()[0] if cursor.description else None
            finally:
                cursor.close()

        try:
            value = await self._send(work, None)
        except Exception as error:
            if self.source.backend.savepoint_is_gone(error):
                self._broken = self._ended_by_database()
                raise self._broken from error
            raise
        self.check()
        return value

    async def _send(self, work: Callable[[], T], sql: str | None) -> T:
        """Do one thing on the connection; where a cancellation would break it, that waits for the end."""
        results: list[T] = []
        async with self._wire:
            self._sent = sql or self._sent
            try:
                if sql is not None and self.source.backend.survives_cancellation(sql):
                    return await greenlet_spawn(work)
                done = await finish(greenlet_spawn(lambda: results.append(work())))
            finally:
                if self._broken is None and not self.source.backend.in_transaction(self._driver):
                    self._broken = self._ended_by_database()
        failure = done.error or done.cancelled
        if failure is not None:
            raise failure
        return results[0]

    def _ended_by_database(self) -> TransactionRefusedError:
        """Build the error for a transaction that the database has ended, so that it cannot be rolled back."""
        return TransactionRefusedError(
            self.source.name,
            f"The transaction of rolled_back() on database {self.source.name!r} was ended by the database.",
            "see the error before this one; to test such code, use a database of its own per test.",
            [f"After: {' '.join(self._sent.split())}"],
        )


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Do several things, all of them whatever cancels this task."""
    done = await finish(work)
    failure = done.error or done.cancelled
    if failure is not None:
        raise failure
