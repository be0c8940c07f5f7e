"""This module runs what must not be interrupted, and knows when the time is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from unitwork.errors import TransactionTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

# How long a COMMIT that the database itself was told to give up may take after the deadline.
_GRACE_S = 1.0


class Deadline:
    """The time limit of one block and of what it holds. Lives: as long as the block."""

    __slots__ = ("_timer", "block", "database", "timeout_s")

    def __init__(self, database: str, block: str, timeout_s: float) -> None:
        self.database = database
        self.block = block
        self.timeout_s = timeout_s
        self._timer = asyncio.timeout(timeout_s)

    async def start(self) -> None:
        """Begin to count. When the time is over, the current task is cancelled."""
        await self._timer.__aenter__()

    async def stop(self, error: BaseException | None) -> bool:
        """Stop counting; say whether the time was over and the cancellation was ours."""
        try:
            await self._timer.__aexit__(type(error) if error else None, error, None)
        except TimeoutError:
            return True
        return False

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._timer.expired() or self.remaining() <= 0

    def remaining(self) -> float:
        """Return the seconds that are left, not below zero."""
        when = self._timer.when()
        return max(0.0, when - asyncio.get_running_loop().time()) if when is not None else 0.0

    def error(self) -> TransactionTimeoutError:
        """Build the error for a block that took too long."""
        return TransactionTimeoutError(self.database, self.block, self.timeout_s)

    def check(self) -> None:
        """Refuse to go on after the end, for code that swallowed the cancellation."""
        if self._timer.expired():
            raise self.error()


class Finished(NamedTuple):
    """How work ended, and the cancellation that came meanwhile."""

    error: BaseException | None
    cancelled: asyncio.CancelledError | None
    abandoned: bool


def cancel_again() -> None:
    """Let the cancellation of this task, which had to be caught, come once more at its next `await`."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
        task.cancel()


_NOTHING_HAPPENED = Finished(None, None, abandoned=False)


async def finish(work: Coroutine[Any, Any, object], deadline: Deadline | None = None) -> Finished:
    """Run work to its end, whatever cancels this task; with a deadline, give up soon after it."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    abandoned = False
    while not task.done():
        over = deadline is not None and deadline.passed
        try:
            await asyncio.wait((task,), timeout=_GRACE_S if over else None)
        except asyncio.CancelledError as error:
            cancelled = error
        else:
            if over and not task.done():
                abandoned = task.cancel()
    if task.cancelled():
        return Finished(asyncio.CancelledError(), cancelled, abandoned)
    return Finished(task.exception(), cancelled, abandoned)


def finish_here(work: Coroutine[Any, Any, object]) -> Awaitable[Finished]:
    """As `finish`, without a task of its own: for work that never cancels the task it runs in."""
    return _Here(work)


class _Here:
    """Work that a task does to its end, whatever cancels it. Lives: one `await`."""

    __slots__ = ("_work",)

    def __init__(self, work: Coroutine[Any, Any, object]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, Finished]:
        cancelled: asyncio.CancelledError | None = None
        while True:
            try:
                awaited = self._work.send(None)
            except StopIteration:
                break
            except BaseException as error:  # noqa: BLE001  # handed over, as by `finish`
                return Finished(error, cancelled, abandoned=False)
            waiting = _Waiting(awaited) if asyncio.isfuture(awaited) else None
            try:
                yield waiting or awaited
            except asyncio.CancelledError as error:
                # Else the future was cancelled and not the task, and the work hears of that by itself.
                if waiting is None or waiting.refused:
                    cancelled = error
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException:  # noqa: BLE001, S110  # what the future holds: the work hears of that
                pass
        return _NOTHING_HAPPENED if cancelled is None else Finished(None, cancelled, abandoned=False)


class _Waiting:
    """A future that cannot be cancelled through the task that waits for it. Lives: one wait.

    asyncio tells the task of its cancellation when the future is done.
    """

    __slots__ = ("_asyncio_future_blocking", "_future", "refused")

    def __init__(self, future: Any) -> None:  # noqa: ANN401  # asyncio's, or one like it
        future._asyncio_future_blocking = False  # noqa: SLF001  # see `asyncio.isfuture`
        self._asyncio_future_blocking = True
        self._future = future
        self.refused = False
        """Whether the task was cancelled meanwhile."""

    def __repr__(self) -> str:
        return repr(self._future)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """As `asyncio.Future.get_loop`."""
        loop: asyncio.AbstractEventLoop = self._future.get_loop()
        return loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """As `asyncio.Future.add_done_callback`."""
        self._future.add_done_callback(callback, context=context)

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002  # as `asyncio.Future.cancel`
        """Refuse."""
        self.refused = True
        return False
