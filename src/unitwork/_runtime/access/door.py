"""This module is the one place that reads of repositories and declared queries go through."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import greenlet_spawn

from unitwork._logic.in_lists import with_short_lists
from unitwork._logic.paging import signing_key
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime import context
from unitwork._runtime.blocks.scope import Scope
from unitwork._runtime.lanes.asked import Asked
from unitwork._runtime.lanes.by_key import ByKey
from unitwork._runtime.lanes.loading import NeedsSession
from unitwork._runtime.lanes.reading import Reading, rows_of
from unitwork._runtime.sessions.session import TurnedSession
from unitwork.dialects import BeginMode
from unitwork.errors import NoTransactionError, TransactionEndedError
from unitwork.options import Propagation, TransactionOptions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncResult

    from unitwork._runtime.source import Source

__all__ = ["Asked", "Door", "Reading"]

R = TypeVar("R")

_READ = TransactionOptions(propagation=Propagation.SUPPORTS)
_WRITE = TransactionOptions()
_STREAM = BeginMode(read_only=True)
_SCALAR = Shape(Rows.ONE, Item.SCALAR)


class Door:
    """How a repository reaches its database: on a given session, or through the open block.

    Lives: as long as its repository; holds no session of its own.
    """

    __slots__ = ("given", "source")

    def __init__(self, source: Source | None, given: AsyncSession | None) -> None:
        self.source = source
        self.given = given

    def where(self) -> Source:
        """Return the Database that is meant here."""
        return self.source or context.current_or_default()

    def session(self) -> AsyncSession:
        """Return the session that is given, or the ambient one.

        Raises:
            NoTransactionError: There is neither.
        """
        if self.given is not None:
            return self.given
        source = self.where()
        scope = context.last(source)
        if scope is None:
            raise NoTransactionError(source.name)
        scope.frame.check_open()
        return scope.frame.session

    def cursor_key(self) -> bytes:
        """Return the key that signs cursors: the same in all processes that use this database."""
        return signing_key(self._url().render_as_string(hide_password=False))

    def _url(self) -> URL:
        if self.given is None:
            return self.where().url
        bind: Any = self.given.get_bind()
        url: URL = bind.engine.url
        return url

    def require_transaction(self) -> None:
        """Refuse what means nothing without a transaction, such as a lock.

        Raises:
            NoTransactionError: None is open, and no session is given.
        """
        if self.given is None and self._transaction(self.where()) is None:
            raise NoTransactionError(self.where().name)

    def _transaction(self, source: Source) -> TurnedSession | None:
        """Return the session of the transaction that is open here."""
        around = context.innermost(source)
        return around.frame.session if around is not None and around.frame.transactional else None

    # -- work with a session -------------------------------------------------------------------

    async def read(self, name: str, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
        """Do something that reads. Outside of a transaction no connection is held afterwards."""
        return await self._with_session(name, work, _READ)

    async def write(self, name: str, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
        """Do something that writes: in the open transaction, or in one of its own."""
        return await self._with_session(name, work, _WRITE)

    async def _with_session(
        self, name: str, work: Callable[[AsyncSession], Awaitable[R]], options: TransactionOptions
    ) -> R:
        if self.given is not None:
            return await work(self.given)
        source = self.where()
        around = self._transaction(source)
        if around is not None:
            return await work(around)
        scope = Scope(source, name, options)
        session = await scope.enter()
        try:
            result = await work(session)
        except BaseException as error:
            await scope.leave(error)
            raise
        await scope.leave(None)
        return result

    # -- statements ----------------------------------------------------------------------------

    async def fetch(self, reading: Reading, asked: Asked) -> Any:  # noqa: ANN401  # what the reading promises
        """Run a statement on the fastest lane that can, and return what the reading promises."""
        with self.noted(reading.name, asked):
            if asked.writes:
                return await self.write(reading.name, partial(_collected, reading, asked))
            items = await self._on_lane(reading, asked, partial(_items, reading, asked))
            return reading.settled(items, asked.statement)

    async def by_key(self, name: str, entity: type[R], key: object) -> R | None:
        """Return the entity with this primary key, or None: the session's own, if it has it."""

        async def get(session: AsyncSession) -> Sequence[R]:
            found = await session.get(entity, key)
            return () if found is None else (found,)

        with self.noted(name):
            asking = ByKey.of(entity)
            values = asking.values(key)
            if values is None:
                found = await self.read(name, get)
            else:
                reading, identity = asking.reading(name), asking.identity(values)
                found = await self._on_lane(reading, asking.asked(values), get, identity)
            return found[0] if found else None

    async def add_directly(self, name: str, entity: object) -> bool:
        """Insert a new entity past the ORM's flush; say whether that could be done here."""
        if self.given is None:
            source = self.where()
            around = self._transaction(source)
            with suppress(NeedsSession), self.noted(name):
                if around is None:
                    await source.express.add(name, entity)
                else:
                    await source.express.add_in_block(name, entity, around)
                return True
        return False

    async def _on_lane(
        self,
        reading: Reading,
        asked: Asked,
        slowest: Callable[[AsyncSession], Awaitable[Sequence[R]]],
        identity: tuple[Any, ...] | None = None,
    ) -> Sequence[R]:
        """Return the items of a read by the fastest lane: driver, fused, or `slowest`, the session."""
        call = None
        if self.given is None:
            source = self.where()
            try:
                call = source.express.call(reading, asked, identity)
                if self._transaction(source) is None:
                    return await source.express.items(call, source.express.unit())
            except NeedsSession:
                pass

        async def work(session: AsyncSession) -> Sequence[R]:
            if call is not None:
                ours = cast("TurnedSession", session)
                items = await ours.in_turn(partial(ours.source.express.fused.read, call))
                if items is not None:
                    return items
            return await slowest(session)

        return await self.read(reading.name, work)

    async def scalar(self, name: str, asked: Asked) -> Any:  # noqa: ANN401  # as the column says
        """Run a statement and return the first value of its only row."""
        return await self.fetch(Reading(name, _SCALAR), asked)

    async def edged(
        self, reading: Reading, asked: Asked, added: int
    ) -> tuple[Sequence[Any], Sequence[Sequence[Any]]]:
        """Run a statement; return its items without the last columns, and these columns of each row."""

        async def work(session: AsyncSession) -> tuple[Sequence[Any], Sequence[Sequence[Any]]]:
            statement, parameters = _fitting(asked, session)
            rows, names = rows_of(await session.execute(statement, parameters))
            items = reading.items_of([row[:-added] for row in rows], names[:-added])
            return items, [row[-added:] for row in rows]

        with self.noted(reading.name, asked):
            return await self.read(reading.name, work)

    async def change(self, name: str, asked: Asked) -> int:
        """Run a statement that writes, and return how many rows it touched."""

        async def work(session: AsyncSession) -> int:
            statement, parameters = _fitting(asked, session)
            # psycopg counts an INSERT that returns keys only when it is asked to.
            options = {"preserve_rowcount": True}
            result = await session.execute(statement, parameters, execution_options=options)
            count: int = getattr(result, "rowcount", -1)
            return count

        with self.noted(name, asked):
            return await self.write(name, work)

    async def stream(self, reading: Reading, asked: Asked, batch: int) -> AsyncGenerator[Any, None]:
        """Yield item by item, `batch` rows at a time: in the open transaction, or in a read of its own."""
        source = None if self.given is not None else self.where()
        if source is None or self._transaction(source) is not None:
            flow = Flow(self.session(), None, reading)
        elif source.backend.shared_between_loops or source.pinned is not None:
            # There is one connection, which the loop's body may need.
            for item in await self.fetch(reading.with_rows(Rows.MANY), asked):
                yield item
            return
        else:
            flow = Flow(AsyncSession(source.home_engine(), expire_on_commit=False), source, reading)
        # One generator, not several inside each other: what is left early ends in order, and at once.
        try:
            with self.noted(reading.name, asked):
                await flow.begin(asked, batch)
            while True:
                with self.noted(reading.name, asked):
                    items = await flow.more(batch)
                for item in items:
                    yield item
                if not items:
                    break
        finally:
            await flow.end()

    def noted(self, name: str, asked: Asked | None = None) -> Noted:
        """Add to a database error inside which query it came from, and which parameters it has."""
        return Noted(self, name, asked)


