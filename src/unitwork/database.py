"""This module holds the Database: the handle that a program keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session
from typing_extensions import Unpack

from unitwork._later import later, load
from unitwork._runtime import context, live
from unitwork._runtime.live import DEFAULT_NAME
from unitwork._runtime.transactions.hooks import Hook, check_hook
from unitwork.errors import NoTransactionError, OptionError, TransactionRefusedError
from unitwork.lifecycle import Lifecycle, caller
from unitwork.options import (
    Lane,
    LaneName,
    RetryPolicy,
    ServerLimits,
    TransactionKeywords,
    TransactionOptions,
)
from unitwork.repository import Repository
from unitwork.transaction import Decoration, RepositoryBlock, TransactionBlock
from unitwork.unit_of_work import Running, UnitOfWork, run_parallel

if TYPE_CHECKING:  # what most programs do not use
    from unitwork import adoption, events, settings
    from unitwork._logic import routing, urls
    from unitwork.query import lanes
else:
    adoption = later("unitwork.adoption")
    events = later("unitwork.events")
    lanes = later("unitwork.query.lanes")
    routing = later("unitwork._logic.routing")
    settings = later("unitwork.settings")
    urls = later("unitwork._logic.urls")

if TYPE_CHECKING:  # what a program needs when it has a Database, and not before
    from unitwork._runtime import opening
    from unitwork._runtime.access import flushing, repository_access
    from unitwork._runtime.blocks import block as blocks
    from unitwork._runtime.blocks import hooks, unit
    from unitwork._runtime.sessions import session as sessions
    from unitwork.query import select as fluent
else:
    opening = later("unitwork._runtime.opening")
    flushing = later("unitwork._runtime.access.flushing")
    repository_access = later("unitwork._runtime.access.repository_access")
    blocks = later("unitwork._runtime.blocks.block")
    hooks = later("unitwork._runtime.blocks.hooks")
    unit = later("unitwork._runtime.blocks.unit")
    sessions = later("unitwork._runtime.sessions.session")
    fluent = later("unitwork.query.select")

__all__ = ["Database", "get_session"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
SessionT = TypeVar("SessionT", bound=AsyncSession)
RepositoryT = TypeVar("RepositoryT", bound=Repository[Any])


class Database(Lifecycle):
    """One database: its engine, its sessions, and the transactions on it.

    Nothing connects before the first statement. Lives: as long as the application; end it with
    `await db.dispose()` or `async with Database(...) as db:`.

    Args:
        url: A URL as text or `sqlalchemy.URL`, `DatabaseSettings`, or an `AsyncEngine` of yours. One with
            several hosts means the same as `urls`.
        urls: Instead of `url`: where the primary may be, in this order. Writes go to the one that takes them.
        replicas: Servers that replicate it. Read-only blocks and reads of repositories outside of
            transactions go there, once they have all that the reader has written and read.
        name: What `using="..."` calls it. Two live Databases cannot be given the same name.
        session_class: What `db.session` is, besides an `AsyncSession`: a subclass, such as SQLModel's, or one
            with methods of your own. Repositories read past what it overrides.
        session_options: Passed to each session, as to `sqlalchemy.ext.asyncio.AsyncSession`.
            `expire_on_commit` is False unless you say otherwise.
        observers: Told of each unit of work, block, statement and connection; see `unitwork.events`.
        fastest_lane: "driver"; "fused" or "session" keep reads from the faster ways to the database,
            to find out whether one of them makes a difference. See `explain_lane`.
        end_grace_s: How many seconds the end of a block (COMMIT, ROLLBACK) is waited for once its time is
            over or its task is cancelled. After that its connection is discarded, whatever the server does.
        replica_wait_s: How many seconds a read waits for a replica that is new enough, before it goes to the
            primary.
        max_lag_s: Replicas that are more seconds behind get no reads.
        failover_s: How many seconds to look for the server that takes writes, where there are several.
        begin_immediate: SQLite alone: sessions and connections by hand begin as blocks do, with the write
            lock, and cannot fail for others having written meanwhile. True, unless the engine is yours: then
            they begin as SQLite does, with their first write.
        transaction_pooling: Rely on nothing that outlives a transaction: a pooler before PostgreSQL, such
            as PgBouncer, gives each one another connection.
        **engine_options: Passed to `sqlalchemy.ext.asyncio.create_async_engine`, for each server.

    Raises:
        DatabaseChoiceError: Another live Database was given this name.
        MissingExtraError: The driver in the URL is not installed.
        OptionError: No such lane; no grace above zero; `transaction_pooling` or `begin_immediate` of another
            database; a `session_class` that is none, or uses a name that ambient sessions need.
        sqlalchemy.exc.ArgumentError: The URL cannot be read.

    Examples:
        >>> db = Database("sqlite+aiosqlite:///:memory:", name="example")
        >>> db.name
        'example'
    """

    def __init__(  # noqa: PLR0913  # what a person says of a Database
        self,
        url: str | URL | settings.DatabaseSettings | AsyncEngine | None = None,
        *,
        urls: Sequence[str | URL | settings.DatabaseSettings] = (),
        replicas: Sequence[str | URL | settings.DatabaseSettings] = (),
        name: str = DEFAULT_NAME,
        session_class: type[AsyncSession] = AsyncSession,
        session_options: Mapping[str, Any] | None = None,
        observers: tuple[events.Observer, ...] | list[events.Observer] = (),
        fastest_lane: Lane | LaneName = Lane.DRIVER,
        end_grace_s: float = 2.0,
        replica_wait_s: float = 0.05,
        max_lag_s: float = 30.0,
        failover_s: float = 10.0,
        begin_immediate: bool | None = None,
        transaction_pooling: bool = False,
        **engine_options: Any,
    ) -> None:
        lane = Lane.of(fastest_lane)
        if not end_grace_s > 0:
            raise OptionError("end_grace_s", end_grace_s, ["a number of seconds above 0"])
        # What requests need is here before the first of them.
        load(opening, sessions, blocks, unit, hooks, repository_access, flushing, fluent)
        opening.refuse_second(name)
        limits = ServerLimits(replica_wait_s=replica_wait_s, max_lag_s=max_lag_s, failover_s=failover_s)
        written = opening.WrittenAddresses(url, urls, replicas, limits)
        super().__init__(opening.open_source(written, name, engine_options, session_options or {}))
        self._source.lanes.fastest = lane
        self._source.grace_s = end_grace_s
        self._source.session_class = sessions.known_session_class(session_class)
        self._source.backend.begin_by_hand(immediate=begin_immediate, given=self._source.engines.given)
        if transaction_pooling:
            self._source.backend.expect_transaction_pooling()
        live.enlist(self._source)
        for observer in observers:
            self.observe(observer)

    def __repr__(self) -> str:
        return f"<Database {self.name!r} at {urls.shown(self._source.url)}>"

    def explain_lane(self, query: object, /, *arguments: Any, **keywords: Any) -> routing.LaneChoice:
        """Say which way a read takes to the database here and now, and why no faster one. Sends nothing.

        Args:
            query: A declared query of a repository, or a `select(...)`.
            *arguments: Those of the call.
            **keywords: Those of the call.

        Raises:
            OptionError: It is neither.

        Examples:
            >>> from sqlalchemy import select
            >>> print(db.explain_lane(select(User)))
            driver lane
        """
        return lanes.lane_of(self._source, query, arguments, keywords)

    # -- transactions --------------------------------------------------------------------------

    def transaction(self, **options: Unpack[TransactionKeywords]) -> TransactionBlock:
        """Open a transaction block: `async with db.transaction() as session:`.

        Args:
            **options: `propagation` (REQUIRED), `read_only` (False), `fresh` (False: True reads from
                the primary, where replicas could answer), `isolation` (the database's),
                `timeout` in seconds for the whole block with its commit (none), `durable` (False:
                True refuses to run inside another transaction), `rollback_for` and
                `no_rollback_for` (exception classes; every exception rolls back).

        Raises:
            OptionError: An option has a value that does not exist.
            TransactionRefusedError: The options do not fit what is open. On entry.
            UnexpectedRollbackError: A block inside had failed. At the end; rolled back.
            TransactionTimeoutError: The time is over. Rolled back.
            CommitOutcomeUnknownError: The connection was lost during COMMIT.
            AfterCommitError: Committed, but an `on_commit` function failed.

        Database:
            BEGIN with the first statement, COMMIT or ROLLBACK at the end; nothing for an empty
            block. A joined block sends nothing, NESTED sends SAVEPOINT and RELEASE.

        Examples:
            >>> async with db.transaction():
            ...     db.session.add(User(email="ann@example.com"))
        """
        return TransactionBlock(self._source, TransactionOptions.of(**options), f"the block at {caller()}")

    @overload
    def transactional(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def transactional(
        self, /, *, retry: RetryPolicy | int | None = ..., **options: Unpack[TransactionKeywords]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]: ...
    def transactional(
        self,
        function: Any = None,
        /,
        *,
        retry: RetryPolicy | int | None = None,
        **options: Unpack[TransactionKeywords],
    ) -> Any:
        """Run an async function in a transaction block of this Database.

        As `unitwork.transactional`, with the Database chosen.
        """
        decoration = Decoration(self, TransactionOptions.of(**options), retry)
        return decoration.wrap if function is None else decoration.wrap(function)

    def unit_of_work(self, *, atomic: bool = True) -> UnitOfWork:
        """Open a unit of work: `async with db.unit_of_work():`; one session for a request or a job.

        Args:
            atomic: The unit is one transaction, which begins with its first write and which all blocks
                inside join. False: each block, and each write of a repository, commits by itself.

        Raises:
            UnexpectedRollbackError: At the end; something inside had failed, and was swallowed.

        Database:
            Nothing for a unit that sends nothing; reads before the first write hold no connection. At
            the end COMMIT, or ROLLBACK when an exception leaves. By hand, outside of blocks,
            `commit()`, `rollback()` and `close()` end what there is so far.

        Examples:
            >>> async with db.unit_of_work():
            ...     db.session.add(User(email="unit@example.com"))
            ...     await db.commit()
        """
        return UnitOfWork(self._source, f"the unit of work at {caller()}", atomic=atomic)

    def adopt(self, session: SessionT | async_scoped_session[SessionT]) -> adoption.AdoptedBlock[SessionT]:
        """Make a session of yours the ambient one: `async with db.adopt(session):`.

        For programs of which a part makes and commits its sessions itself. Blocks inside take part in the
        transaction of the session, or use savepoints in it, and commit nothing; repositories use it. Whoever
        has made it commits, rolls back and closes it, inside (outside of blocks) or later: then what waits
        for that is told, such as `on_commit`.

        Args:
            session: An `AsyncSession` of this Database's engine, inside or outside of a transaction; or an
                `async_scoped_session`, whose session for the code that runs is meant.

        Raises:
            TransactionRefusedError: It is of another engine or event loop, or is adopted already by other
                code. On entry.
            UnexpectedRollbackError: From the owner's commit: a block inside had failed, or is open still.
            AfterCommitError: From the owner's commit: stored, but an `on_commit` function failed.
            OptionError: It is no session, or each of its statements commits by itself.

        Database:
            Nothing by itself: the session begins with its first statement, as always.

        Examples:
            >>> async with db.session_factory() as session, db.adopt(session):
            ...     _ = await Repository[User](db).create(email="old@example.com")
            ...     await session.commit()
        """
        return adoption.AdoptedBlock(self._source, session, f"the session adopted at {caller()}")

    @overload
    def repository(  # pyright: ignore[reportOverlappingOverload]  # a class of repositories comes first
        self, kind: type[RepositoryT], /
    ) -> RepositoryBlock[RepositoryT]: ...
    @overload
    def repository(self, kind: type[M], /) -> RepositoryBlock[Repository[M]]: ...
    def repository(self, kind: type, /) -> RepositoryBlock[Any]:
        """Open a transaction block with a repository in one line: `async with db.repository(User) as users:`.

        Args:
            kind: A mapped class, or a subclass of `Repository`.

        Raises:
            UnexpectedRollbackError: A block inside had failed. At the end; rolled back.

        Database:
            As `transaction()`: joins the transaction that is open, or begins and ends one.

        Examples:
            >>> async with db.repository(User) as users:
            ...     await users.create(email="script@example.com")
            User(id=1, email='script@example.com', active=True)
        """
        made = kind(self) if issubclass(kind, Repository) else Repository[kind](self)  # type: ignore[valid-type]  # known at run time
        block = TransactionBlock(
            self._source, TransactionOptions.of(), f"the repository of {kind.__name__} at {caller()}"
        )
        return RepositoryBlock(block, made)

    @overload
    async def parallel(self) -> tuple[()]: ...
    @overload
    async def parallel(self, one: Running[A], /) -> tuple[A]: ...
    @overload
    async def parallel(self, one: Running[A], two: Running[B], /) -> tuple[A, B]: ...
    @overload
    async def parallel(self, one: Running[A], two: Running[B], three: Running[C], /) -> tuple[A, B, C]: ...
    @overload
    async def parallel(
        self, one: Running[A], two: Running[B], three: Running[C], four: Running[D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    async def parallel(
        self,
        one: Running[A],
        two: Running[A],
        three: Running[A],
        four: Running[A],
        five: Running[A],
        /,
        *more: Running[A],
    ) -> tuple[A, ...]: ...
    async def parallel(self, *work: Running[Any]) -> tuple[Any, ...]:
        """Run coroutines at the same time, each in a unit of work and on a connection of its own.

        Args:
            *work: Coroutines, such as `load(1), load(2)`; at most as many run at once as the pool
                has connections.

        Returns:
            Their results, in the order of the arguments; of up to four a type checker knows each.

        Raises:
            TransactionRefusedError: This task holds the connections that they would wait for.

        Database:
            Each unit is one with `atomic=False`: each block, and each write of a repository outside of
            one, commits by itself, and stays when the coroutine fails later. When one fails, the
            others are cancelled.
        """
        return await run_parallel(self._source, f"db.parallel at {caller()}", work)

    @property
    def session(self) -> AsyncSession:
        """The ambient session: that of the innermost open block or unit of work.

        Raises:
            NoTransactionError: No block and no unit of work is open here.
            TransactionEndedError: The one that this code was started in has ended.
        """
        session: AsyncSession = self._scope().frame.session
        return session

    def set_rollback_only(self) -> None:
        """Make the open transaction roll back at its end.

        Called by the block that began it, the rollback is silent; called in a joined block, the
        outer block raises `UnexpectedRollbackError`.

        Raises:
            NoTransactionError: No transaction is open here.
        """
        scope = self._scope()
        if not (scope.frame.transactional or scope.frame.begins_with_writes):
            raise NoTransactionError(self.name)
        if scope.owns:
            scope.frame.rollback_only = True
        else:
            scope.frame.condemn(scope.name, None)

    async def commit(self) -> None:
        """Commit by hand, in a unit of work.

        Raises:
            TransactionRefusedError: Inside a transaction block, which commits by itself.
        """
        await self._scope().by_hand("commit")

    async def rollback(self) -> None:
        """Roll back by hand, in a unit of work.

        Raises:
            TransactionRefusedError: Inside a transaction block.
        """
        await self._scope().by_hand("rollback")

    async def close(self) -> None:
        """Give the connection back at once, in a unit of work; the next use begins anew.

        Raises:
            TransactionRefusedError: Inside a transaction block.
        """
        await self._scope().by_hand("close")

    # -- hooks ---------------------------------------------------------------------------------

    def on_commit(self, function: Hook) -> Awaitable[object]:
        """Call a function, sync or async, after the physical commit.

        It runs once, with no transaction current, so it may open its own. Without a transaction it
        runs at once; an async one then runs in a task, which is returned to be awaited.

        Raises:
            AfterCommitError: From the block, when functions failed; the transaction *is* committed.
            OptionError: It is no function.
        """
        return self._register("after_commit", function)

    def on_rollback(self, function: Hook) -> Awaitable[object]:
        """Call a function, sync or async, after a rollback; without a transaction, never.

        It belongs to the savepoint or transaction that is open here. What it raises becomes a note
        on the exception that caused the rollback.
        """
        return self._register("after_rollback", function)

    def before_commit(self, function: Hook) -> Awaitable[object]:
        """Call a function, sync or async, inside the transaction just before COMMIT.

        What it raises rolls back. Without a transaction it runs at once.
        """
        return self._register("before_commit", function)

    def _register(self, moment: str, function: Hook) -> Awaitable[object]:
        check_hook(function)
        scope = context.last(self._source)
        if scope is not None and not (scope.frame.ended and scope.frame.root.ended):
            # Of a savepoint that has ended, the transaction around it is open still.
            self._check_here(scope)
        open_here = scope is not None and not scope.frame.ended
        if scope is not None and open_here and (scope.frame.transactional or scope.frame.begins_with_writes):
            getattr(scope.frame.hooks, moment).append(function)
        elif moment != "after_rollback":
            return hooks.run_at_once(function)
        return hooks.NothingToAwait()

    async def __aenter__(self) -> Self:
        live.enlist(self._source)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.dispose()

    def _scope(self) -> blocks.Scope:
        scope: blocks.Scope | None = context.last(self._source)
        if scope is None:
            raise NoTransactionError(self.name)
        self._check_here(scope)
        return scope

    def _check_here(self, scope: blocks.Scope) -> None:
        """Refuse to use what has ended, or what belongs to another thread."""
        if scope.frame.ended:
            raise scope.frame.ended_error()
        _check_thread(self.name)


def get_session(database: Database) -> AsyncSession:
    """Return the ambient session, for those who like functions; the same as `database.session`."""
    return database.session


def _check_thread(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise TransactionRefusedError(
            name,
            f"The session on database {name!r} is used in a thread without an event loop.",
            "use it in the task that opened the block, and hand plain values to the thread.",
        ) from None
