"""This module hears when the owner of an adopted session ends a transaction, and does what waits for that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_session
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from unitwork._logic.outcome import Verdict
from unitwork._runtime.blocks.hooks import (
    after_commit_failed,
    after_rollback_failed,
    run_after_commit,
    run_after_rollback,
    run_before_commit,
)
from unitwork._runtime.connections.listeners import HARMLESS_ON
from unitwork._runtime.transactions.adopted import AdoptedTransaction
from unitwork._runtime.transactions.owners_commit import OwnersCommit
from unitwork._sqlalchemy.private import connection_of
from unitwork.options import DEFAULT_OPTIONS, Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork._runtime.sessions.adopted import AdoptedSession
    from unitwork._runtime.source import Source


class AdoptingScope(Protocol):
    """The extent in which a session is adopted."""

    name: str

    def goes_on_in(self, frame: AdoptedTransaction) -> None:
        """Let what comes now take part in this transaction, or savepoint, of the owner's."""


WorkInside: TypeAlias = Callable[[AsyncSession, Callable[[], Awaitable[None]]], Awaitable[None]]
"""What does some work with a session that is adopted for that."""


class OwnersEnds:
    """What waits for the ends of the transactions of one session. Lives: as long as the session.

    The owner may commit or roll back while his session is adopted, or after that. SQLAlchemy tells of both.
    """

    def __init__(self, source: Source, inside: WorkInside) -> None:
        self._source = source
        self._inside = inside
        self._commit = OwnersCommit(self.refuse_half)
        self._frames: dict[SessionTransaction | None, AdoptedTransaction] = {}
        """By savepoint; None is the transaction around them all, which need not have begun."""
        self._adopted: tuple[AdoptingScope, AdoptedSession] | None = None
        self._later: list[AdoptedTransaction] | None = None
        """What has ended by the hand of the code that runs, which goes on with what waits for that."""
        self.left_with: BaseException | None = None
        """The exception that has left the extent, and may be why the owner rolls back."""

    @classmethod
    def of(cls, held: Session, source: Source, inside: WorkInside) -> OwnersEnds:
        """Return what hears of the ends of a session for a Database; it is made once for each.

        Args:
            held: The session.
            source: The Database.
            inside: What adopts the session again, for what is to be done before a COMMIT that comes later.
        """
        # Kept by the session itself: what waits for its end may know it, and both are freed together.
        known: dict[Source, OwnersEnds] = vars(held).setdefault(_KNOWN, {})
        if source not in known:
            ends = known[source] = cls(source, inside)
            for name in ("after_begin", "before_commit", "after_commit", "after_transaction_end"):
                event.listen(held, name, getattr(ends, f"_{name}"))
                HARMLESS_ON.setdefault(held, Counter())[name] += 1
        return known[source]

    # -- while it is adopted ---------------------------------------------------------------------

    def adopted_by(self, scope: AdoptingScope, session: AdoptedSession) -> None:
        """Begin with frames for what is open: the transaction, and the savepoints that were begun in it."""
        self._adopted, self.left_with = (scope, session), None
        held = session.sync_session
        before, self._frames = self._frames, {}
        transaction = Session.get_nested_transaction(held)
        innermost = self._frame_for(transaction, before)
        while transaction is not None:
            transaction = _around(transaction)
            self._frame_for(transaction, before)
        session.begin_with(innermost)
        self._enter(innermost)

    def _frame_for(
        self,
        transaction: SessionTransaction | None,
        before: dict[SessionTransaction | None, AdoptedTransaction],
    ) -> AdoptedTransaction:
        assert self._adopted is not None  # noqa: S101  # its frames belong to the adopted session
        scope, session = self._adopted
        frame = self._frames[transaction] = AdoptedTransaction(
            session, scope.name, self._commit, nested=transaction is not None
        )
        if transaction in before:
            frame.go_on_with(before[transaction])
        return frame

    def _enter(self, frame: AdoptedTransaction) -> None:
        """Let the code of the extent take part in this one, on the connection that the session has."""
        if self._adopted is not None:
            scope, session = self._adopted
            scope.goes_on_in(frame)
            held = session.sync_session
            connection = connection_of(Session.get_nested_transaction(held) or Session.get_transaction(held))
            if connection is not None:
                frame.begun_on(connection)

    def hand_back(self, frame: AdoptedTransaction, error: BaseException | None) -> Connection | None:
        """Leave the session to its owner; what waits goes on waiting. Return the connection that it has."""
        connection = frame.connection
        frame.give_up_connection()
        self._adopted, self.left_with = None, error
        for each in self._frames.values():
            each.close()
            each.forget_session()
            if connection is not None:
                each.await_end(connection)
        return connection

    async def by_hand(self, end: Callable[[], Awaitable[None]], *, commits: bool) -> None:
        """End all that is open in the extent itself; do what waits for that while the session is free."""
        if commits:
            self.refuse_half()
            for frame in reversed(list(self._frames.values())):
                await self._prepare(frame)
        self._later = []
        try:
            await end()
        finally:
            ended, self._later = self._later, None
            for frame in ended:
                await self._tell(frame)

    # -- what SQLAlchemy tells -------------------------------------------------------------------

    def _after_begin(self, held: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        # A savepoint of a block may be what has asked for it: it is the connection of what is around.
        transaction = Session.get_nested_transaction(held)
        while transaction is not None and transaction not in self._frames:
            transaction = _around(transaction)
        frame = self._frames.get(transaction)
        if frame is None:
            return
        if self._adopted is None:
            frame.await_end(connection)
        else:
            frame.begun_on(connection)

    def refuse_half(self) -> None:
        """Refuse a COMMIT where something can only be rolled back.

        Raises:
            UnexpectedRollbackError: A block had failed, or is open still.
        """
        for each in self._frames.values():
            if each.verdict(None, DEFAULT_OPTIONS) is not Verdict.COMMIT:
                raise each.unexpected(None)

    def _before_commit(self, held: Session) -> None:
        """Refuse what can only roll back; else do what is to be done inside, before a COMMIT."""
        frame = self._innermost(held)
        if frame is None:
            return
        self.refuse_half()
        if not frame.nested and self._later is None:
            _wait(self._prepare_inside(held, frame))
            self.refuse_half()

    def _after_commit(self, held: Session) -> None:
        frame = self._innermost(held)
        if frame is not None:
            frame.end(committed=True)

    def _after_transaction_end(self, _held: Session, transaction: SessionTransaction) -> None:
        key = transaction if transaction.nested else None
        if key is None and transaction.parent is not None:
            return  # of a flush
        frame = self._frames.pop(key, None)
        if frame is None:
            return
        self._end(frame)
        self._go_on(frame, transaction)
        around = self._frames.get(_around(transaction)) if key is not None else None
        if frame.outcome is Outcome.COMMITTED and around is not None:
            if frame.hooks_or_none is not None:
                around.hooks.take_over(frame.hooks_or_none)
        elif self._later is not None:
            self._later.append(frame)
        elif frame.hooks_or_none is not None or frame.commit.cancelled is not None:
            _wait(self._tell(frame))

    def _end(self, frame: AdoptedTransaction) -> None:
        if frame.outcome is not Outcome.COMMITTED:
            frame.end(committed=False)
        frame.give_up_connection()
        if not frame.nested:
            self._commit = OwnersCommit(self.refuse_half)

    def _go_on(self, frame: AdoptedTransaction, transaction: SessionTransaction) -> None:
        """Let the extent go on in what is around, or in the next transaction."""
        if self._adopted is None:
            return
        _scope, session = self._adopted
        if session.turns.top.root is not frame:
            return
        key = _around(transaction) if transaction.nested else None
        frame.base = self._frames.get(key) or self._frame_for(None, {})
        session.turns.succeed(frame, frame.base)
        self._enter(frame.base)

    def _innermost(self, held: Session) -> AdoptedTransaction | None:
        """Return the frame of the innermost transaction; None if that is a savepoint of a block."""
        return self._frames.get(Session.get_nested_transaction(held))

    # -- before and after an end ----------------------------------------------------------------------------

    async def _prepare(self, frame: AdoptedTransaction) -> None:
        """Do what is to be done inside, before a COMMIT; if that fails, the owner can only roll back."""
        if frame.hooks_or_none is None:
            return
        try:
            await run_before_commit(frame)
        except BaseException as error:
            frame.condemn(frame.owner, error)
            raise

    async def _prepare_inside(self, held: Session, frame: AdoptedTransaction) -> None:
        """The same; when the session was handed back, it is adopted for that."""
        session = async_session(held)
        if self._adopted is not None or session is None:
            await self._prepare(frame)
        elif frame.hooks_or_none is not None and frame.hooks.before_commit:
            await self._inside(session, lambda: self._prepare(self._frames[None]))

    async def _tell(self, frame: AdoptedTransaction) -> None:
        """Do what waits for an end that has come, and raise what its owner must hear of."""
        failure = cancelled = None
        if frame.hooks_or_none is not None:
            failure, cancelled = await self._run_hooks(frame)
            frame.hooks_or_none = None  # a context that knows the frame may outlive what they know
        failure = failure or cancelled or frame.commit.cancelled
        if failure is not None:
            raise failure

    async def _run_hooks(
        self, frame: AdoptedTransaction
    ) -> tuple[BaseException | None, asyncio.CancelledError | None]:
        failure = cancelled = None
        if frame.outcome is Outcome.COMMITTED:
            failures, cancelled = await run_after_commit(frame)
            failure = after_commit_failed(self._source.name, failures)
        elif frame.outcome is not Outcome.UNKNOWN and frame.hooks.after_rollback:
            failures, cancelled = await run_after_rollback(frame, outside=not frame.nested)
            failure = after_rollback_failed(self.left_with, failures)
        frame.hooks.tell_end()
        return failure, cancelled


_KNOWN = "_unitwork_ends"


def _around(transaction: SessionTransaction) -> SessionTransaction | None:
    """Return the savepoint around another one; None if that is the transaction itself."""
    parent = transaction.parent
    while parent is not None and not parent.nested:
        parent = parent.parent
    return parent


def _wait(work: Any) -> None:  # noqa: ANN401  # a coroutine
    """Wait for work in the greenlet that SQLAlchemy runs in; where there is none, it runs by itself."""
    if in_greenlet():
        await_only(work)
    else:
        task = asyncio.ensure_future(work)
        _running.add(task)
        task.add_done_callback(_running.discard)


_running: set[asyncio.Future[object]] = set()
"""Tasks that nobody awaits must be held, or the loop may forget them."""
