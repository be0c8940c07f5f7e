"""This module ends what a block has begun, in four phases: last work, closed, sent, after."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from unitwork._logic.outcome import Verdict
from unitwork._logic.states import State
from unitwork._runtime.blocks.hooks import (
    after_commit_failed,
    after_rollback_failed,
    run_after_commit,
    run_after_rollback,
    run_before_commit,
)
from unitwork._runtime.blocks.waiting import last_operation
from unitwork._runtime.connections.losses import nothing_stored_with
from unitwork._runtime.deadline import remaining_s
from unitwork._runtime.transactions.savepoint import Savepoint
from unitwork._runtime.transactions.transaction import AtRest, Autocommit, Transaction
from unitwork._sqlalchemy.private import end_quietly
from unitwork._sqlalchemy.savepoints import flushes_nothing
from unitwork.errors import CommitOutcomeUnknownError
from unitwork.options import Outcome

if TYPE_CHECKING:
    from asyncio import CancelledError

    from unitwork._runtime.sessions.session import AmbientSession
    from unitwork._runtime.transactions.connection import Checkout
    from unitwork._runtime.transactions.frame import Frame
    from unitwork.options import TransactionOptions

_UNDONE = frozenset({Outcome.ROLLED_BACK, Outcome.SAVEPOINT_UNDONE})
# Looked up once: the class of an enum takes long for that in Python 3.11.
_IS_COMMITTED = State.COMMITTED
_COMMIT, _ROLL_BACK_AND_RAISE = Verdict.COMMIT, Verdict.ROLL_BACK_AND_RAISE
_COMMITTED = Outcome.COMMITTED


class EndingScope(Protocol):
    """The block or unit of work whose frame ends."""

    outcome: Outcome

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def options(self) -> TransactionOptions:
        """How it behaves."""
        ...

    def forget(self, frame: Frame) -> None:
        """Take it out of the context, and let the frame around it end."""
        ...


async def end(
    scope: EndingScope, frame: Frame, error: BaseException | None, under: Frame | None = None
) -> None:
    """End a frame that a scope has begun: commit it, or roll it back; run what waits for that.

    Args:
        scope: The block or unit of work.
        frame: What it has begun: a transaction, a savepoint, or neither.
        error: The exception that leaves the block.
        under: What it has begun in, if that lets nobody in any more, either.

    Raises:
        UnexpectedRollbackError: It was to commit, but something inside had failed.
        CommitOutcomeUnknownError: COMMIT was sent, and the answer never came.
        AfterCommitError: It is committed, and something failed after that.
        asyncio.CancelledError: The task was cancelled meanwhile.
    """
    if frame.checkout is None and pass_by(scope, frame, error):
        return
    ending = Ending(scope, frame, error, under=under)
    await ending.do_last_work()
    await ending.close()
    await ending.send()
    ending.let_go()
    if frame.hooks_or_none is not None:
        await ending.run_hooks()
    ending.tell()


def pass_by(scope: EndingScope, frame: Frame, error: BaseException | None) -> bool:
    """End a frame in which nothing was done, or nothing but reads that have ended by themselves.

    Say whether that was so.
    """
    if not frame.is_untouched:
        return False
    session: AmbientSession = frame.session
    turns = session.turns
    if turns.holder is not None or turns.top is not frame or (session.started and not frame.idles):
        return False
    if frame.base is not None and frame.base.waits_for_end:
        return False
    turns.close(frame)
    if session.started and frame.parent is None:
        with session.ending():
            _close(session)
    if frame.verdict(error, scope.options) is _COMMIT:
        frame.committed()
    else:
        frame.rolled_back()
    scope.outcome = frame.outcome
    _leave(scope, frame)
    return True


def _close(session: AmbientSession) -> None:
    """Close the session inside for good. While ends are allowed."""
    session.source.lanes.statements.session_listeners.close(session.sync_session)


def _leave(scope: EndingScope, frame: Frame) -> None:
    """Take a block out of the context, let the frames around go on, and let go of the session."""
    scope.forget(frame)
    frame.session.turns.leave(frame)
    frame.first_block = None  # the block knows the frame, and only the collector could free them
    if frame.parent is None:
        frame.forget_session()


class Ending:
    """The end of one frame. Lives: as long as that takes."""

    def __init__(
        self,
        scope: EndingScope,
        frame: Frame,
        error: BaseException | None,
        *,
        again: bool = False,
        under: Frame | None = None,
    ) -> None:
        self._scope = scope
        self._frame = frame
        self._session: AmbientSession = frame.session
        self._error = error
        """What leaves the block."""
        self._failure: BaseException | None = None
        """What must be raised in its place."""
        self._cancelled: CancelledError | None = None
        """The cancellation that came meanwhile."""
        self._again = again
        """The unit of work begins it anew: what waits for the end of the unit goes on waiting."""
        self._under = under
        """What ends with it: nothing may begin there meanwhile."""
        self._inside: list[Frame] = []
        """What was begun inside, and is open still."""
        self._late: list[BaseException] = []
        """What failed after the commit."""

    # -- 1. last work ------------------------------------------------------------------------------

    async def do_last_work(self) -> None:
        """End what this task has left open inside, run `before_commit`, and send what waits to be sent."""
        frame, session, error = self._frame, self._session, self._error
        wanted = error is None
        if isinstance(frame.base, AtRest) and isinstance(frame, Transaction) and not self._again:
            frame.base.hand_over(frame)
        try:
            if session.savepoints or session.streams:
                await session.end_what_is_open(frame, error)
            wanted = frame.verdict(error, self._scope.options) is _COMMIT
            if not wanted:
                return
            if frame.hooks_or_none is not None and not frame.hands_hooks_up:
                await run_before_commit(frame)
            if session.has_changes() and not frame.root.mode.read_only:
                await session.flush()
        except BaseException as raised:  # noqa: BLE001  # decides the verdict, and is raised after it
            if wanted:
                self._failure = raised

    # -- 2. closed ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let nobody in any more, and wait for the operation of another task that still runs."""
        frame, turns = self._frame, self._session.turns
        # Who leaves while the last operation is waited for was in there all the same.
        if frame.joined or frame.base is not None:
            frame.left_open = [scope.name for scope in frame.joiners]
        if self._under is not None:
            self._under.close()
        self._inside = turns.close(frame)
        for inside in self._inside:
            if inside.hooks_or_none is not None:
                frame.hooks.after_rollback += inside.hooks.after_rollback
                frame.hooks.at_end += inside.hooks.at_end
        if turns.busy and turns.holder is not asyncio.current_task():
            failure, self._cancelled = await last_operation(frame, turns)
            self._failure = self._failure or failure

    # -- 3. sent -----------------------------------------------------------------------------------

    async def send(self) -> None:
        """Commit or roll back, as the marks and the options say."""
        frame, error = self._frame, self._error
        if isinstance(frame, Savepoint) and frame.parent is not None and frame.parent.ended:
            # What is around has ended meanwhile, and this with it.
            frame.rolled_back()
            self._failure = self._failure or (frame.ended_error() if error is None else None)
            self._scope.outcome = frame.outcome
            return
        verdict = frame.verdict(error, self._scope.options) if self._failure is None else Verdict.ROLL_BACK
        if verdict is _ROLL_BACK_AND_RAISE:
            self._failure = frame.unexpected(error)
        if verdict is _COMMIT:
            await self._keep()
        else:
            await self._undo(self._failure or error)
        self._scope.outcome = frame.outcome

    async def _keep(self) -> None:
        frame = self._frame
        if isinstance(frame, Savepoint):
            self._session.turns.keep()
            try:
                await self._release(frame)
            finally:
                self._session.turns.give()
        elif frame.checkout is not None and frame.transactional:
            await self._commit(frame.checkout)
        else:
            await self._end_unsent(keep=True)
            frame.committed()

    async def _undo(self, cause: BaseException | None) -> None:
        frame = self._frame
        if isinstance(frame, Savepoint):
            self._session.turns.keep()
            try:
                await self._roll_back_to(frame, cause)
            finally:
                self._session.turns.give()
        else:
            await self._roll_back_inside(cause)
            if frame.checkout is not None:
                await self._roll_back(frame, cause)
            else:
                await self._end_unsent(keep=False)
        frame.rolled_back()

    async def _commit(self, checkout: Checkout) -> None:
        """Send COMMIT. When the database has answered, nothing that fails can take it back."""
        frame, source = self._frame, self._frame.source
        done = await frame.await_through(self._commit_soon(checkout))
        self._cancelled = done.cancelled or self._cancelled
        if checkout.commit_answered:
            frame.committed()
            if done.error is not None:
                self._came_late(done.error)
            if checkout.is_out:
                await frame.lose_connection()
            else:
                frame.give_up_connection()
            return
        error = done.error or RuntimeError("COMMIT was not sent")
        self._note(error)
        may_be_stored = (
            done.abandoned or not isinstance(error, Exception) or source.backend.may_be_stored(error)
        )
        if checkout.commit_sent and may_be_stored and not frame.mode.read_only:
            frame.lost()
            self._failure = CommitOutcomeUnknownError(source.name, frame.owner)
            self._failure.__cause__ = error
        else:
            if checkout.ended_before is None:
                nothing_stored_with(error)
            self._failure = error
        await self._roll_back(frame, error)
        frame.rolled_back()

    async def _commit_soon(self, checkout: Checkout) -> None:
        """Not to be interrupted: COMMIT, then what SQLAlchemy does after it."""
        started = time.perf_counter()
        stored = self._waits_for_commit_alone(checkout) and await checkout.commit_ahead()
        # Meanwhile others may have filled the pool, or closed it, or begun to listen.
        if stored and self._waits_for_commit_alone(checkout):
            self._commit_now(checkout, started, alone=True)
        else:
            await greenlet_spawn(self._commit_now, checkout, started)

    def _waits_for_commit_alone(self, checkout: Checkout) -> bool:
        """Say whether nothing has to be waited for but the answer to COMMIT."""
        frame = self._frame
        if frame.limits or frame.source.pinned is not None:
            return False
        return checkout.waits_for_commit_alone and not self._session_waits

    def _commit_now(self, checkout: Checkout, started: float, *, alone: bool = False) -> None:
        """COMMIT, unless it was sent; then what SQLAlchemy does. In a greenlet, if that may be waited for."""
        frame, session = self._frame, self._session
        left = remaining_s(frame.limits) if frame.limits else None
        if left is not None and frame.source.pinned is None and checkout.connection is not None:
            frame.source.backend.limit_commit(checkout.connection, left)
        with session.ending():
            try:
                checkout.commit(partial(self._commit_session, alone=alone), alone=alone)
            except BaseException as error:
                if not checkout.commit_answered:
                    raise
                self._came_late(error)
                if session.held is not None:
                    end_quietly(session.held)
            frame.source.watch.ending(checkout, "COMMIT", started)
            for release in (self._close_session, checkout.give_back):
                try:
                    release()
                except BaseException as error:  # noqa: BLE001  # told as what came after the commit
                    self._came_late(error)
                    with suppress(Exception):
                        checkout.discard()

    def _commit_session(self, *, alone: bool = False) -> None:
        """Let the session inside commit, if it has more to do than to let go of its entities.

        Args:
            alone: It waits for nothing in that, and nobody hears of it.
        """
        session = self._session
        held = session.held
        if held is None:
            return
        if self._frame.mode.read_only and session.has_changes():
            # They were made outside, and are sent by the next transaction.
            if self._frame.connection is not None:
                self._frame.connection.commit()
            end_quietly(held)
            return
        if not self._session_commits:
            return
        if alone:
            session.quietly(held.commit)
        else:
            session.take_part()
            held.commit()

    @property
    def _session_commits(self) -> bool:
        """Whether the session inside has more to do than to let go of its entities."""
        session = self._session
        if not session.started:
            return False
        held = session.sync_session
        if Session.in_transaction(held) or held.expire_on_commit:
            return True
        if self._frame.mode.read_only and session.has_changes():
            return True
        return session.source.lanes.statements.session_listeners.of_reads(held) is not None

    @property
    def _session_waits(self) -> bool:
        """Whether the session inside may wait for something when it commits: what it sends, or who hears."""
        session = self._session
        if not self._session_commits:
            return False
        return not (session.is_unheard() and flushes_nothing(session.sync_session))

    def _came_late(self, error: BaseException) -> None:
        """Something failed after the commit; that the connection was lost then is of no interest any more."""
        if self._is_of_connection(error):
            self._frame.source.watch.swallowed("after COMMIT", error)
        else:
            self._late.append(error)

    def _is_of_connection(self, error: BaseException) -> bool:
        driver = self._frame.source.home_engine().dialect.driver
        module = type(error).__module__.partition(".")[0]
        return isinstance(error, (DBAPIError, OSError)) or module in {driver, "pymysql", "sqlite3"}

    async def _roll_back(self, frame: Frame, cause: BaseException | None) -> None:
        """Send ROLLBACK; a connection on which that fails is discarded, and the cause says so."""
        checkout = frame.checkout
        done = await frame.see_through(lambda: self._roll_back_now(frame))
        await frame.lose_connection()
        self._cancelled = done.cancelled or self._cancelled
        if done.error is not None and cause is not None:
            cause.add_note(f"The rollback failed too, and the connection was discarded: {done.error!r}")
        elif done.error is not None and not self._is_of_connection(done.error):
            self._failure = done.error  # of a listener: nobody else hears of it
        elif done.error is not None:
            frame.source.watch.swallowed("ROLLBACK", done.error)
        early = checkout.ended_before if checkout is not None else None
        if early is None:
            return
        frame.lost()
        if cause is None:
            self._failure = early
        elif early is not cause:
            cause.add_note(str(early))

    def _roll_back_now(self, frame: Frame) -> None:
        """In a greenlet, and not to be interrupted."""
        session, checkout = self._session, frame.checkout
        assert checkout is not None  # noqa: S101  # else it ends without a word to the database
        started = time.perf_counter()
        with session.ending():
            try:
                if session.started:
                    if not session.begun:
                        Session.begin(session.sync_session)  # or the entities would not be expired
                    frame.tell_new()
                    session.sync_session.rollback()
                checkout.roll_back()
                frame.source.watch.ending(checkout, "ROLLBACK", started)
            except BaseException:
                if session.started:
                    session.sync_session.invalidate()
                checkout.discard()
                raise
            finally:
                checkout.give_back()
            self._close_session()

    async def _roll_back_inside(self, cause: BaseException | None) -> None:
        """Roll back the transactions that blocks of other tasks have begun inside a unit of work."""
        for inside in self._inside:
            if inside.checkout is not None:
                await self._roll_back(inside, cause)
            inside.rolled_back()

    async def _release(self, frame: Savepoint) -> None:
        done = await frame.await_through(frame.keep())
        self._cancelled = done.cancelled or self._cancelled
        if frame.is_released and self._error is not None and isinstance(done.error, Exception):
            self._error.add_note(f"This failed after the savepoint was kept: {done.error!r}")
        else:
            self._failure = done.error
        if done.error is not None and not frame.is_released:
            self._note(done.error)
            await self._roll_back_to(frame, done.error)
            frame.rolled_back()
            return
        frame.committed()

    async def _roll_back_to(self, frame: Savepoint, cause: BaseException | None) -> None:
        done = await frame.await_through(frame.undo())
        self._cancelled = done.cancelled or self._cancelled
        if done.error is not None:
            if cause is not None:
                cause.add_note(f"The rollback to the savepoint failed too: {done.error!r}")
            if frame.parent is not None:
                frame.parent.condemn(frame.owner, done.error, by_database=True)

    async def _end_unsent(self, *, keep: bool) -> None:
        """End without a word to the database; the session inside may have one of another engine's to say."""
        if not self._session.started or (isinstance(self._frame, Autocommit) and not self._closes):
            return
        if not (self._session.begun or self._frame.checkout is not None):
            self._end_session(keep=keep)  # it has only held what was read: nothing is waited for
            return
        done = await self._frame.see_through(lambda: self._end_session(keep=keep))
        self._cancelled = done.cancelled or self._cancelled
        if done.error is not None:
            self._failure = self._failure or done.error

    def _end_session(self, *, keep: bool) -> None:
        held = self._session.sync_session
        with self._session.ending():
            if self._closes:
                _close(self._session)
            elif not keep:
                held.rollback()
            elif self._session.begun:
                self._commit_session()
            self._frame.give_back()

    @property
    def _closes(self) -> bool:
        """Whether the session ends with this frame; that of a unit of work goes on."""
        return self._frame.parent is None

    def _close_session(self) -> None:
        """Close it, while ends are allowed."""
        if self._closes and self._session.started:
            _close(self._session)

    # -- 4. after ----------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Take the block out of the context, let the frames around go on, and let go of the session."""
        frame = self._frame
        hooks, around = frame.hooks_or_none, frame.parent
        _leave(self._scope, frame)
        if hooks is not None and around is not None and self._hands_hooks_up:
            around.hooks.take_over(hooks)
        elif hooks is not None:
            hooks.tell_end()

    @property
    def _hands_hooks_up(self) -> bool:
        return self._frame.hands_hooks_up and self._frame.state is _IS_COMMITTED

    async def run_hooks(self) -> None:
        """Run what waited for this end."""
        frame, outcome, hooks = self._frame, self._scope.outcome, self._frame.hooks_or_none
        if hooks is None or self._hands_hooks_up:
            return
        if outcome is _COMMITTED and hooks.after_commit:
            failures, cancelled = await run_after_commit(frame)
            self._late += failures
            self._cancelled = cancelled or self._cancelled
        elif outcome in _UNDONE and hooks.after_rollback:
            failures, cancelled = await run_after_rollback(frame, outside=outcome is Outcome.ROLLED_BACK)
            raised = after_rollback_failed(self._failure or self._error, failures)
            self._failure = raised or self._failure
            self._cancelled = cancelled or self._cancelled

    def tell(self) -> None:
        """Raise what must be heard of, in place of the exception that leaves the block."""
        late = after_commit_failed(self._frame.source.name, self._late) if self._late else None
        if late is not None and self._error is not None and isinstance(late, Exception):
            self._error.add_note(str(late))
        elif late is not None:
            self._failure = late
        if self._cancelled is not None and not isinstance(self._failure, CommitOutcomeUnknownError):
            raise self._cancelled from self._failure
        if self._failure is not None and self._failure is not self._error:
            raise self._failure

    def _note(self, error: BaseException) -> None:
        """Say on a database error in which block it happened."""
        if isinstance(error, DBAPIError):
            error.add_note(f"In {self._scope.name} on database {self._frame.source.name!r}.")
