"""This module sees work through that must not be interrupted, for as long as somebody has patience."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from unitwork._runtime.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

    from unitwork._runtime.deadline import Limits


class Patience(NamedTuple):
    """How long work is waited for once its time is over, or its task is cancelled."""

    grace_s: float
    limits: Limits = ()
    sever: Callable[[], None] | None = None
    """Breaks the connection under the work, so that it fails at once."""

    def gives_up_at(self, now: float, cancelled_at: float | None) -> float | None:
        """Return the time of the event loop after which the work is given up; None is never."""
        left = remaining_s(self.limits)
        ends = [end for end in (cancelled_at, None if left is None else now + left) if end is not None]
        return min(ends) + self.grace_s if ends else None


class Finished(NamedTuple):
    """How work ended, and the cancellation that came meanwhile."""

    error: BaseException | None
    cancelled: asyncio.CancelledError | None
    abandoned: bool
    """Whether it was given up: what it has done is not known."""

    def tell(self) -> None:
        """Raise what has come meanwhile: the cancellation, or else the error."""
        if self.cancelled is not None:
            raise self.cancelled from self.error
        if self.error is not None:
            raise self.error


_NOTHING_HAPPENED = Finished(None, None, abandoned=False)


async def finish(work: Coroutine[Any, Any, object], patience: Patience | None = None) -> Finished:
    """Run work to its end, whatever cancels this task; with patience, as long as that lasts."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    cancelled_at: float | None = None
    while not task.done():
        now = loop.time()
        end = patience.gives_up_at(now, cancelled_at) if patience is not None else None
        try:
            if end is None or end > now:
                await asyncio.wait((task,), timeout=None if end is None else end - now)
            elif patience is not None:
                return await _give_up(task, patience, cancelled)
        except asyncio.CancelledError as error:
            cancelled = error
            cancelled_at = cancelled_at or loop.time()
    return Finished(_outcome(task), cancelled, abandoned=False)


async def _give_up(
    task: asyncio.Task[object], patience: Patience, cancelled: asyncio.CancelledError | None
) -> Finished:
    """Break the connection under the work, and wait a last time; what does not end then is left alone."""
    if patience.sever is not None:
        patience.sever()
    task.cancel()
    try:
        await asyncio.wait((task,), timeout=patience.grace_s)
    except asyncio.CancelledError as error:
        cancelled = error
    if task.done():
        return Finished(_outcome(task), cancelled, abandoned=True)
    task.add_done_callback(_outcome)  # nobody else asks for it
    return Finished(TimeoutError("the database did not answer"), cancelled, abandoned=True)


def _outcome(task: asyncio.Task[object]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def finish_here(work: Coroutine[Any, Any, object], patience: Patience | None = None) -> Awaitable[Finished]:
    """As `finish`, without a task of its own: for work that never cancels the task it runs in."""
    return _Here(work, patience)


class _Here:
    """Work that a task does to its end, whatever cancels it. Lives: one `await`."""

    __slots__ = ("_abandoned", "_patience", "_timer", "_work")

    def __init__(self, work: Coroutine[Any, Any, object], patience: Patience | None) -> None:
        self._work = work
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._abandoned = False

    def __await__(self) -> Generator[Any, Any, Finished]:  # noqa: C901  # one story: send, wait, hear, again
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                try:
                    awaited = self._work.send(None)
                except StopIteration:
                    break
                except BaseException as error:  # noqa: BLE001  # handed over, as by `finish`
                    return Finished(error, cancelled, self._abandoned)
                waiting = _Waiting(awaited, self._cancelled) if asyncio.isfuture(awaited) else None
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
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if cancelled is None and not self._abandoned:
            return _NOTHING_HAPPENED
        return Finished(None, cancelled, self._abandoned)

    def _cancelled(self, loop: asyncio.AbstractEventLoop) -> None:
        """The task was cancelled: patience ends some time after that."""
        if self._patience is not None and self._timer is None and self._patience.sever is not None:
            self._timer = loop.call_later(self._patience.grace_s, self._give_up, self._patience.sever)

    def _give_up(self, sever: Callable[[], None]) -> None:
        self._abandoned = True
        sever()


class _Waiting:
    """A future that cannot be cancelled through the task that waits for it. Lives: one wait.

    asyncio tells the task of its cancellation when the future is done.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_future", "refused")

    def __init__(self, future: Any, cancelled: Callable[[asyncio.AbstractEventLoop], None]) -> None:  # noqa: ANN401  # asyncio's, or one like it
        future._asyncio_future_blocking = False  # noqa: SLF001  # see `asyncio.isfuture`
        self._asyncio_future_blocking = True
        self._future = future
        self._cancelled = cancelled
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
        self._cancelled(self.get_loop())  # none may be running: at its end, a loop cancels from outside
        return False
