"""This module strikes running programs: at an await that is counted, by a clock that can be moved."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from typing_extensions import override

T = TypeVar("T")

LIMIT_S = 20.0
"""The `timeout` of a block that has one. No real time passes that long."""

PASSES_S = 25.0
"""How far the clock is moved on: less than a pool or a driver waits for a connection."""


class MovableClock(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on: what waits for a time then finds that it has come."""

    moved_s = 0.0

    @override
    def time(self) -> float:
        """The seconds of the clock."""
        return super().time() + self.moved_s

    def let_time_pass(self) -> None:
        """Move the clock on by more than any block has."""
        self.moved_s += PASSES_S


class Counted(Coroutine[Any, Any, T]):
    """A coroutine that tells of each of its awaits, and of the first cancellation that reaches it."""

    def __init__(
        self, inner: Coroutine[Any, Any, T], waits: Callable[[], None], cancelled: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._waits = waits
        self._cancelled = cancelled

    @override
    def send(self, value: Any) -> Any:
        """Go on to the next await."""
        awaited = self._inner.send(value)
        self._waits()
        return awaited

    @override
    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        if isinstance(error[0], asyncio.CancelledError) or error[0] is asyncio.CancelledError:
            self._cancelled()
        awaited = self._inner.throw(*error)
        self._waits()
        return awaited

    @override
    def close(self) -> None:
        """End it."""
        self._inner.close()

    @override
    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()


class Hangs(Exception):  # noqa: N818  # what it is
    """A program does not end. Its text is where each task stands."""


async def watched(task: asyncio.Task[T], patience_s: float) -> T:
    """Wait for a task; it is told where everybody stands if that takes for ever.

    The watchdog decides no outcome: a program takes some milliseconds, and is given many seconds
    of a clock that programs do not move.

    Raises:
        Hangs: It did not end.
    """
    loop = asyncio.get_running_loop()
    alarm: asyncio.Future[None] = loop.create_future()
    timer = threading.Timer(patience_s, lambda: loop.call_soon_threadsafe(_ring, alarm))
    timer.daemon = True
    timer.start()
    try:
        waiting: set[asyncio.Future[Any]] = {task, alarm}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Hangs(stacks(asyncio.all_tasks() - {asyncio.current_task()}))
    finally:
        timer.cancel()
        alarm.cancel()


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)


def stacks(tasks: set[asyncio.Task[Any]]) -> str:
    """Where each task stands."""
    said = []
    for task in tasks:
        said.append(f"{task.get_name()}:")
        for frame in task.get_stack():
            said += traceback.format_stack(frame, limit=1)
        said.append(f"  {_awaited(task.get_coro())}")
    return "\n".join(said)


def _awaited(coroutine: Any) -> str:  # noqa: ANN401  # whatever is awaited
    """The chain of what waits for what."""
    chain = []
    coroutine = getattr(coroutine, "_inner", coroutine)
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
        chain.append(f"{name}:{frame.f_lineno}" if frame else name)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return " > ".join(chain)
