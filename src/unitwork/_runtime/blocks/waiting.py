"""This module waits for what another task still does in a block that ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from unitwork._runtime.deadline import over, remaining_s

if TYPE_CHECKING:
    from unitwork._runtime.sessions.turns import Turns
    from unitwork._runtime.transactions.frame import Frame


async def last_operation(
    frame: Frame, turns: Turns
) -> tuple[BaseException | None, asyncio.CancelledError | None]:
    """Wait for the operation that still runs, in a frame that lets nobody in any more.

    When the time limit is over, or this task has been cancelled for a while, it is stopped: its task gets the
    reason as an error. When that does not help, the connection is broken under it.

    Returns:
        What went wrong, and the cancellation that came meanwhile.
    """
    cancelled: asyncio.CancelledError | None = None
    waiting = asyncio.ensure_future(turns.quiet())
    stopped = False
    while not waiting.done():
        left = remaining_s(frame.limits)
        if stopped or (left is None and cancelled is not None):
            left = frame.source.grace_s
        try:
            await asyncio.wait((waiting,), timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
            continue
        if waiting.done() or turns.holder is waiting:
            continue  # the operation has just ended, and nothing is to be stopped any more
        if stopped:
            frame.root.sever()
        else:
            limit = over(frame.limits)
            turns.interrupt(limit.error() if limit is not None else frame.ended_error())
            stopped = True
    return waiting.exception(), cancelled
