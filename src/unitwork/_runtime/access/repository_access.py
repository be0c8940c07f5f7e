"""This module is the one place that repositories and declared queries reach their database through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

from unitwork._logic.effects import effects_of
from unitwork._logic.paging import signing_key
from unitwork._logic.routing import LaneChoice, LaneRefusal
from unitwork._logic.shape import Item, Rows, Shape
from unitwork._runtime import context, live
from unitwork._runtime.access.flushing import flush_new
from unitwork._runtime.access.in_session import collected, executed, items_of, ready
from unitwork._runtime.access.noted import Noted
from unitwork._runtime.access.single_work import READ, READ_ANYWHERE, WRITE, in_transaction, with_session
from unitwork._runtime.access.streams import RowStream, StreamApart, takes_the_last_connection
from unitwork._runtime.blocks.block import Scope
from unitwork._runtime.blocks.starvation import held_by_this_task
from unitwork._runtime.connections.latest import ReadFromPrimary
from unitwork._runtime.lanes.calls import Call, KeyLookup, StatementCall
from unitwork._runtime.lanes.choice import A_BLOCK, A_TRANSACTION, Choice
from unitwork._runtime.lanes.results import ResultReader, rows_of
from unitwork._runtime.sessions.session import AmbientSession
from unitwork._sqlalchemy.versions import rows_touched
from unitwork.errors import NoTransactionError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from sqlalchemy import URL
    from sqlalchemy.engine import Dialect

    from unitwork._runtime.lanes.inserts import InsertCall
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

R = TypeVar("R")
GivenSession: TypeAlias = AsyncSession | async_scoped_session[Any]

_SCALAR = Shape(Rows.ONE, Item.SCALAR)


class RepositoryAccess:
    """How a repository reaches its database: on a given session, or through the open block.

    Lives: as long as its repository; holds no session of its own.
    """

    __slots__ = ("_given", "source")

    def __init__(self, source: Source | None, given: GivenSession | None) -> None:
        self.source = source
        self._given = given

    @property
    def given(self) -> AsyncSession | None:
        """The session that is given; of a scoped one, that of the code that runs."""
        given = self._given
        return given() if isinstance(given, async_scoped_session) else given

    def where(self) -> Source:
        """Return the Database that is meant here."""
        return self.source or live.current_or_default()

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
        session: AsyncSession = scope.frame.session
        return session

    def cursor_key(self) -> bytes:
        """Return the key that signs cursors: the same in all processes that use this database."""
        return signing_key(self._url().render_as_string(hide_password=False))

    def dialect(self) -> Dialect:
        """Return the dialect of the database that is meant here."""
        return self.where().dialect() if self.given is None else self.given.get_bind().dialect

    def _url(self) -> URL:
        return self.where().url if self.given is None else self.given.get_bind().engine.url

    def require_transaction(self) -> None:
        """Refuse what means nothing without a transaction, such as a lock.

        Raises:
            NoTransactionError: None is open, and no session is given.
        """
        if self.given is None:
            around = context.innermost(self.where())
            if around is None or not (around.frame.transactional or around.frame.begins_with_writes):
                raise NoTransactionError(self.where().name)

    # -- work with a session -------------------------------------------------------------------

    async def read(
        self, name: str, work: Callable[[AsyncSession], Awaitable[R]], *, only_reads: bool = False
    ) -> R:
        """Do something that reads. Outside of a transaction no connection is held afterwards.

        Args:
            name: What messages call it.
            work: What it does with a session.
            only_reads: It sends nothing that may write or lock, so that a replica may answer.
        """
        if self.given is not None:
            return await work(self.given)
        options = READ_ANYWHERE if only_reads else READ
        return await with_session(self.where(), name, work, options, context.innermost(self.where()))

    async def write(self, name: str, work: Callable[[AsyncSession], Awaitable[R]]) -> R:
        """Do something that writes: in the open transaction, or in one of its own.

        Raises:
            TransactionRefusedError: The block around is read-only.
        """
        if self.given is not None:
            return await work(self.given)
        return await with_session(self.where(), name, work, WRITE, context.innermost(self.where()))

    # -- statements ----------------------------------------------------------------------------

    async def fetch(self, reader: ResultReader, call: StatementCall) -> Any:  # noqa: ANN401  # what the reader promises
        """Run a statement on the fastest lane that can, and return what the reader promises."""
        try:
            if call.writes:
                return await self.write(reader.name, partial(collected, reader, call))
            items = await self._read_items(reader, call, partial(items_of, reader, call))
            return reader.settled(items, call.statement)
        except SQLAlchemyError as error:
            self.noted(reader.name, call).note(error)
            raise

    async def by_key(self, name: str, entity: type[R], key: object, options: Sequence[Any] = ()) -> R | None:
        """Return the entity with this primary key, or None: the session's own, if it has it."""

        async def get(session: AsyncSession) -> Sequence[R]:
            found = await session.get(entity, key, options=options or None)
            return () if found is None else (found,)

        try:
            lookup = KeyLookup.of(entity)
            values = lookup.values(key)
            if values is None:
                found = await self.read(name, get, only_reads=True)
            else:
                identity = lookup.identity(values)
                call = lookup.call(values, options)
                found = await self._read_items(lookup.reader(name), call, get, identity)
        except SQLAlchemyError as error:
            self.noted(name).note(error)
            raise
        return found[0] if found else None

    def _read_items(
        self,
        reader: ResultReader,
        call: StatementCall,
        slowest: Callable[[AsyncSession], Awaitable[Sequence[R]]],
        identity: tuple[Any, ...] | None = None,
    ) -> Awaitable[Sequence[R]]:
        """Return the items of a read by the fastest lane: driver, fused, or `slowest`, the session."""
        given = self.given
        if given is not None:
            return slowest(given)
        source = self.where()
        place = in_transaction(source)
        if place is not None:
            choice = source.lanes.choose(reader, call, A_TRANSACTION, identity)
            return _read_in_transaction(place, choice, slowest)
        read = partial(self._read_here, source, reader, call, slowest, identity)
        return read() if source.servers is None else _read_on_any_server(source, read)

    async def _read_here(  # as above, outside of transactions on one Database
        self,
        source: Source,
        reader: ResultReader,
        call: StatementCall,
        slowest: Callable[[AsyncSession], Awaitable[Sequence[R]]],
        identity: tuple[Any, ...] | None,
    ) -> Sequence[R]:
        lanes, around = source.lanes, context.innermost(source)
        here = _surroundings(source, around)
        choice = lanes.choose(reader, call, here, identity)
        read = choice.read
        source.watch.no_faster(choice.reason)
        if read is None:
            options = READ_ANYWHERE if _only_reads(source, call) else READ
            return await with_session(source, reader.name, slowest, options, around)
        if choice.lane is lanes.driver.lane:
            found = await lanes.driver.read(read, cast("Frame | None", here))
            if source.watch.is_taken(found):
                return found
            around = context.innermost(source)  # much may have happened meanwhile

        async def fused_or_slowest(session: AsyncSession) -> Sequence[R]:
            items = await cast("AmbientSession", session).in_turn(partial(lanes.fused.read, read))
            return items if source.watch.is_taken(items) else await slowest(session)

        options = READ if read.needs_primary else READ_ANYWHERE
        return await with_session(source, reader.name, fused_or_slowest, options, around)

    def explain(self, reader: ResultReader, call: StatementCall) -> LaneChoice:
        """Say which lane a read takes here and now, and why no faster one."""
        source = self.where()
        choice = source.lanes.choose(reader, call, _surroundings(source, context.innermost(source)))
        return LaneChoice(choice.lane, None if choice.reason is None else str(choice.reason))

    async def add(self, name: str, *entities: object) -> None:
        """Insert new entities: in the open transaction; else by a statement alone, or in a block."""
        try:
            given = self.given
            if given is not None:
                await flush_new(given, entities)
                return
            source = self.where()
            place = in_transaction(source)
            if place is not None:
                await flush_new(place[1].session, entities, place=place)
                return
            before = await _added_alone(source, name, entities[0]) if len(entities) == 1 else A_BLOCK
            if before is not None:
                add = partial(flush_new, entities=entities, before=before)
                await with_session(source, name, add, WRITE, context.innermost(source))
        except SQLAlchemyError as error:
            self.noted(name).note(error)
            raise

    async def scalar(self, name: str, call: StatementCall) -> Any:  # noqa: ANN401  # as the column says
        """Run a statement and return the first value of its only row."""
        return await self.fetch(ResultReader(name, _SCALAR), call)

    async def edged(
        self, reader: ResultReader, call: StatementCall, added: int
    ) -> tuple[Sequence[Any], Sequence[Sequence[Any]]]:
        """Run a statement; return its items without the last columns, and these columns of each row."""

        async def work(session: AsyncSession) -> tuple[Sequence[Any], Sequence[Sequence[Any]]]:
            rows, names = rows_of(await executed(call, session))
            items = reader.items_of([row[:-added] for row in rows], names[:-added])
            return items, [row[-added:] for row in rows]

        with self.noted(reader.name, call):
            only_reads = self.given is None and _only_reads(self.where(), call)
            return await self.read(reader.name, work, only_reads=only_reads)

    async def change(self, name: str, call: Call) -> int:
        """Run a statement that writes, and return how many rows it touched."""
        with self.noted(name, call):
            given = self.given
            if given is not None:
                return await _changed(name, call, None, given)
            source = self.where()
            place = in_transaction(source)
            if place is not None:
                return await _changed(name, call, place, place[1].session)
            count = await _changed_alone(source, name, call)
            if count is not None:
                return count
            change = partial(_changed, name, call, None)
            return await with_session(source, name, change, WRITE, context.innermost(source))

    async def stream(
        self, reader: ResultReader, call: StatementCall, batch: int
    ) -> AsyncGenerator[Any, None]:
        """Yield item by item, `batch` rows at a time: in the open transaction, or in a read of its own."""
        stream = RowStream(self.given, reader) if self.given is not None else await self._stream_here(reader)
        if stream is None:
            for item in await self.fetch(reader.with_rows(Rows.MANY), call):
                yield item
            return
        # One generator, not several inside each other: what is left early ends in order, and at once.
        try:
            with self.noted(reader.name, call):
                await stream.begin(*await ready(call, stream.session), batch)
            while True:
                with self.noted(reader.name, call):
                    items = await stream.more(batch)
                for item in items:
                    yield item
                if not items:
                    break
        except BaseException as error:
            await stream.end(error)
            raise
        await stream.end(None)

    async def _stream_here(self, reader: ResultReader) -> RowStream | None:
        """Return a stream in the open transaction, or one apart; None if no connection is left for that."""
        source = self.where()
        around = context.innermost(source)
        in_unit = around is not None and around.frame.begins_with_writes
        if around is not None and in_unit and around.frame.session.has_changes():
            await around.frame.session.flush()  # the stream must see them, and goes on in their transaction
        if around is not None and around.frame.transactional:
            return RowStream(around.frame.session, reader)
        if takes_the_last_connection(source):
            return None
        return StreamApart(source, reader, for_reading=in_unit)

    def noted(self, name: str, call: Call | None = None) -> Noted:
        """Add to a database error inside which query it came from, and which parameters it has."""
        return Noted(self._place, name, call)

    def _place(self) -> str:
        return "" if self.given is not None else f" on database {self.where().name!r}"


