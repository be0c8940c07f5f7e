"""This module holds the session that tasks share: lazy, taking turns, and closed for good."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from sqlalchemy.engine import ChunkedIteratorResult
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.util import await_only, greenlet_spawn
from typing_extensions import override

from unitwork._logic.remembered import once_for_class
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime import context
from unitwork._runtime.opening import refuse_no_class
from unitwork._runtime.sessions import permission
from unitwork._runtime.sessions.operations import do_in_turn, in_its_turn, with_session_begun
from unitwork._runtime.sessions.quick import read_by_key, read_of
from unitwork._runtime.sessions.streams import TurnedResult
from unitwork._runtime.sessions.sync_session import (
    GuardedSession,
    guard_connection,
    guarded_class,
    is_handed_out,
)
from unitwork._runtime.sessions.turns import Turns
from unitwork._sqlalchemy.private import connection_of, end_quietly, is_changed, watch_changes
from unitwork._sqlalchemy.versions import SET_BY_ASYNC_SESSION, WRITES_OF_SESSION
from unitwork.dialects import BeginMode
from unitwork.errors import OptionError, TransactionRefusedError
from unitwork.options import Isolation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from types import TracebackType

    from sqlalchemy import Connection, Engine, Result
    from sqlalchemy.ext.asyncio import AsyncSessionTransaction

    from unitwork._logic.effects import Effects
    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.deadline import Limits
    from unitwork._runtime.lanes.reads import ReadCall
    from unitwork._runtime.sessions.turns import Place
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

_Result = TypeVar("_Result")

_OPERATIONS = ("connection", "refresh", "run_sync", *WRITES_OF_SESSION)


class Blocks(Protocol):
    """What the session needs of the blocks around it."""

    def savepoint(self, session: AmbientSession) -> AsyncSessionTransaction:
        """Return a savepoint that is begun by hand."""
        ...

    def transaction(self, session: AmbientSession) -> AsyncSessionTransaction:
        """Return a transaction of a unit of work that is begun by hand."""
        ...

    def refuse_starvation(self, session: AmbientSession, frame: Frame) -> None:
        """Refuse to wait for a connection that only the caller's own outer blocks could free."""
        ...

    def holds_connection(self, session: AmbientSession) -> bool:
        """Say whether a block around the calling code has a connection of this Database."""
        ...


