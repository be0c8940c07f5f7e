"""This module asks the servers of a Database, again and again, what they are and how far they have come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from unitwork._logic.freshness import BEGINNING
from unitwork._runtime import context
from unitwork._runtime.finish import finish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from unitwork._logic.positions import Position
    from unitwork._runtime.connections.server import Server
    from unitwork.dialects.replication import Replication

_PAUSE_S = 0.002
"""Between two rounds that somebody waits for."""
_HURRIED_S = 0.05
_HASTY_ROUNDS = 20
"""How many rounds come one soon after the other at first: replicas must be seen to catch up."""
_REST_S = 1.0
"""Between two rounds that nobody waits for."""
_ANSWER_S = 1.0
_CONNECT_S = 3.0
_REMEMBERED = 256


class Sampling:
    """The one background task of a Database, with a connection of its own to each server.

    Lives: from the first read that may go to a replica until its event loop ends, or the Database is
    disposed of.

    Args:
        servers: All of them.
        replication: How they are asked.
        engine_for: Makes what opens the one connection to a server.
        primary: Returns the server that takes writes.
        judge: Called after each round, to draw conclusions.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        replication: Replication,
        engine_for: Callable[[Server], AsyncEngine],
        primary: Callable[[], Server],
        judge: Callable[[], None],
    ) -> None:
        self._servers = servers
        self._replication = replication
        self._engine_for = engine_for
        self._primary = primary
        self._judge = judge
        self._engines: dict[Server, AsyncEngine] = {}
        self._connections: dict[Server, AsyncConnection] = {}
        self._written: deque[tuple[float, Position]] = deque(maxlen=_REMEMBERED)
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._round = asyncio.Event()
        self._waiting = 0
        self._ended_at = BEGINNING
        self.rounds = 0
        """How many have ended."""

    def start(self, name: str) -> None:
        """Begin, unless it has."""
        if self._task is None or self._task.done():
            self._is_over = False
            self._task = context.start_outside(self._run(), name)

    def hurry(self) -> None:
        """Let the next round begin, unless one has ended just now. Waits for nothing."""
        if time.monotonic() - self._ended_at >= _HURRIED_S:
            self._wanted.set()

    async def next_round(self, within_s: float, *, whole: bool = False) -> bool:
        """Wait for the end of a round; say whether it came in time.

        Args:
            within_s: How many seconds to wait.
            whole: For one that has begun after this moment, and has asked silent servers too.
        """
        self._asks_whole = self._asks_whole or whole
        over = time.monotonic() + within_s
        # The one that runs may have asked already.
        wanted = self.rounds + (2 if whole and self._is_asking else 1)
        self._waiting += 1
        self._wanted.set()
        try:
            while self.rounds < wanted:
                left = over - time.monotonic()
                if left <= 0:
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._round.wait()
        finally:
            self._waiting -= 1
        return True

    def written_since(self, moment: float) -> Position | None:
        """Return where the primary was at some moment after this one; None if it was not asked since."""
        return next((position for asked_at, position in self._written if asked_at >= moment), None)

    async def stop(self) -> None:
        """End, and close its connections."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            # Python 3.11's `wait_for`, which asyncmy connects with, may swallow a cancellation.
            self._is_over = True
            self._wanted.set()
            task.cancel()
            await asyncio.wait((task,))

    # -- the task --------------------------------------------------------------------------------

    _is_asking = _asks_whole = _is_over = False
    _whole_at = BEGINNING

    async def _run(self) -> None:
        try:
            while not self._is_over:
                self._wanted.clear()
                self._is_asking = True
                await self._ask_all()
                self._is_asking = False
                self._judge()
                self.rounds += 1
                self._ended_at = time.monotonic()
                self._round.set()
                self._round = asyncio.Event()
                if self._waiting:
                    await asyncio.sleep(_PAUSE_S)
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_REST_S if self.rounds > _HASTY_ROUNDS else _HURRIED_S):
                            await self._wanted.wait()
        finally:
            await finish(self._hang_up_all())

    async def _ask_all(self) -> None:
        """Ask the primary, then the replicas: what they have by then may be all that it has written."""
        primary = self._primary()
        others = [server for server in self._servers if server is not primary]
        now = time.monotonic()
        hasty = self._waiting and not self._asks_whole and now - self._whole_at < _REST_S
        if not hasty:
            self._asks_whole, self._whole_at = False, now
        if hasty:
            # Nobody waits for a server that does not answer.
            others = [server for server in others if server.state is not None]
        if primary.state is not None or not hasty:
            await self._ask(primary)
            if primary.state is not None and primary.state.writable:
                self._written.append((primary.asked_at, primary.state.position))
        for server in others:
            await self._ask(server)
            self._date(server)

    def _date(self, server: Server) -> None:
        """Say as of which moment a server has all: the latest whose position it has come to."""
        position = server.position
        if position is None:
            return
        reached = (asked_at for asked_at, written in reversed(self._written) if position.covers(written))
        server.as_of = max(server.as_of, next(reached, BEGINNING))

    async def _ask(self, server: Server) -> None:
        asked_at = time.monotonic()
        try:
            connection = self._connections.get(server)
            if connection is None:
                if server not in self._engines:
                    self._engines[server] = self._engine_for(server)
                async with asyncio.timeout(_CONNECT_S):
                    connection = await self._engines[server].connect()
                self._connections[server] = connection
                asked_at = time.monotonic()
            async with asyncio.timeout(_ANSWER_S):
                result = await connection.exec_driver_sql(self._replication.question)
                row = result.one()
            server.answered(self._replication.state_of(row), asked_at, time.monotonic() - asked_at)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # of any driver; told as the problem of the server
            server.silent += 1
            server.failed(error)
            await self._hang_up(server)

    async def _hang_up_all(self) -> None:
        for server in list(self._connections):
            await self._hang_up(server)

    async def _hang_up(self, server: Server) -> None:
        connection = self._connections.pop(server, None)
        if connection is None:
            return
        cancelled = (await finish(_closed(connection))).cancelled
        if cancelled is not None:
            raise cancelled


async def _closed(connection: AsyncConnection) -> None:
    with suppress(Exception):
        await connection.invalidate()
    with suppress(Exception):
        await connection.close()
