"""This module lets the tasks that share a session use it one operation at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from unitwork._later import later
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.transactions.frame import Frame

Place: TypeAlias = "tuple[OpenScope | None, Frame]"
"""The scope, if there is one, and the frame that some code is in."""

if TYPE_CHECKING:
    from unitwork import events
else:  # who is not watched tells nothing
    events = later("unitwork.events")


class _Waiter:
    """One operation that waits."""

    __slots__ = ("frame", "future", "only_at_rest", "since", "task")

    def __init__(self, frame: Frame, task: asyncio.Task[Any] | None, *, only_at_rest: bool = False) -> None:
        self.frame = frame
        self.task = task
        self.only_at_rest = only_at_rest
        self.since = time.monotonic()
        self.future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Turns:
    """Who may use a session now. Lives: as long as the session.

    One operation runs at a time, and only one that belongs to the innermost open frame (`top`), or to the
    unit of work whose transaction that is: while a savepoint is open, the tasks outside of it wait until it
    has ended.
    """

    __slots__ = ("__weakref__", "_depth", "_interruption", "_later", "_waiting", "holder", "top")

    def __init__(self, top: Frame) -> None:
        self.top = top
        self.holder: asyncio.Task[Any] | None = None
        """The task whose operation is running."""
        self._depth = 0
        self._waiting: list[_Waiter] = []
        self._later: list[tuple[Frame, Callable[[], None]]] = []
        self._interruption: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether an operation is running."""
        return self.holder is not None

    @property
    def contested(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    # -- one operation -------------------------------------------------------------------------

    async def take(self, frame: Frame) -> None:
        """Wait for this frame's turn. A task that has the turn may take it again."""
        if not self.take_at_once(frame):
            if self.is_lost_to(frame):
                raise _waits_for_itself(frame, self.top)
            await self._wait(_Waiter(frame.seat, asyncio.current_task()))

    def take_at_once(self, frame: Frame) -> bool:
        """Take this frame's turn, if that needs no waiting; say whether it did."""
        task = asyncio.current_task()
        if self.holder is None:
            if self._admits(frame):
                self.holder, self._depth = task, 1
                return True
        elif self.holder is task:
            self._depth += 1
            return True
        return False

    def is_lost_to(self, frame: Frame) -> bool:
        """Say whether this task would wait for itself, or for nobody: a generator holds what is open inside.

        The block was entered by this very task, in a generator that goes on only when this task asks it to;
        or by a task that has ended.
        """
        if self._admits(frame):
            return False
        entered_by = self.top.entered_by
        if entered_by is None:
            return False
        task = entered_by()
        return task is None or task is asyncio.current_task() or task.done()

    async def take_at_rest(self, frame: Frame) -> bool:
        """As `take`, for a unit of work at rest; False as soon as a block of another task covers it."""
        if not self._admits(frame):
            return False
        if self.take_at_once(frame):
            return True
        return await self._wait(_Waiter(frame.seat, asyncio.current_task(), only_at_rest=True))

    def give(self) -> None:
        """End one operation, and wake who is next."""
        self._depth -= 1
        if self._depth == 0:
            self._let_go()

    def _let_go(self) -> None:
        self.holder = None
        try:
            if self._later:
                self._change()
        finally:
            if self._waiting:
                self._wake()

    def _admits(self, frame: Frame) -> bool:
        top = self.top
        if frame is top:
            return True
        seat = frame.seat
        return seat is top or (top.base is not None and top.base.seat is seat)

    def when_free(self, frame: Frame, change: Callable[[], None]) -> None:
        """Make a change now, or as soon as this frame may go on and no other task is at work.

        SQLAlchemy may be in the middle of a flush, which must not see the session change; and what
        is added while another task's savepoint is open must not be undone with it.
        """
        free = self.holder is None or self.holder is asyncio.current_task()
        if free and self._admits(frame):
            change()
        else:
            self._later.append((frame, change))

    def _change(self) -> None:
        now = [entry for entry in self._later if self._admits(entry[0])]
        self._later = [entry for entry in self._later if entry not in now]
        for frame, change in now:
            # Nothing may be added to what the database has condemned; whoever asked hears of that at the end.
            mark = self.top.condemned
            if mark is not None and mark.by_database:
                continue
            try:
                change()
            except Exception as error:  # noqa: BLE001  # who asked is gone on: the block tells it
                frame.current.condemn(frame.owner, error)

    # -- frames --------------------------------------------------------------------------------

    def enter(self, frame: Frame) -> None:
        """Make a frame that was just begun the only one that may go on."""
        self.top = frame
        if not self._waiting:
            return
        for waiter in [waiter for waiter in self._waiting if waiter.only_at_rest]:
            if not self._admits(waiter.frame):
                self._waiting.remove(waiter)
                if not waiter.future.done():
                    waiter.future.set_result(False)

    def leave(self, frame: Frame) -> None:
        """Let the frame around this one go on."""
        if self.top is frame and frame.parent is not None:
            self.top = frame.parent.seat
            if self.holder is None:
                self._let_go()

    def close(self, frame: Frame) -> list[Frame]:
        """End a frame and all frames inside it: what waits for them is told so. Return those inside."""
        inside: list[Frame] = []
        if self.top is frame and not self._waiting:
            frame.close()
            return inside
        open_frame: Frame | None = self.top
        while open_frame is not None:
            open_frame.close()
            if open_frame is frame:
                break
            inside.append(open_frame)
            open_frame = open_frame.parent
        self.top = frame
        if not self._waiting:
            return inside
        for waiter in [waiter for waiter in self._waiting if waiter.frame.ended]:
            base = waiter.frame.base
            if base is not None and not base.ended:
                waiter.frame = base.seat  # the unit of work goes on without this transaction
                continue
            self._waiting.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(waiter.frame.ended_error())
        return inside

    def succeed(self, frame: Frame, following: Frame) -> None:
        """Let whoever waits for a frame that has ended go on in the one after it; those inside are undone."""
        frame.base = following
        for inside in self.close(frame):
            inside.rolled_back()
            if inside.hooks_or_none is not None:
                frame.hooks.after_rollback += inside.hooks.after_rollback
                frame.hooks.at_end += inside.hooks.at_end
        self.top = following
        self._wake()

    def keep(self) -> None:
        """Take the turn for what ends a frame: nobody is at work, after `close` and `quiet`."""
        task = asyncio.current_task()
        if self.holder is task:
            self._depth += 1
        else:
            self.holder, self._depth = task, 1

    async def quiet(self) -> None:
        """Wait until the operation that is running has ended. Only after `close`."""
        if self.holder is None:
            return
        waiter = _Waiter(self.top, asyncio.current_task())
        holder = self._awaited_by(waiter)
        self._waiting.insert(0, waiter)
        try:
            await waiter.future
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self.holder, self._depth = None, 0
                self._change()
        _tell(waiter, holder)

    # -- interruption --------------------------------------------------------------------------

    def interrupt(self, error: BaseException) -> None:
        """Stop the operation that is running: its task gets this error there, and is not cancelled."""
        if self.holder is not None and self.holder is not asyncio.current_task():
            self._interruption = error
            self.holder.cancel()

    def interruption(self) -> BaseException | None:
        """Return the error that the operation of this task was stopped with, once, if it was."""
        error, self._interruption = self._interruption, None
        if error is not None and self.holder is not None:
            self.holder.uncancel()
        return error

    def describe(self) -> str:
        """Say who uses the session and who waits, for a person who looks for a deadlock."""
        waiting = ", ".join(f"{task} for {owner}" for task, owner, _since in self.waiting()) or "nobody"
        return f"running: {_name(self.holder)} in {self.top.owner}; waiting: {waiting}"

    def runs(self) -> tuple[str | None, str]:
        """Return the task whose operation runs, if one does, and the block that may go on."""
        return _name(self.holder) if self.holder is not None else None, self.top.owner

    def waiting(self) -> list[tuple[str, str, float]]:
        """Return the tasks that wait, in order: for which block, and since when by the monotonic clock."""
        return [(_name(waiter.task), waiter.frame.owner, waiter.since) for waiter in list(self._waiting)]

    def _awaited_by(self, waiter: _Waiter) -> str | None:
        """Take note that somebody waits; return for what, if anybody observes."""
        source = waiter.frame.source
        source.awaited.add(self)
        if not source.watch.active:
            return None
        task, owner = self.runs()
        return owner if task is None else f"task {task!r} in {owner}"

    async def _wait(self, waiter: _Waiter) -> bool:
        holder = self._awaited_by(waiter)
        self._waiting.append(waiter)
        try:
            got = await waiter.future
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif (
                self.holder is waiter.task
                and waiter.future.done()
                and not waiter.future.cancelled()
                and waiter.future.exception() is None
            ):
                self.give()
            raise
        if got:
            _tell(waiter, holder)
        return got

    def _wake(self) -> None:
        if self.holder is not None:
            return
        for waiter in self._waiting:
            if self._admits(waiter.frame) and not waiter.future.done():
                self._waiting.remove(waiter)
                self.holder, self._depth = waiter.task, 1
                waiter.future.set_result(True)
                return


def _tell(waiter: _Waiter, holder: str | None) -> None:
    """Tell observers of a wait that is over."""
    watch = waiter.frame.source.watch
    if holder is not None and watch.active:
        wait_s = time.monotonic() - waiter.since
        watch.tell(events.TurnAwaited(watch.place()[0], watch.database, wait_s, holder))


def _waits_for_itself(frame: Frame, inside: Frame) -> TransactionRefusedError:
    name = frame.source.name
    return TransactionRefusedError(
        name,
        f"Work in {frame.owner} on database {name!r} is refused while {inside.owner} is open inside of it,"
        f" in a generator that waits to be asked for its next item.",
        "read all of the generator first, or give its block propagation REQUIRES_NEW.",
    )


def _name(task: asyncio.Task[Any] | None) -> str:
    return "nobody" if task is None else task.get_name()
