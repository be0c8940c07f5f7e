"""This module lets the writers of one process take the only write lock of a database in order."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from unitwork._later import later

if TYPE_CHECKING:
    from unitwork._runtime.connections.watch import Watch

if TYPE_CHECKING:
    from unitwork import events
else:  # who is not watched tells nothing
    events = later("unitwork.events")

_PATIENCE_S = 5.0


class Writer(NamedTuple):
    """Who wants to write, or writes.

    Attributes:
        writer: The transaction, or what is inserted.
        owner: What messages call it.
        since: When it came, by the monotonic clock.
    """

    writer: object
    owner: str
    since: float


class WriteGate:
    """A queue before the write lock, for databases whose own waiting is a race. Lives: as long as an engine.

    SQLite's waiters poll, and one of many may lose until its time is over. In the queue a writer holds
    no connection. One that waits for what only its own waiter could end goes on after a while, and hears
    from the database itself that it is locked.

    Attributes:
        inside: Who writes now.
    """

    def __init__(self) -> None:
        self.inside: Writer | None = None
        self._waiting: dict[asyncio.Future[None], Writer] = {}

    def waiting(self) -> list[Writer]:
        """Return who waits, in order."""
        return list(self._waiting.values())

    def enter_at_once(self, writer: object, owner: str) -> bool:
        """Come in, if nobody is inside; say whether it was so."""
        if self.inside is not None:
            return False
        self.inside = Writer(writer, owner, time.monotonic())
        return True

    async def enter(self, writer: object, owner: str, watch: Watch) -> None:
        """Wait until all earlier writers have left, or the first of them has not for some seconds."""
        inside = self.inside
        if inside is None:
            self.enter_at_once(writer, owner)
            return
        coming = Writer(writer, owner, time.monotonic())
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = coming
        try:
            while not turn.done():
                before = self.inside
                await asyncio.wait((turn,), timeout=_PATIENCE_S)
                if self.inside is before:
                    break
        except BaseException:
            self.leave(writer)
            raise
        finally:
            self._waiting.pop(turn, None)
        if watch.active:
            wait_s = time.monotonic() - coming.since
            holder = f"the only write lock, which {inside.owner} had"
            watch.tell(events.TurnAwaited(watch.place()[0], watch.database, wait_s, holder))

    def leave(self, writer: object) -> None:
        """Let the next one in, if this writer is the one inside."""
        if self.inside is None or self.inside.writer is not writer:
            return
        self.inside = None
        for turn in self._waiting:
            self.inside = self._waiting.pop(turn)
            turn.set_result(None)
            return
