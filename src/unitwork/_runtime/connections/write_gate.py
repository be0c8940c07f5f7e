"""This module lets the writers of one process take the only write lock of a database in order."""

from __future__ import annotations

import asyncio

_PATIENCE_S = 5.0


class WriteGate:
    """A queue before the write lock, for databases whose own waiting is a race. Lives: as long as an engine.

    SQLite's waiters poll, and one of many may lose until its time is over. In the queue a writer holds
    no connection. One that waits for what only its own waiter could end goes on after a while, and hears
    from the database itself that it is locked.
    """

    def __init__(self) -> None:
        self._holder: object = None
        self._waiting: dict[asyncio.Future[None], object] = {}

    async def enter(self, writer: object) -> None:
        """Wait until all earlier writers have left, or the first of them has not for some seconds."""
        if self._holder is None:
            self._holder = writer
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = writer
        try:
            while not turn.done():
                before = self._holder
                await asyncio.wait((turn,), timeout=_PATIENCE_S)
                if self._holder is before:
                    break
        except BaseException:
            self.leave(writer)
            raise
        finally:
            self._waiting.pop(turn, None)

    def leave(self, writer: object) -> None:
        """Let the next one in, if this writer is the one inside."""
        if self._holder is not writer:
            return
        self._holder = None
        for turn in self._waiting:
            self._holder = self._waiting.pop(turn)
            turn.set_result(None)
            return