class Flow:
    """The rows of one stream, batch by batch. Lives: as long as its loop.

    Args:
        session: Where the rows come from.
        source: The Database, if the session is the stream's own.
        reading: What becomes of the rows.
    """

    __slots__ = ("_exhausted", "_reading", "_result", "_session", "_source")

    def __init__(self, session: AsyncSession, source: Source | None, reading: Reading) -> None:
        self._session = session
        self._source = source
        self._reading = reading
        self._result: AsyncResult[Any] | None = None
        self._exhausted = False

    async def begin(self, asked: Asked, batch: int) -> None:
        """Send the statement; a session of the stream's own begins a read-only transaction."""
        source = self._source
        if source is not None:
            try:
                options = source.backend.execution_options(_STREAM)
                await self._session.connection(execution_options=options)
            except PoolTimeoutError as error:
                error.add_note(source.holders())
                raise
        statement, parameters = _fitting(asked, self._session)
        self._result = await self._session.stream(statement.execution_options(yield_per=batch), parameters)

    async def more(self, batch: int) -> Sequence[Any]:
        """Return the next items; none at the end."""
        if self._result is None:
            return ()
        rows = await self._result.fetchmany(batch)
        self._exhausted = not rows
        return self._reading.items_of(rows, tuple(self._result.keys())) if rows else ()

    async def end(self) -> None:
        """Give back what is held, wherever the loop was left."""
        result, own = self._result, self._source
        if own is not None and not self._exhausted and self._session.bind.dialect.name == "mysql":  # type: ignore[union-attr]  # our engine
            # The driver would read the rest of the rows first, however many there are.
            await self._session.invalidate()
            return
        try:
            if result is not None:
                await result.close()
        except TransactionEndedError:
            pass  # the block has ended, and its connection is back
        finally:
            if own is not None:
                await self._session.close()