ANYWHERE = RepositoryAccess(None, None)
"""The way to the Database that is meant where the code runs."""


async def _added_alone(source: Source, name: str, entity: object) -> InsertCall | LaneRefusal | None:
    """Insert a new entity with a statement that commits by itself.

    Return None if that could be done; else why it could not, or what knows what Python has filled in.
    """
    here = _surroundings(source, context.innermost(source))
    if not source.lanes.writes_alone(here):
        return A_BLOCK
    return await source.lanes.driver.insert(name, entity, cast("Frame | None", here))


async def _changed_alone(source: Source, name: str, call: Call) -> int | None:
    """Run an UPDATE or DELETE that commits by itself; None if it could not be done so."""
    here = _surroundings(source, context.innermost(source))
    if not source.lanes.writes_alone(here):
        return None
    count = await source.lanes.driver.change(name, call, cast("Frame | None", here))
    return None if isinstance(count, LaneRefusal) else count


async def _changed(name: str, call: Call, place: tuple[Scope, Frame] | None, session: AsyncSession) -> int:
    """Run an UPDATE or DELETE in a session: past it, if no entity in there needs to know of it."""
    if isinstance(session, AmbientSession):
        lanes = session.source.lanes
        change = lanes.statements.change(name, call)
        if not isinstance(change, LaneRefusal):
            count = await session.in_turn(partial(lanes.fused.change, change), place)
            if not isinstance(count, LaneRefusal):
                return count
    # psycopg counts an INSERT that returns keys only when it is asked to.
    return rows_touched(await executed(call, session, preserve_rowcount=True))


