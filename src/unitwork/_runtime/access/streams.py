"""This module holds the streams of repositories: the rows of one statement, batch by batch."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._runtime import context
from unitwork._runtime.blocks.block import Scope
from unitwork._runtime.blocks.starvation import held_by_this_task
from unitwork._runtime.sessions.streams import TurnedResult
from unitwork.errors import TransactionEndedError
from unitwork.options import Propagation, TransactionOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Result
    from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

    from unitwork._runtime.lanes.results import ResultReader
    from unitwork._runtime.sessions.session import AmbientSession
    from unitwork._runtime.source import Source

_ITS_OWN = TransactionOptions(propagation=Propagation.REQUIRES_NEW, read_only=True)


_open: WeakSet[StreamApart] = WeakSet()


def takes_the_last_connection(source: Source) -> bool:
    """Say whether a stream would leave the body of its loop without any connection that it could wait for."""
    if source.backend.shared_between_loops or source.pinned is not None:
        return True
    capacity = source.capacity()
    if capacity is None:
        return False
    task = asyncio.current_task()
    others = sum(stream.source is source and stream.task is task for stream in _open)
    return len(held_by_this_task(source)) + others + 1 >= capacity


class RowStream:
    """The rows of a statement in a session that is open. Lives: as long as the loop that reads them."""

    def __init__(self, session: AsyncSession, reader: ResultReader) -> None:
        self.session = session
        self._reader = reader
        self._result: AsyncResult[Any] | None = None
        self._exhausted = False

    async def begin(self, statement: Any, parameters: Mapping[str, Any] | None, batch: int) -> None:  # noqa: ANN401  # any statement
        """Send the statement."""
        self._result = await self.session.stream(statement.execution_options(yield_per=batch), parameters)

    async def more(self, batch: int) -> Sequence[Any]:
        """Return the next items; none at the end."""
        if self._result is None:
            return ()
        rows = await self._result.fetchmany(batch)
        self._exhausted = not rows
        return self._reader.items_of(rows, tuple(self._result.keys())) if rows else ()

    async def end(self, error: BaseException | None) -> None:  # noqa: ARG002  # for those that have a transaction
        """Give back what is held, wherever the loop was left."""
        try:
            if self._result is not None:
                await self._result.close()
        except TransactionEndedError:
            pass  # the block has ended, and its connection is back


class StreamApart(RowStream):
    """A stream in a read-only transaction of its own, which nothing in the body of its loop takes part in.

    Args:
        source: Its Database.
        reader: What becomes of the rows.
        for_reading: A change of what it yields is refused: the unit of work around it would not store it.
    """

    def __init__(self, source: Source, reader: ResultReader, *, for_reading: bool) -> None:
        self.source = source
        self.task = asyncio.current_task()
        self._scope = Scope(source, f"the stream of {reader.name}", _ITS_OWN)
        session = self._scope.enter_apart()
        session.apart = self._scope if for_reading else None
        context.drop(self._scope)
        super().__init__(session, reader)
        _open.add(self)
        self._rows: Result[Any] | None = None

    @override
    async def begin(self, statement: Any, parameters: Mapping[str, Any] | None, batch: int) -> None:
        options = {"stream_results": True, "yield_per": batch}

        async def execute(session: AmbientSession) -> Result[Any]:
            # Not `session.stream`: it fetches all at once where a driver can send nothing else meanwhile.
            send = session.sync_session.execute
            return await greenlet_spawn(send, statement, parameters, execution_options=options)

        session = self._scope.frame.session
        rows = await session.in_turn(execute)
        self._rows, self._result = rows, TurnedResult(rows, session)

    @override
    async def end(self, error: BaseException | None) -> None:
        _open.discard(self)
        self._scope.frame.rollback_only = True
        try:
            await self._let_go()
        finally:
            await self._scope.leave(error)

    async def _let_go(self) -> None:
        frame = self._scope.frame
        if frame.session.held is not None:
            # The end would expire the entities, and nobody could load them again.
            frame.session.held.expunge_all()
        if not self._exhausted and self.source.backend.one_result_at_a_time and frame.connection is not None:
            # The driver would read the rest of the rows first, however many there are.
            await greenlet_spawn(frame.connection.invalidate)
        elif self._rows is not None:
            with suppress(SQLAlchemyError):  # the rollback meets the same connection, and tells
                await greenlet_spawn(self._rows.close)