class AmbientSession(AsyncSession):
    """The `AsyncSession` of a block or unit of work: set up by its first use, shared by tasks in turns.

    In a transaction block a plain SELECT, and the INSERT of one entity, take the fused lane, if they
    can: with the same entities, on the same connection. In a unit of work at rest, a plain SELECT takes the
    driver lane. It is closed for good with its block or unit of
    work. Lives: as long as that.
    """

    # What stays as it is in most blocks is not set in each.
    started = False
    flushing = False
    adding = False
    """What was allowed where it was asked for is being added."""
    ends_allowed = 0
    writes = 0
    """How many times something was sent that may write."""
    connections_asked = 0
    """How many of these are no more than that somebody has asked for the connection."""
    running_in: Place | None = None
    """Where the operation is that has the turn: what it sends need not look for that again."""
    savepoints: Sequence[Any] = ()
    """Those that are begun by hand and open."""
    streams: Sequence[weakref.ref[TurnedResult]] = ()
    apart: OpenScope | None = None
    """The block that it belongs to, where code finds another one: what it holds must not be changed."""
    _watches_changes = False

    _execute: Callable[..., Awaitable[Any]]
    _scalar: Callable[..., Awaitable[Any]]
    _get: Callable[..., Awaitable[Any]]
    _get_one: Callable[..., Awaitable[Any]]
    _flush: Callable[..., Awaitable[Any]]

    source: Source
    loop: asyncio.AbstractEventLoop
    key: object
    """What scopes and frames know this session by, also when it is gone."""
    turns: Turns
    _blocks: Blocks

    # AsyncSession.__init__ runs with the first use (see _SetAtFirstUse): an empty block costs nothing.

    def belong_to(self, source: Source, loop: asyncio.AbstractEventLoop, blocks: Blocks) -> None:
        """Be the session of blocks, or of a unit of work, on this Database and in this event loop."""
        self.source = source
        self.loop = loop
        self.key = object()
        self._blocks = blocks

    def begin_with(self, frame: Frame) -> None:
        """Begin with this frame, which all others are inside of."""
        self.turns = Turns(frame)
        if type(self) in _SET_UP_AT_ONCE:
            self._set_up_inside()

    def __repr__(self) -> str:
        return f"<session of {self.turns.top.owner} on database {self.source.name!r}>"

    def set_up(self) -> None:
        """Set up the session inside, which somebody uses: it must know that a transaction is open."""
        self._start()
        self.begin_as_block()

    def _start(self) -> None:
        _scope, frame = self.place()
        frame.check_open()
        self._set_up_inside()

    def _set_up_inside(self) -> None:
        options: dict[str, Any] = {"expire_on_commit": False, **self.source.session_options}
        kind = options.pop("sync_session_class", self.sync_session_class)
        engine = self.source.home_engine()
        self.started = True
        try:
            # That of the program's own class, if it has one.
            # The connection comes begun (see acquired), and the session ends what it finds.
            type(self).__init__(
                self,
                bind=engine,
                sync_session_class=guarded_class(kind),
                close_resets_only=False,
                join_transaction_mode="control_fully",
                **options,
            )
        except BaseException:
            self.started = False
            raise
        cast("GuardedSession", self.sync_session).belongs_to(self)
        if self._watches_changes:
            watch_changes(self.sync_session, partial(permission.to_change_attribute, self))

    # -- where it is used ------------------------------------------------------------------------

    def place(self) -> Place:
        """Return the scope and the frame that the calling code is in, on this session."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.loop:
            raise TransactionRefusedError(
                self.source.name,
                f"The session on database {self.source.name!r} is used outside of its event loop.",
                "use it in the loop that opened the block; open another block in a thread or another loop.",
            )
        scope: OpenScope | None = context.scope_of(self)
        return scope, scope.frame if scope is not None else self.turns.top.root

    def wrote(self) -> None:
        """Count what is sent that may write, and notice who has a part in what a first block has begun."""
        self.writes += 1
        if context.has_generators():
            context.count_write((self.running_in or self.place())[0])
        root = self.turns.top.root
        if root.first_block is not None and root.first_block not in context.open_scopes():
            root.first_block = None

    def limits_here(self) -> Limits:
        """Return the time limits of the code whose operation runs."""
        scope = self.running_in[0] if self.running_in is not None else None
        limits: Limits = scope.limits if scope is not None else self.turns.top.limits
        return limits

    # -- what it holds ---------------------------------------------------------------------------

    @property
    def held(self) -> Session | None:
        """The session inside, once it has been set up."""
        return self.sync_session if self.started else None

    @property
    def begun(self) -> bool:
        """Whether the session inside has something to do at the end of a transaction."""
        return self.started and Session.in_transaction(self.sync_session)

    def holder(self) -> Session:
        """Return the session inside for entities to be held by; it need not have begun for that."""
        if not self.started:
            self._start()
        return self.sync_session

    def has_changes(self) -> bool:
        """Say whether something waits to be sent."""
        return self.started and is_changed(self.sync_session)

    def known(self, identity: tuple[Any, ...], kind: type[Any]) -> object | None:
        """Return the entity that is held, if whoever asks for one of this class gets it as it is."""
        if not self.started or type(self.sync_session).get is not GuardedSession.get:
            return None
        held: Any = self.sync_session.identity_map.get(identity)
        if held is None or instance_state(held).expired or not isinstance(held, kind):
            return None
        return None if hasattr(held, "__unitwork_hidden__") else cast("object", held)

    def knows_nothing_of(self, identity: tuple[Any, ...] | None) -> bool:
        """Say whether nothing waits here to be sent, and no such entity is held."""
        if not self.started:
            return True
        held: Any = self.sync_session
        return not is_changed(held) and (identity is None or identity not in held.identity_map)

    def is_unheard(self, *, undoes: bool = False) -> bool:
        """Say whether nobody hears of beginnings and ends of the session inside, or does them otherwise."""
        listeners, held = self.source.lanes.statements.session_listeners, self.sync_session
        if type(held) is not GuardedSession or listeners.of_reads(held) is not None:
            return False
        return not undoes or listeners.of_flushes(held) is None

    def quietly(self, work: Callable[[], _Result]) -> _Result:
        """Let the session inside do what nobody hears of, and what it waits for nothing in."""
        return self.source.lanes.statements.session_listeners.past(self.sync_session, work)

    def watch_changes(self) -> None:
        """Refuse from now on that entities are changed inside read-only blocks, where it is done."""
        self._watches_changes = True
        if self.started:
            watch_changes(self.sync_session, partial(permission.to_change_attribute, self))

    # -- its transaction -------------------------------------------------------------------------

    def begin_as_block(self) -> None:
        """Let the session inside know that a transaction is open, before it does something itself."""
        frame = self.turns.top.root
        if frame.ended or not frame.transactional:
            return
        if not self.begun:
            Session.begin(self.sync_session)
        frame.tell_new()

    def take_part(self) -> None:
        """Let the session inside send COMMIT itself: until the answer it knows what a rollback takes back."""
        connection = self.turns.top.root.connection
        if connection is None:
            return
        self.begin_as_block()
        held = self.sync_session
        if connection_of(Session.get_transaction(held)) is None:
            Session.connection(held, bind_arguments={"bind": connection})

    def begin_to_write(self, scope: OpenScope) -> Frame:
        """Begin the transaction of a unit of work that is at rest. In a greenlet, if it has just read."""
        resting = scope.frame
        if resting.checkout is not None:
            self.settle(resting, failed=False)
            resting.give_up_connection()
        frame: Frame = scope.begin_transaction()
        if self.running_in is not None and self.running_in[0] is scope:
            self.running_in = (scope, frame)
        if self.started:
            self.begin_as_block()
        return frame

    def has_handed_out(self, connection: Connection) -> bool:
        """Say whether somebody has asked for this connection."""
        return is_handed_out(connection)

    def shares(self, connection: Connection) -> bool:
        """Say whether others may have this connection, listen to it, and send something on it themselves."""
        return self.has_handed_out(connection)

    def begin_for_connection(self, isolation: str | None) -> str | None:
        """Begin in a unit of work, for somebody who may write on the connection that he asks for.

        Return the isolation that is still to be asked for: none, it goes with BEGIN.

        Raises:
            TransactionRefusedError: The transaction has begun with another isolation.
        """
        scope, frame = self.running_in or self.place()
        self.wrote()
        self.connections_asked += 1
        if scope is not None and frame.idles:
            frame = self.begin_to_write(scope)
            if isolation is not None:
                frame.mode = BeginMode(isolation=Isolation(isolation))
            return None
        begun = frame.root.mode.isolation
        if isolation is not None and (begun is None or begun.value != isolation):
            raise TransactionRefusedError(
                self.source.name,
                f"Isolation {isolation} is asked for inside the transaction of {frame.root.owner}.",
                f"open it with `db.transaction(isolation={isolation!r})`.",
            )
        return None

    def bind_for(self, target: Engine | Connection) -> Engine | Connection:
        """Return what the session shall use in place of an engine of this Database. In a greenlet."""
        frame = self.turns.top.root
        if self.running_in is not None and self.running_in[1].idles:
            frame = self.running_in[1]  # a method of a repository that has only read, in a unit of work
        if target is not frame.connection and target is not self.source.home_engine().sync_engine:
            raise self.source.engines.elsewhere()
        return frame.connection or self.acquired(frame)

    def acquired(self, frame: Frame) -> Connection:
        """Check a connection out for a frame, and begin. In a greenlet."""
        permission.to_wait_for_connection(self, frame)
        return self._had(frame, frame.check_out())

    async def acquired_idle(self, frame: Frame) -> Connection | None:
        """Check a connection out for a frame, and begin; None if it takes a greenlet to do so."""
        connection = await frame.check_out_idle()
        return None if connection is None else self._had(frame, connection)

    def _had(self, frame: Frame, connection: Connection) -> Connection:
        if self._watches_changes and not frame.mode.read_only:
            guard_connection(self, connection)
        return connection

    def guard_connection(self) -> None:
        """Ask for each statement on the open connection, whoever has it: a read-only block has begun."""
        connection = self.turns.top.root.connection
        if connection is not None and not is_handed_out(connection):
            guard_connection(self, connection)

    def refuse_starvation(self, frame: Frame) -> None:
        """Refuse to wait for a connection that only the caller's own outer blocks could free."""
        self._blocks.refuse_starvation(self, frame)

    def settle(self, frame: Frame, *, failed: bool) -> None:
        """End what an operation without a transaction has left open; what was loaded stays. In a greenlet."""
        with self.ending():
            try:
                held = self.held
                if held is not None and failed and not (frame.idles and held.is_active):
                    held.rollback()
                elif held is not None:
                    end_quietly(held)
            finally:
                frame.give_back()

    def ending(self) -> _Ending:
        """Allow to end the transaction, while the block or unit of work does it."""
        return _Ending(self)

    def failed(self, scope: OpenScope | None, frame: Frame, error: BaseException) -> None:
        """Condemn the frame if this error has left its transaction unusable."""
        name = scope.name if scope is not None else frame.owner
        self.say_where(name, error)
        broken = self.started and not self.sync_session.is_active
        unsent = isinstance(error, DBAPIError) and frame.root.connection is None
        if unsent or broken or not isinstance(error, Exception):
            frame.condemn(name, error, by_database=True)

    def say_where(self, name: str, error: BaseException) -> None:
        """Say on an error of the database where it happened; on one of the pool, who has the connections."""
        if isinstance(error, PoolTimeoutError):
            error.add_note(self.source.holders())
        if isinstance(error, DBAPIError):
            error.add_note(f"In {name} on database {self.source.name!r}.")

    # -- what an operation asks in the middle ------------------------------------------------------

    def check_statement(self, statement: object, effects: Effects) -> None:
        """Refuse a statement that may not be sent here."""
        permission.to_send(self, statement, effects)

    def check_new(self, entities: Iterable[object]) -> None:
        """Refuse to insert inside a read-only block, or after its end. In its turn."""
        permission.to_add(self, entities, self.running_in)

    def check_change(self) -> None:
        """Refuse to change or delete an entity inside a read-only block. In its turn."""
        scope = (self.running_in or self.place())[0]
        if scope is not None:
            permission.refuse_in_read_only(self, scope)

    def check_changes(self) -> bool:
        """Say whether changes may be sent here, and begin what they need."""
        return permission.to_flush(self)

    def sent_on_access(self, method: Callable[[], Any]) -> Any:  # noqa: ANN401  # a result
        """Send what is loaded on access, in this task's turn. In a greenlet, outside of an operation."""
        turns = self.turns
        if turns.holder is asyncio.current_task() or self.ends_allowed:
            return method()
        _scope, frame = self.place()
        await_only(turns.take(frame))
        outer, self.running_in = self.running_in, self.place()
        failed = True
        try:
            result = method()
            if self.running_in[1].settles:
                result = result.freeze()()  # its rows, before the connection goes back
            failed = False
        finally:
            (_scope, frame), self.running_in = self.running_in, outer
            try:
                if frame.settles:
                    await_only(frame.settle(failed=failed))
            finally:
                turns.give()
        return result

    # -- AsyncSession ----------------------------------------------------------------------------

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """As `AsyncSession.add`; refused inside a read-only block."""
        self._add_when_free([instance])

    def add_all(self, instances: Iterable[object]) -> None:
        """As `AsyncSession.add_all`; refused inside a read-only block."""
        self._add_when_free(list(instances))

    def _add_when_free(self, instances: list[object]) -> None:
        permission.to_add(self, instances)

        def change() -> None:
            # Checked above, where the caller is; it may be added later, in another task's context.
            self.adding = True
            try:
                for instance in instances:
                    self.sync_session.add(instance)
            finally:
                self.adding = False

        self.turns.when_free(self.place()[1], change)

    async def commit(self) -> None:
        """Commit by hand: in a unit of work; inside a transaction block it is refused."""
        await self._by_hand("commit")

    async def rollback(self) -> None:
        """Roll back by hand: in a unit of work; inside a transaction block it is refused."""
        await self._by_hand("rollback")

    async def close(self) -> None:
        """Close by hand: in a unit of work; inside a transaction block it is refused."""
        await self._by_hand("close")

    async def reset(self) -> None:
        """As `close`."""
        await self._by_hand("close")

    async def invalidate(self) -> None:
        """As `close`."""
        await self._by_hand("close")

    async def _by_hand(self, verb: str) -> None:
        scope, frame = self.place()
        frame.check_open()
        if scope is None:
            raise frame.by_hand_refused(verb)
        await scope.by_hand(verb)

    def begin(self) -> AsyncSessionTransaction:
        """Begin by hand, in a unit of work where nothing is open; inside a block it is refused."""
        return self._blocks.transaction(self)

    def begin_nested(self) -> AsyncSessionTransaction:
        """Begin a savepoint by hand; the same as a block with propagation NESTED."""
        return self._blocks.savepoint(self)

    async def end_what_is_open(self, frame: Frame, error: BaseException | None) -> None:
        """End what was begun by hand inside a frame: savepoints of this task, streams of the transaction."""
        task = asyncio.current_task()
        while own := [each for each in self.savepoints if each.parent is frame and each.task is task]:
            await own[-1].end(error)
        if frame.root is frame:
            await self.close_streams()

    def in_turn(
        self, work: Callable[[AmbientSession], Awaitable[_Result]], place: Place | None = None
    ) -> Coroutine[Any, Any, _Result]:
        """Do something with this session when it is this task's turn.

        Args:
            work: What it is.
            place: Where the calling code is on this session, if that is known.
        """
        return do_in_turn(self, work, place)

    async def stream(self, *arguments: Any, **keywords: Any) -> AsyncResult[Any]:
        """As `AsyncSession.stream`; without a transaction the rows are fetched at once."""
        _scope, frame = self.place()
        if frame.settles or self.source.backend.one_result_at_a_time:
            options = {**keywords.pop("execution_options", {}), "yield_per": None, "stream_results": False}
            result = await self.execute(*arguments, execution_options=options, **keywords)
            return AsyncResult(result)
        options = {**keywords.pop("execution_options", {}), "stream_results": True}
        result = await self._stream(*arguments, execution_options=options, **keywords)
        turned = TurnedResult(result, self)
        self.streams = [*self.streams, weakref.ref(turned)]
        return turned

    @in_its_turn
    @with_session_begun
    async def _stream(self, *arguments: Any, **keywords: Any) -> Result[Any]:
        return await greenlet_spawn(self.sync_session.execute, *arguments, **keywords)

    async def close_streams(self) -> None:
        """Close the streamed results that are open still, before their transaction ends."""
        streams, self.streams = self.streams, ()
        for known in streams:
            turned = known()
            if turned is not None and not turned.closed:
                await turned.close()

    async def fetch(self, rows: Coroutine[Any, Any, object]) -> object:
        """Fetch more rows of a streamed result, when it is this task's turn."""
        try:
            scope, frame = self.place()
            frame.admit()
            await self.turns.take(frame)
        except BaseException:
            rows.close()
            raise
        try:
            return await rows
        except BaseException as error:
            self.failed(scope, frame, error)
            raise
        finally:
            self.turns.give()

    # -- the faster lanes ------------------------------------------------------------------------

    @override
    async def execute(self, statement: Any, params: Any = None, **keywords: Any) -> Result[Any]:
        """As `AsyncSession.execute`."""
        read = None if params is not None or any(keywords.values()) else read_of(self, statement)
        if read is not None and read.read.result is not None:
            items = await self._quick(read)
            if items is not None:
                return ChunkedIteratorResult(
                    read.read.result, lambda _size: iter([items]), source_supports_scalars=True
                )
        result: Result[Any] = await self._execute(statement, params, **keywords)
        return result

    @override
    async def scalar(self, statement: Any, params: Any = None, **keywords: Any) -> Any:
        """As `AsyncSession.scalar`."""
        read = None if params is not None or any(keywords.values()) else read_of(self, statement)
        if read is not None:
            items = await self._quick(read)
            if items is not None:
                return items[0] if items else None
        return await self._scalar(statement, params, **keywords)

    @override
    async def get(self, entity: Any, ident: Any, **keywords: Any) -> Any:
        """As `AsyncSession.get`."""
        read = None if any(keywords.values()) else read_by_key(self, entity, ident)
        if read is not None:
            items = await self._quick(read)
            if items is not None:
                return items[0] if items else None
        return await self._get(entity, ident, **keywords)

    @override
    async def get_one(self, entity: Any, ident: Any, **keywords: Any) -> Any:
        """As `AsyncSession.get_one`."""
        read = None if any(keywords.values()) else read_by_key(self, entity, ident)
        items = None if read is None else await self._quick(read)
        if items is None:
            return await self._get_one(entity, ident, **keywords)
        if not items:
            raise NoResultFound("No row was found when one was required")  # as that says
        return items[0]

    @override
    async def flush(self, objects: Any = None) -> None:
        """As `AsyncSession.flush`."""
        if objects is not None or not self.flushes_as_known():
            await self._flush(objects)
        elif await self.in_turn(self.source.lanes.fused.flush) is not None:
            await self._flush()

    def flushes_as_known(self) -> bool:
        """Say whether the session inside has no way of its own to flush."""
        return not self.started or type(self.sync_session).flush is GuardedSession.flush

    def deletes_as_known(self) -> bool:
        """Say whether neither this session nor the one inside has a way of its own to delete and flush."""
        own: Any = type(self)
        if own.delete is not AmbientSession.delete or own.flush is not AmbientSession.flush:
            return False
        return not self.started or (
            self.flushes_as_known() and type(self.sync_session).delete is GuardedSession.delete
        )

    async def _quick(self, read: ReadCall) -> Sequence[Any] | None:
        """Return what becomes of the rows of a read; None if the session itself must read them."""
        lanes, (scope, frame) = self.source.lanes, self.place()
        if not frame.idles:
            items = await self.in_turn(partial(lanes.fused.read, read), (scope, frame))
        elif self.knows_nothing_of(read.identity) and self._reads_alone(read, scope, frame):
            items = await lanes.driver.read_for_session(read, frame)
        else:
            return None
        return None if isinstance(items, LaneRefusal) else items

    def _reads_alone(self, read: ReadCall, scope: OpenScope | None, frame: Frame) -> bool:
        """Say whether the driver lane may read for a unit of work at rest, which holds nothing after it."""
        in_unit = scope is not None and scope.frame is frame and not scope.limits
        return in_unit and self.source.lanes.read_alone(read) and not self._blocks.holds_connection(self)


