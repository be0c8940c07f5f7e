"""This module holds what begins with its first write: units of work, and methods of repositories."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._logic.plan import Step
from unitwork._runtime import context
from unitwork._runtime.blocks.block import Scope
from unitwork._runtime.blocks.by_hand import BY_HAND
from unitwork._runtime.blocks.ending import Ending, end
from unitwork._runtime.blocks.generators import iterated_generator
from unitwork._runtime.finish import finish
from unitwork._runtime.sessions.session import opened_session
from unitwork._runtime.transactions.transaction import AtRest, Transaction
from unitwork.options import DEFAULT_OPTIONS, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import FrameType

    from unitwork._runtime.sessions.session import AmbientSession
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame

_waking = threading.Lock()
"""Held for the moment in which a unit wakes or ends: threads may look for it, too."""


class LazyScope(Scope):
    """A block whose transaction begins with its first write; what it reads before holds nothing.

    Inside a transaction it takes part in that, and condemns it only if it has written. Lives: one call of a
    repository's method.
    """

    __slots__ = ()

    _frame: AtRest  # pyright: ignore[reportIncompatibleVariableOverride]  # its own is always one

    def __init__(self, source: Source, name: str) -> None:
        super().__init__(source, name, DEFAULT_OPTIONS)

    @override
    async def enter(self, caller: FrameType | None = None) -> AmbientSession:
        outer: Scope | None = context.innermost(self.source)
        if outer is not None:
            await outer.make_way()
        self._take_limits()
        if outer is not None and (outer.frame.transactional or outer.frame.begins_with_writes):
            self.counts_writes = True
            await self._join(outer)
            self._entered(Step.JOIN, outer)
        elif outer is not None and outer.frame.idles:
            self._rest(outer.frame.session, outer.frame)
            self._register(outer.frame)
            self._entered(Step.BEGIN, outer)
        else:
            session = opened_session(self.source, asyncio.get_running_loop(), BY_HAND)
            session.begin_with(self._rest(session, None))
            self._entered(Step.BEGIN, outer)
        session = self._frame.session
        return cast("AmbientSession", session)

    def _rest(self, session: AmbientSession, around: Frame | None, *, whole: bool = True) -> AtRest:
        resting = self._frame = AtRest(session, self.name, around, whole=whole)  # pyright: ignore[reportIncompatibleVariableOverride]  # declared above
        resting.scope = self
        return resting

    @override
    def _leave_at_once(self, error: BaseException | None) -> bool:
        return False  # something may wait for its end without a transaction

    @override
    async def _leave(self, error: BaseException | None) -> None:
        if self.owns:
            await self._end(error)
        else:
            self._leave_joined(error)

    async def _end(self, error: BaseException | None) -> None:
        """End the transaction, if one was begun or something waits for it; then what lies under it."""
        resting = self._frame
        if resting.ended:
            self._leave_what_has_ended(error)
            return
        session: AmbientSession = resting.session
        failure: BaseException | None = None
        if self._waits_for_end() and not resting.joined:
            self.begin_transaction()
        begun = resting.transaction
        outcome = None
        if begun is not None:
            try:
                await end(self, begun, error, resting)
            except BaseException as raised:  # noqa: BLE001  # raised below, when all has ended
                failure = raised
            outcome = self.outcome
        try:
            if resting.seat is resting:
                await end(self, resting, failure or error)
            else:
                resting.close()
                resting.committed()
                self.forget(resting)
                session.turns.leave(resting)
                resting.scope = None
        except BaseException as raised:  # noqa: BLE001  # as above
            failure = failure or raised
        self.outcome = outcome or self.outcome
        if failure is not None and failure is not error:
            raise failure

    def tell_of_begin(self, begun: Frame) -> None:
        """Tell observers of the transaction that was begun here, unless they know of the block already."""
        if self.watched is None:
            self.watched = self.source.watch.entered(cast("Scope", self), Step.BEGIN, None)
        begun.block_id = self.watched[0]

    def _waits_for_end(self) -> bool:
        """Say whether something is to be done with the next commit or rollback, though nothing has begun."""
        resting = self._frame
        if resting.transaction is not None:
            return False
        marked = resting.hooks_or_none is not None or resting.condemned is not None
        return marked or bool(resting.session.has_changes())

    async def undo_to_try_again(self, error: BaseException) -> None:
        """Roll the transaction back that the first block in here has begun; what follows begins anew."""
        begun = self._frame.transaction
        if begun is None or begun.ended:
            return
        session: AmbientSession = begun.session
        await session.turns.take(begun)
        try:
            ending = Ending(self, begun, error, again=True)
            await ending.do_last_work()
            await ending.close()
            await ending.send()
            ending.let_go()
        finally:
            session.turns.give()
        await ending.run_hooks()
        ending.tell()

    @override
    def forget(self, frame: Frame) -> None:
        if self.owns and isinstance(frame, Transaction):
            self._frame.transaction = None
        else:
            super().forget(frame)


class Unit(LazyScope):
    """One unit of work. Lives: one request, message, job or script.

    It sleeps until somebody looks for it: then it is made whole, with its session and frame.

    Args:
        atomic: It is one transaction that all blocks inside join; else each of them commits by itself.
        caller: The frame of Python that holds the unit, if it may be that of an async generator.
    """

    __slots__ = ("_atomic", "_loop", "_wrote", "asleep", "work")  # pyright: ignore[reportIncompatibleVariableOverride]  # set in each

    asleep: bool

    def __init__(self, source: Source, name: str, *, atomic: bool, caller: FrameType | None = None) -> None:
        # The rest is set when the unit wakes (see __getattr__): many requests never look for it.
        self.source = source
        self.name = name
        self.left = self.is_entered = False
        self.left_among: Collection[asyncio.Task[Any]] | None = None
        self.limits = ()
        self.generator = None if caller is None else iterated_generator(caller)
        # Whoever looks first may do it in a thread, which runs no event loop or another one.
        self._loop = loop = asyncio.get_running_loop()
        self.task = asyncio.current_task(loop)
        self._atomic = atomic
        self.asleep = True
        self.work = source.watch.work_started(name) if source.watch.active else None
        around = context.push(self)
        if around and around[-1].limits:
            self.limits = tuple(limit for limit in around[-1].limits if not limit.ended)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a scope has
        # Only what is not set yet comes here.
        with _waking:
            if self.asleep:
                self._wake()
        return object.__getattribute__(self, name)

    def _wake(self) -> None:
        """Make the session and the frame; those of a unit that has ended have ended, too."""
        left, limits, task, generator = self.left, self.limits, self.task, self.generator
        self._wrote = False
        super().__init__(self.source, self.name)
        self.left, self.limits, self.task, self.generator = left, limits, task, generator
        session = opened_session(self.source, self._loop, BY_HAND)
        frame = AtRest(session, self.name, whole=self._atomic)
        frame.limits = limits
        frame.scope = self
        session.begin_with(frame)
        if left:
            frame.close()
            frame.forget_session()
        # Last, because it is looked for without the lock.
        self._frame = frame
        self.asleep = False

    def end_asleep(self) -> bool:
        """End the unit if nobody has looked for it; say whether that was so."""
        with _waking:
            self.left = self.left or self.asleep
        if self.left:
            context.uncover(self)
        return self.left

    async def end(self, *, commit: bool) -> None:
        """End the unit before it is left: whoever looks for its session after that is told so.

        Raises:
            UnexpectedRollbackError: Commit was asked for, but something inside had failed.
        """
        if not self.end_asleep():
            if not commit:
                self.frame.rollback_only = True
            session: AmbientSession = self._frame.session
            try:
                await self.leave(None)
            except BaseException as failure:
                if self.work is not None:
                    self.work.error = failure
                raise
            finally:
                self._wrote = session.writes > 0

    @property
    def has_stored(self) -> bool:
        """Whether something was sent in the unit that may be stored."""
        return not self.asleep and bool(self._wrote)

    async def close(self, error: BaseException | None) -> None:
        """End the unit, if it has not ended, and take it out of the context."""
        try:
            if not self.end_asleep():
                await self.leave(error)
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.drop(error)

    def drop(self, error: BaseException | None = None) -> None:
        """Take the unit, which has ended, out of the context."""
        context.drop(self)
        if self.work is not None:
            work, self.work = self.work, None
            self.source.watch.work_ended(work, error)

    @override
    async def make_way(self) -> None:
        begun = self._frame.transaction
        if not self._atomic and begun is not None and not begun.ended and begun.has_only_read:
            session: AmbientSession = begun.session
            await session.turns.take(begun)
            try:
                await begun.see_through(lambda: session.settle(begun, failed=False))
                begun.give_up_connection()
                begun.close()
                begun.rolled_back()
                self._frame.transaction = None
                session.turns.leave(begun)
            finally:
                session.turns.give()

    @override
    async def by_hand(self, verb: str) -> None:
        """Commit, roll back or close what there is so far; the next use begins anew.

        Raises:
            TransactionEndedError: The unit has ended.
            UnexpectedRollbackError: Commit was asked for, but something inside had failed. Rolled back.
        """
        session: AmbientSession = self._frame.session
        turns = session.turns
        begun, ending = await self._taken_by_hand(), None
        if begun is not None:
            begun.rollback_only = begun.rollback_only or verb != "commit"
            ending = Ending(self, begun, None)
            await ending.do_last_work()
        await turns.take(self.frame)
        try:
            if begun is not None and begun.ended:
                ending = None  # another task has ended it by hand meanwhile
                if verb == "commit" and begun.outcome is not Outcome.COMMITTED:
                    raise begun.ended_error()
            if ending is not None:
                await ending.close()
                await ending.send()
                ending.let_go()
            cancelled = await self._let_go_of_entities(session) if verb == "close" else None
        finally:
            turns.give()
        if ending is not None:
            # The turn is given: what they do with the session is another transaction.
            await ending.run_hooks()
            if self.watched is not None:
                self.source.watch.ended(cast("Scope", self), None)
                self.watched = None
            ending.tell()
        if cancelled is not None:
            raise cancelled

    async def _taken_by_hand(self) -> Transaction | None:
        """Return the transaction that is to end, if there is one, or something waits for its end."""
        resting = self._frame
        resting.check_open()
        turns = resting.session.turns
        await turns.take(self.frame)
        try:
            resting.check_open()
            marked = resting.rollback_only and resting.transaction is None
            if marked or self._waits_for_end():
                self.begin_transaction()
            return resting.transaction
        finally:
            turns.give()

    async def _let_go_of_entities(self, session: AmbientSession) -> asyncio.CancelledError | None:
        """Close the session inside, which may be used again; return the cancellation that came meanwhile."""
        if not session.started:
            return None
        with session.ending():
            return (await finish(greenlet_spawn(session.sync_session.reset))).cancelled

    @override
    def forget(self, frame: Frame) -> None:
        if isinstance(frame, Transaction):
            self._frame.transaction = None
        else:
            context.uncover(self)
