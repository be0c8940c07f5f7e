"""This module leaves blocks: what their options and their end lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork._logic.outcome import Verdict, verdict_for_joined
from unitwork._runtime import context
from unitwork._runtime.blocks.entry import Entry
from unitwork._runtime.finish import Deadline, finish
from unitwork.errors import CommitOutcomeUnknownError
from unitwork.events import Outcome

if TYPE_CHECKING:
    from asyncio import CancelledError

    from unitwork._runtime.transactions.hooks import Callbacks
    from unitwork.options import TransactionOptions

_UNDONE = frozenset({Outcome.ROLLED_BACK, Outcome.SAVEPOINT_UNDONE})


class Scope(Entry):
    """One block that is open. Lives: from the entry of the block to its end."""

    __slots__ = ()

    def inner(self, name: str, options: TransactionOptions) -> Scope:
        """Make a scope for the same Database, to be entered inside this one."""
        return Scope(self.source, name, options)

    # -- end -----------------------------------------------------------------------------------

    async def leave(self, error: BaseException | None) -> None:
        """End the block as its options and marks say; raise what the caller must hear of."""
        try:
            if self._deadline is None:
                await self._leave(error)
            else:
                await self._leave_in_time(self._deadline, error)
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.left = True
            if self.watched is not None:
                self.source.watch.ended(self, error)

    async def _leave_in_time(self, deadline: Deadline, error: BaseException | None) -> None:
        late = deadline.passed
        if late:
            self.frame.condemn(self.name, deadline.error())
        failure = error
        try:
            await self._leave(error)
        except BaseException as raised:  # noqa: BLE001  # raised again below
            failure = raised
        ours = await deadline.stop(failure)
        if ours and failure is not None and self.outcome is Outcome.COMMITTED:
            # The COMMIT was through before the time limit could stop it; what failed after it is told.
            if failure.__cause__ is not None:
                raise failure.__cause__
            return
        gave_up = failure is not None and deadline.passed and self.source.backend.is_timeout(failure)
        if ours or gave_up or (late and isinstance(failure, Exception)):
            raise deadline.error() from failure
        if failure is not None and failure is not error:
            raise failure

    async def _leave(self, error: BaseException | None) -> None:
        if self.owns:
            await self._end(error)
        else:
            self._end_joined(error)

    def _end_joined(self, error: BaseException | None) -> None:
        frame = self.frame
        self.outcome = Outcome.JOINED if frame.transactional else Outcome.NO_TRANSACTION
        context.drop(self)
        if frame.joined is not None and self in frame.joined:
            frame.joined.remove(self)
        if frame.ended:
            if error is None:
                raise frame.ended_error()
            return
        if error is None and self._changed_although_read_only():
            refused = frame.session.write_refused(self)
            frame.condemn(self.name, refused)
            raise refused
        if verdict_for_joined(error, self.options) is Verdict.CONDEMN:
            frame.condemn(self.name, error)
            self.outcome = Outcome.CONDEMNED if frame.transactional else self.outcome

    def _changed_although_read_only(self) -> bool:
        session = self.frame.session
        narrows = self.options.read_only and self.read_only_by == self.name
        return narrows and session.started and session.has_modified()

    async def _end(self, error: BaseException | None) -> None:
        frame = self.frame
        if frame.pristine():
            self.outcome = frame.kept if error is None else frame.undone
            frame.session.turns.close(frame)
            self._forget()
            return
        failure = await self._last_work(error)
        cancelled = await self.frame.close()
        await self._conclude(error, failure, cancelled)

    async def _conclude(
        self,
        error: BaseException | None,
        failure: BaseException | None,
        cancelled: CancelledError | None,
    ) -> None:
        """Do with the frame what its end means, run the hooks, and raise what must be heard of."""
        frame = self.frame
        verdict = frame.verdict(error, self.options) if failure is error else Verdict.ROLL_BACK
        if verdict is Verdict.ROLL_BACK_AND_RAISE:
            failure = frame.unexpected()
        failure, cancelled_too = await self._settle(verdict, failure)
        cancelled = cancelled_too or cancelled
        if frame.callbacks is not None:
            failure, cancelled_too = await self._run_hooks(frame.callbacks, failure, error)
            cancelled = cancelled_too or cancelled
        if cancelled is not None:
            raise cancelled from (failure if failure is not error else None)
        if failure is not None and failure is not error:
            raise failure

    async def _last_work(self, error: BaseException | None) -> BaseException | None:
        """Do what is still to be done inside; return the exception that leaves after it."""
        wanted = error is None
        try:
            await self.frame.session.end_savepoints(self.frame, error)
            if self.frame.root is self.frame:
                await self.frame.session.close_streams()
            wanted = self.frame.verdict(error, self.options) is Verdict.COMMIT
            if wanted:
                await self._send_rest()
        except BaseException as raised:  # noqa: BLE001  # decides the verdict, and is raised after it
            return raised if wanted else error
        return error

    async def _settle(
        self, verdict: Verdict, failure: BaseException | None
    ) -> tuple[BaseException | None, CancelledError | None]:
        """Commit or roll back; return what must be raised, and the cancellation that came meanwhile."""
        frame = self.frame
        try:
            if verdict is Verdict.COMMIT:
                self.outcome = frame.kept
                return failure, await frame.keep()
            self.outcome = frame.undone
            return failure, await frame.undo(failure)
        except BaseException as raised:  # noqa: BLE001  # raised after the hooks
            unknown = isinstance(raised, CommitOutcomeUnknownError)
            self.outcome = Outcome.UNKNOWN if unknown else frame.undone
            return raised, None
        finally:
            self._forget()
            if frame.callbacks is not None:
                frame.callbacks.tell_end()

    async def _send_rest(self) -> None:
        """Do what is still to be done inside, before COMMIT or RELEASE."""
        frame = self.frame
        if frame.callbacks is not None and frame.root is frame:
            await frame.callbacks.run_before_commit()
        session = frame.session
        if session.started and session.has_changes():
            await session.flush()

    def _forget(self) -> None:
        context.drop(self)
        self._let_go()

    def _let_go(self) -> None:
        """Let the frames around go on, and let go of the session."""
        frame = self.frame
        if frame.parent is not None and frame.parent.joined is not None:
            frame.parent.joined.remove(self)
        frame.session.turns.leave(frame)
        if frame.ended and frame.parent is None:
            frame.forget_session()

    async def _run_hooks(
        self, callbacks: Callbacks, failure: BaseException | None, error: BaseException | None
    ) -> tuple[BaseException | None, CancelledError | None]:
        """Run what waited for this end; return what must be raised, and the cancellation."""
        if self.outcome is Outcome.COMMITTED and callbacks.after_commit:
            done = await finish(callbacks.run_after_commit(self.source))
            if done.error is not None and error is not None:
                error.add_note(str(done.error))
                return failure, done.cancelled
            return done.error or failure, done.cancelled
        if self.outcome in _UNDONE and callbacks.after_rollback:
            apart = self.source if self.outcome is Outcome.ROLLED_BACK else None
            done = await finish(callbacks.run_after_rollback(failure, apart))
            return failure or done.error, done.cancelled
        return failure, None
