"""This module lets the tasks that share a session use it one operation at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitwork._runtime.transactions.frame import Frame


class _Waiter:
    """One operation that waits."""

    __slots__ = ("frame", "future", "task")

    def __init__(self, frame: Frame, task: asyncio.Task[Any] | None) -> None:
        self.frame = frame
        self.task = task
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Turns:
    """Who may use a session now. Lives: as long as the session.

    One operation runs at a time, and only one that belongs to the innermost open frame (`top`):
    while a savepoint is open, the tasks outside of it wait until it has ended.
    """

    __slots__ = ("_depth", "_holder", "_later", "_waiting", "top")

    def __init__(self, top: Frame) -> None:
        self.top = top
        self._holder: asyncio.Task[Any] | None = None
        self._depth = 0
        self._waiting: list[_Waiter] = []
        self._later: list[tuple[Frame, Callable[[], None]]] = []

    @property
    def busy(self) -> bool:
        """Whether an operation is running."""
        return self._holder is not None

    @property
    def holder(self) -> asyncio.Task[Any] | None:
        """The task whose operation is running."""
        return self._holder

    @property
    def contested(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    async def take(self, frame: Frame) -> None:
        """Wait for this frame's turn. A task that has the turn may take it again."""
        task = asyncio.current_task()
        if self._holder is None:
            if self.top is frame:
                self._holder, self._depth = task, 1
                return
        elif self._holder is task:
            self._depth += 1
            return
        await self._wait(_Waiter(frame, task))

    def give(self) -> None:
        """End one operation, and wake who is next."""
        self._depth -= 1
        if self._depth == 0:
            self._holder = None
            if self._later:
                self._change()
            if self._waiting:
                self._wake()

    def when_free(self, frame: Frame, change: Callable[[], None]) -> None:
        """Make a change now, or as soon as this frame may go on and no other task is at work.

        SQLAlchemy may be in the middle of a flush, which must not see the session change; and what
        is added while another task's savepoint is open must not be undone with it.
        """
        free = self._holder is None or self._holder is asyncio.current_task()
        if free and self.top is frame:
            change()
        else:
            self._later.append((frame, change))

    def _change(self) -> None:
        # Nothing may be added to what the database has condemned; whoever asked hears of that at the end.
        mark = self.top.condemned
        usable = mark is None or not mark.by_database
        now = [change for frame, change in self._later if frame is self.top and usable]
        self._later = [entry for entry in self._later if entry[0] is not self.top]
        for change in now:
            change()

    def enter(self, frame: Frame) -> None:
        """Make a frame that was just begun the only one that may go on."""
        self.top = frame

    def leave(self, frame: Frame) -> None:
        """Let the frame around this one go on."""
        if self.top is frame and frame.parent is not None:
            self.top = frame.parent
            if self._later and self._holder is None:
                self._change()
            self._wake()

    def close(self, frame: Frame) -> None:
        """End a frame and all frames inside it: what waits for them is told so."""
        inner: Frame | None = self.top
        while inner is not None:
            inner.ended = True
            if inner is frame:
                break
            inner = inner.parent
        for waiter in [waiter for waiter in self._waiting if waiter.frame.ended]:
            self._waiting.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(waiter.frame.ended_error())

    async def quiet(self) -> None:
        """Wait until the operation that is running has ended. Only after `close`."""
        if self._holder is None:
            return
        waiter = _Waiter(self.top, asyncio.current_task())
        self._waiting.insert(0, waiter)
        try:
            await waiter.future
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self._holder, self._depth = None, 0
                self._change()

    def describe(self) -> str:
        """Say who uses the session and who waits, for a person who looks for a deadlock."""
        waiting = ", ".join(f"{_name(w.task)} for {w.frame.owner}" for w in self._waiting) or "nobody"
        return f"running: {_name(self._holder)} in {self.top.owner}; waiting: {waiting}"

    async def _wait(self, waiter: _Waiter) -> None:
        self._waiting.append(waiter)
        try:
            await waiter.future
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif self._holder is waiter.task and waiter.future.done() and not waiter.future.cancelled():
                self.give()
            raise

    def _wake(self) -> None:
        if self._holder is not None:
            return
        for waiter in self._waiting:
            if waiter.frame is self.top and not waiter.future.done():
                self._waiting.remove(waiter)
                self._holder, self._depth = waiter.task, 1
                waiter.future.set_result(None)
                return


def _name(task: asyncio.Task[Any] | None) -> str:
    return "nobody" if task is None else task.get_name()