async def _read_in_transaction(
    place: tuple[Scope, Frame],
    choice: Choice,
    slowest: Callable[[AsyncSession], Awaitable[Sequence[R]]],
) -> Sequence[R]:
    """Return the items of a read in the transaction that is open."""
    source, session = place[0].source, place[1].session
    source.watch.no_faster(choice.reason)
    if choice.read is not None:
        items: Sequence[R] | LaneRefusal
        items = await session.in_turn(partial(source.lanes.fused.read, choice.read), place)
        if source.watch.is_taken(items):
            return items
    return await slowest(session)


def _surroundings(source: Source, around: Scope | None) -> Frame | LaneRefusal | None:
    """Return what is open here: the unit of work at rest, nothing, or why no statement commits by itself."""
    if around is None:
        return A_BLOCK if context.open_scopes() and held_by_this_task(source) else None
    frame = around.frame
    if frame.transactional:
        return A_TRANSACTION
    if not frame.idles or held_by_this_task(source):
        return A_BLOCK
    return frame


def _only_reads(source: Source, call: StatementCall) -> bool:
    """Say whether a replica may answer a statement."""
    return source.servers is not None and not effects_of(call.statement, source.backend.dialect).need_primary


async def _read_on_any_server(source: Source, read: Callable[[], Awaitable[Sequence[R]]]) -> Sequence[R]:
    """Read where that may be done; on the primary, if a replica was lost, or refuses what would write."""
    try:
        return await read()
    except DBAPIError as error:
        in_block = isinstance(_surroundings(source, context.innermost(source)), LaneRefusal)
        if in_block or not source.may_answer_instead(error):
            raise
        source.watch.swallowed("a read at a replica", error)
    with ReadFromPrimary(source.servers):
        return await read()
