"""This module runs what must not be interrupted, and knows when the time is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from unitwork.errors import TransactionTimeoutError

if TYPE_CHECKING:
    from collections.abc import Coroutine

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


NOTHING_HAPPENED = Finished(None, None, abandoned=False)


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
