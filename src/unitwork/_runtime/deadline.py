"""This module holds the time limit of a block, and what is left of several."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from unitwork.errors import TransactionTimeoutError


class Deadline:
    """The time limit of one block and of all that is inside. Lives: as long as the block.

    A task that outlives the block may still have it around itself; it has ended then, and limits nothing.
    """

    __slots__ = ("_timer", "block", "database", "ended", "started", "timeout_s")

    def __init__(self, database: str, block: str, timeout_s: float) -> None:
        self.database = database
        self.block = block
        self.timeout_s = timeout_s
        self.started = self.ended = False
        self._timer = asyncio.timeout(timeout_s)

    async def start(self) -> None:
        """Begin to count. When the time is over, the current task is cancelled."""
        self.started = True
        await self._timer.__aenter__()

    async def stop(self, error: BaseException | None) -> bool:
        """Stop counting; say whether the time was over and the cancellation was ours."""
        self.ended = True
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


Limits: TypeAlias = tuple[Deadline, ...]
"""The time limits of a block and of those around it, which may end before it does."""


def remaining_s(limits: Limits) -> float | None:
    """Return the seconds until the first of some time limits is over; None if none counts any more."""
    return min((limit.remaining() for limit in limits if not limit.ended), default=None)


def over(limits: Limits) -> Deadline | None:
    """Return a time limit that is over, if one is."""
    return next((limit for limit in limits if not limit.ended and limit.passed), None)


def check(limits: Limits) -> None:
    """Refuse to go on after the end, for code that swallowed the cancellation.

    Raises:
        TransactionTimeoutError: A time limit is over.
    """
    limit = over(limits)
    if limit is not None:
        raise limit.error()