class _SetAtFirstUse:
    """An attribute that `AsyncSession.__init__` sets, which runs when one of them is asked for.

    Not `__getattr__`: a class that has one is slow in all its attributes.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, session: AmbientSession | None, owner: type[AmbientSession]) -> Any:  # noqa: ANN401  # of SQLAlchemy
        if session is None:
            return self
        if session.started:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}")
        session.set_up()
        return vars(session)[self._name]


class _Ending:
    """While it is entered, the session may commit, roll back and close."""

    __slots__ = ("_session",)

    def __init__(self, session: AmbientSession) -> None:
        self._session = session

    def __enter__(self) -> None:
        session = self._session
        session.ends_allowed += 1
        if session.started:
            # The collector may have found both in a generator that nobody ends, which does so by itself now.
            cast("GuardedSession", session.sync_session).stays_with(session)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.ends_allowed -= 1


for _name in SET_BY_ASYNC_SESSION:
    setattr(AmbientSession, _name, _SetAtFirstUse(_name))
for _name in _OPERATIONS:
    setattr(AmbientSession, _name, in_its_turn(with_session_begun(getattr(AsyncSession, _name))))
for _name in ("execute", "scalar", "get", "get_one", "flush"):
    # What the fused lane cannot do goes to SQLAlchemy.
    setattr(AmbientSession, f"_{_name}", in_its_turn(with_session_begun(getattr(AsyncSession, _name))))


_SET_UP_AT_ONCE: set[type[AmbientSession]] = set()
"""Classes whose sessions have attributes of their own, which may be looked for before the first statement."""


@once_for_class
def ambient_class(kind: type[AsyncSession]) -> type[AmbientSession]:
    """Return the class of ambient sessions that have what this class of sessions has."""
    if kind is AsyncSession:
        return AmbientSession
    refuse_taken_names(AmbientSession, kind, ())
    # What it overrides goes on to what it calls as `super()`.
    bases: Any = (kind, AmbientSession)
    found: type[AmbientSession] = type(f"Ambient{kind.__name__}", bases, {})
    if kind.__init__ is not AsyncSession.__init__:
        _SET_UP_AT_ONCE.add(found)
    return found


def opened_session(source: Source, loop: asyncio.AbstractEventLoop, blocks: Blocks) -> AmbientSession:
    """Return a new ambient session of a Database, of the class that its program has asked for."""
    kind = ambient_class(source.session_class)
    session = kind.__new__(kind)
    session.belong_to(source, loop, blocks)
    return session


def known_session_class(kind: object) -> type[AsyncSession]:
    """Return the class that ambient sessions shall have something of, if they can.

    Raises:
        OptionError: It is none of sessions, or uses a name for something else than they.
    """
    if not (isinstance(kind, type) and issubclass(kind, AsyncSession)):
        raise OptionError("session_class", kind, ["a subclass of `sqlalchemy.ext.asyncio.AsyncSession`"])
    refuse_no_class("the `sync_session_class` of session_class", kind.sync_session_class)
    ambient_class(kind)
    return kind


def refuse_taken_names(ambient: type[AmbientSession], kind: type[AsyncSession], own: Iterable[str]) -> None:
    """Refuse sessions that use a name for something of their own that ambient ones need.

    Args:
        ambient: What they are to be.
        kind: Their class.
        own: The names of what one of them has as attributes.

    Raises:
        OptionError: They do.
    """
    needed = _names_in(ambient)
    taken = sorted(needed & (_names_in(kind) | set(own)))
    if taken:
        names = ", ".join(map(repr, taken))
        raise OptionError("session_class", kind.__qualname__, [f"sessions without {names} of their own"])


@once_for_class
def _names_in(kind: type[AsyncSession]) -> frozenset[str]:
    """Return what a class has that `AsyncSession` has not."""
    classes = [each for each in kind.__mro__ if not issubclass(AsyncSession, each)]
    names = {name for each in classes for name in (*vars(each), *get_annotations(each))}
    return frozenset(names - {*dir(AsyncSession), *SET_BY_ASYNC_SESSION})
