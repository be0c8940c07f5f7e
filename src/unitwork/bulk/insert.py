"""This module runs one bulk insert: it reads rows, chooses the way, and leaves all or nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sized
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from unitwork._logic.batches import sliced
from unitwork._logic.conflicts import OnConflict
from unitwork._runtime.sessions.session import AmbientSession
from unitwork.bulk.copied_entities import CopiedEntities, loader_for
from unitwork.bulk.copying import COPIES, Copying
from unitwork.bulk.entities import Entities
from unitwork.bulk.feed import Feed
from unitwork.bulk.statements import Statements, Wording

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Connection

    from unitwork._runtime.lanes.loading import EntityLoader
    from unitwork.bulk.order import InsertOrder
    from unitwork.bulk.plan import InsertPlan


class AllOrNothing:
    """Around the statements of one bulk write: when one fails, none of them counts.

    In a block of unitwork the failure condemns the transaction, as that of a statement does; a
    session of the caller's goes back to a savepoint.
    """

    def __init__(self, session: AsyncSession, name: str) -> None:
        self._session = session
        self._name = name
        self._savepoint = None if isinstance(session, AmbientSession) else session.begin_nested()
        self.sent = False

    async def __aenter__(self) -> Self:
        if self._savepoint is not None:
            await self._savepoint.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._session
        if self._savepoint is not None:
            await self._savepoint.__aexit__(kind, error, trace)
        elif error is not None and self.sent and isinstance(session, AmbientSession):
            _scope, frame = session.place()
            frame.condemn(self._name, error, by_database=True)


class BulkInsert:
    """One bulk insert. Lives: one call."""

    def __init__(self, order: InsertOrder, feed: Feed[InsertPlan], name: str) -> None:
        self._order = order
        self._feed = feed
        self._name = name
        self._way: Copying | Statements | Entities | None = None
        self._loader: EntityLoader | None = None

    async def run(self, session: AsyncSession, rows: Any, batch_rows: int) -> Any:  # noqa: ANN401  # entities or a number
        """Insert the rows, and return the entities or their number."""
        async with AllOrNothing(session, self._name) as around:
            self._loader = loader_for(session, self._order) if self._order.returning else None
            if isinstance(rows, AsyncIterable):
                # Read between the statements, so that the rows may come from the same session.
                async for chunk in chunks_of(rows, batch_rows):
                    await session.run_sync(self._write, [chunk], around)
            else:
                await session.run_sync(self._write, sliced(rows, batch_rows), around)
            if self._way is not None:
                await session.run_sync(self._finish)
        return self._result()

    def _result(self) -> Any:  # noqa: ANN401  # entities or a number
        way = self._way
        if self._order.returning:
            return way.entities() if isinstance(way, Entities) else []
        return way.count if way is not None else 0

    def _write(self, session: Session, chunks: Iterable[list[Any]], around: AllOrNothing) -> None:
        feed = self._feed
        feed.refill(chunks)
        if feed.peek() is None:
            return
        if self._way is None and session.autoflush:
            session.flush()
        connection = _connection(session, self._order)
        way = self._chosen(connection)
        while (group := feed.peek()) is not None:
            plan = feed.plan_of(group)
            try:
                if isinstance(way, Entities):
                    way.write(session, plan, feed)
                else:
                    way.write(connection, plan, feed)
            finally:
                # What is wrong in the first group is found out before anything is sent.
                around.sent = around.sent or feed.done > 0

    def _finish(self, session: Session) -> None:
        if isinstance(self._way, Copying | Statements):
            self._way.finish(_connection(session, self._order))

    def _chosen(self, connection: Connection) -> Copying | Statements | Entities:
        if self._way is None:
            dialect = self._feed.dialect = connection.dialect
            wording = Wording(self._order, dialect)
            statements = Statements(wording)
            if self._order.returning or not self._order.model.whole:
                self._way = Entities(wording, self._copied(wording, statements))
            elif dialect.name == "postgresql" and dialect.driver in COPIES:
                self._way = Copying(wording, statements)
            else:
                self._way = statements
        return self._way

    def _copied(self, wording: Wording, statements: Statements) -> CopiedEntities | None:
        """Return the fast way to entities, where there is one."""
        dialect = wording.dialect
        if self._loader is None or dialect.name != "postgresql" or dialect.driver not in COPIES:
            return None
        return CopiedEntities(Copying(wording, statements), self._loader, self._order)


def _connection(session: Session, order: InsertOrder) -> Connection:
    return session.connection(bind_arguments={"mapper": order.model.mapper})


async def chunks_of(rows: AsyncIterable[Any], size: int) -> AsyncGenerator[list[Any], None]:
    """Yield lists of at most this many rows."""
    chunk: list[Any] = []
    async for row in rows:
        chunk.append(row)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def known_length(rows: object) -> int | None:
    """Return how many rows there are, if that is known before they are read."""
    return len(rows) if isinstance(rows, Sized) else None


def keeps_order(order: InsertOrder) -> bool:
    """Say whether rows must be written in their own order: the last one with a key wins."""
    return order.on_conflict is OnConflict.UPDATE
