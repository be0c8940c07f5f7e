"""This module holds the three kinds of frame: a transaction, a savepoint, and neither."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.orm import Session, make_transient
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._runtime.transactions.frame import Frame
from unitwork.errors import CommitOutcomeUnknownError
from unitwork.events import Outcome

if TYPE_CHECKING:
    from asyncio import CancelledError
    from collections.abc import Awaitable, Callable

    from sqlalchemy.orm import InstanceState, SessionTransaction

    from unitwork._runtime.finish import Finished
    from unitwork._runtime.sessions.session import TurnedSession
    from unitwork.dialects import BeginMode


def _note(cause: BaseException | None, second: BaseException) -> None:
    if cause is not None:
        cause.add_note(f"The rollback failed too, and the connection was discarded: {second!r}")


class PhysicalTransaction(Frame):
    """A transaction from BEGIN to COMMIT or ROLLBACK. BEGIN is sent with the first statement."""

    __slots__ = ("_new", "committing")

    def __init__(
        self, session: TurnedSession, owner: str, mode: BeginMode, parent: Frame | None = None
    ) -> None:
        super().__init__(session, owner, mode, parent)
        self._new: WeakSet[InstanceState[Any]] | None = None

    def inserted(self, entity: object) -> None:
        """Take note of what was inserted past the ORM, which would not make it new again after a rollback."""
        if self._new is None:
            self._new = WeakSet()
        self._new.add(instance_state(entity))

    def untouched(self) -> bool:
        """Say whether nothing was sent and nothing waits to be sent."""
        session = self.session
        return self.connection is None and not (session.started and session.has_changes())

    async def keep(self) -> CancelledError | None:
        if self.untouched():
            self._end_unsent(keep=True)
            return None
        self.committing = False
        done = await self.see_through(self._commit, self.deadline)
        error = done.error
        if error is None:
            self.disconnected()
            return done.cancelled
        unknown = self.committing and (done.abandoned or self.source.backend.may_be_stored(error))
        cancelled = await self.undo(error) or done.cancelled
        if unknown:
            raise CommitOutcomeUnknownError(self.source.name, self.owner) from error
        if cancelled is not None:
            raise cancelled from error
        raise error

    async def undo(self, cause: BaseException | None) -> CancelledError | None:
        if self.connection is None:
            self._end_unsent(keep=False)
            return None
        entities = [(state, state.obj()) for state in self._new or ()]
        new = [(state, entity, dict(state.dict)) for state, entity in entities if entity is not None]
        done = await self.see_through(self._roll_back)
        for state, entity, values in new:
            make_transient(entity)
            state.dict.update(values)
            state.expired = False
        self.disconnected()
        if done.error is not None:
            _note(cause, done.error)
        return done.cancelled

    @property
    def closes(self) -> bool:
        """Whether the session ends with this transaction; that of a unit of work goes on."""
        return self.parent is None

    def _end_unsent(self, *, keep: bool) -> None:
        """End without a word to the database."""
        if self.session.started:
            session = self.session.sync_session
            with self.session.ending():
                if self.closes:
                    session.close()
                elif keep:
                    session.commit()
                else:
                    session.rollback()

    def _commit(self) -> None:
        if self.deadline is not None and self.connection is not None and self.source.pinned is None:
            self.source.backend.limit_commit(self.connection, self.deadline.remaining())
        self.committing = True
        started = time.perf_counter()
        with self.session.ending():
            if self._session_takes_part():
                self.session.sync_session.commit()
            # A session that has sent nothing itself does not know that there is something to commit.
            if self.connection is not None and self.connection.in_transaction():
                self.connection.commit()
            self.source.watch.ending(self, "COMMIT", started)
            self._close_session()
            self.give_back()

    def _session_takes_part(self) -> bool:
        """Say whether the session inside has more to do at the end than to let go of its entities."""
        held = self.session.held
        if held is None:
            return False
        listeners = self.source.express.session_listeners
        return self.session.begun or held.expire_on_commit or listeners.of_reads(held) is not None

    def _roll_back(self) -> None:
        started = time.perf_counter()
        with self.session.ending():
            try:
                if self.session.started:
                    if not self.session.begun:
                        Session.begin(self.session.sync_session)  # or the entities would not be expired
                    self.session.sync_session.rollback()
                if self.connection is not None and self.connection.in_transaction():
                    self.connection.rollback()
                self.source.watch.ending(self, "ROLLBACK", started)
            except BaseException:
                if self.session.started:
                    self.session.sync_session.invalidate()
                if self.connection is not None and not (
                    self.connection.closed or self.connection.invalidated
                ):
                    self.connection.invalidate()
                raise
            finally:
                self.give_back()
            self._close_session()

    def _close_session(self) -> None:
        if self.closes and self.session.started:
            self.session.sync_session.close()


class Savepoint(Frame):
    """A savepoint: it can be undone alone. SAVEPOINT is sent with its first statement."""

    __slots__ = ("transaction",)

    transaction: SessionTransaction
    kept = Outcome.SAVEPOINT_KEPT
    undone = Outcome.SAVEPOINT_UNDONE

    @property
    def root(self) -> Frame:
        return self.parent.root if self.parent is not None else self

    async def begin(self) -> None:
        """Send what is pending, then begin. The turn of the frame around it is taken."""
        session = self.session.sync_session
        self.transaction = await greenlet_spawn(session.begin_nested)

    async def keep(self) -> CancelledError | None:
        done = await self.see_through(self.transaction.commit, self.deadline)
        if done.error is not None:
            cancelled = await self.undo(done.error) or done.cancelled
            if cancelled is not None:
                raise cancelled from done.error
            raise done.error
        if self.callbacks is not None and self.parent is not None:
            self.parent.hooks().take_over(self.callbacks)
        return done.cancelled

    async def undo(self, cause: BaseException | None) -> CancelledError | None:
        done = await self.see_through(self._roll_back)
        if done.error is not None:
            _note(cause, done.error)
            if self.parent is not None:
                self.parent.condemn(self.owner, done.error, by_database=True)
        return done.cancelled

    def _roll_back(self) -> None:
        # After a failed RELEASE the session has already gone back behind it.
        if self.session.sync_session.in_nested_transaction():
            self.transaction.rollback()


class Plain(Frame):
    """No transaction: each statement commits by itself, and holds no connection afterwards."""

    __slots__ = ()

    settles = True
    kept = undone = Outcome.NO_TRANSACTION

    @property
    def transactional(self) -> bool:
        return False

    async def keep(self) -> CancelledError | None:
        return await self.undo(None)

    async def undo(self, cause: BaseException | None) -> CancelledError | None:  # noqa: ARG002  # as its siblings
        if not self.session.started or self.parent is not None:
            return None
        done = await self._finish(self.session.sync_session.close)
        self.disconnected()
        return done.cancelled

    @override
    def condemn(self, *arguments: Any, **keywords: Any) -> None:
        """Nothing to condemn: what was done is committed."""

    @override
    async def settle(self, *, failed: bool) -> None:
        """Commit and give the connection back after an operation; what was loaded stays."""
        session, connection = self.session, self.connection
        if connection is None and not (failed and session.started):
            return
        done = await self._finish(self._roll_back if failed else self._commit)
        self.disconnected()
        if done.error is not None and not failed:
            await self._finish(self._roll_back)
            raise done.error
        if done.cancelled is not None:
            raise done.cancelled

    def _commit(self) -> None:
        if self.session.started:
            self.session.sync_session.commit()
        elif self.connection is not None:
            self.connection.commit()

    def _roll_back(self) -> None:
        if self.session.started:
            self.session.sync_session.rollback()
        elif self.connection is not None:
            self.connection.rollback()

    def _finish(self, end: Callable[[], None]) -> Awaitable[Finished]:
        return self.see_through(partial(self._settle, end))

    def _settle(self, end: Callable[[], None]) -> None:
        with self.session.ending():
            try:
                end()
            finally:
                self.give_back()