class Noted:
    """Adds to a database error which query it came from. Lives: one call."""

    __slots__ = ("_asked", "_door", "_name")

    def __init__(self, door: Door, name: str, asked: Asked | None) -> None:
        self._door = door
        self._name = name
        self._asked = asked

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SQLAlchemyError):
            error.add_note(f"While running query {self._name}{self._place()}{self._parameters()}.")

    def _place(self) -> str:
        return "" if self._door.given is not None else f" on database {self._door.where().name!r}"

    def _parameters(self) -> str:
        asked = self._asked
        names = (asked.names or tuple(asked.parameters or ())) if asked is not None else ()
        return f" (parameters: {', '.join(names)})" if names else ""


async def flush_new(session: AsyncSession, *entities: object) -> None:
    """Insert new entities in the session, in one turn."""
    if isinstance(session, TurnedSession):
        await session.in_turn(partial(_flush_new, entities))
    else:
        session.add_all(entities)
        await session.flush()


async def _flush_new(entities: Sequence[object], session: TurnedSession) -> None:
    session.sync_session.add_all(entities)
    await greenlet_spawn(session.sync_session.flush)


async def _items(reading: Reading, asked: Asked, session: AsyncSession) -> Sequence[Any]:
    statement, parameters = _fitting(asked, session)
    return reading.items(await session.execute(statement, parameters))


async def _collected(reading: Reading, asked: Asked, session: AsyncSession) -> object:
    statement, parameters = _fitting(asked, session)
    return reading.collect(await session.execute(statement, parameters), asked.statement)


def _fitting(asked: Asked, session: AsyncSession) -> tuple[Any, Mapping[str, Any] | None]:
    """Return the statement and its parameters as this session's database can take them."""
    bind: Any = session.bind
    if not isinstance(bind, AsyncEngine):
        bind = session.get_bind()
    return with_short_lists(asked.statement, asked.parameters, bind.dialect)
