"""This module holds units of work: one session that sees several transactions, one after another."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._runtime import context
from unitwork._runtime.blocks.scope import Scope
from unitwork._runtime.finish import finish
from unitwork._runtime.sessions.ambient import AmbientSession
from unitwork._runtime.sessions.turns import Turns
from unitwork._runtime.transactions.frames import PhysicalTransaction
from unitwork.dialects import READ_WRITE
from unitwork.options import Propagation, TransactionOptions

if TYPE_CHECKING:
    from unitwork._runtime.source import Source

IDLE = TransactionOptions()
"""What the blocks inside begin and commit, one after another."""

ATOMIC = TransactionOptions(propagation=Propagation.REQUIRES_NEW)
"""One transaction that the blocks inside join."""

_waking = threading.Lock()
"""Held for the moment in which a unit wakes or ends: threads may look for it, too."""


class Idle(PhysicalTransaction):
    """What lies under the transactions of a unit: nothing, or one that its session began by itself."""

    __slots__ = ()

    idles = True

    @property
    def transactional(self) -> bool:
        if self.ended:
            return False
        session = self.session
        # While a block of a task beside is open, the transaction is that block's.
        return session.turns.top is self and session.begun

    @property
    def closes(self) -> bool:
        return self.ended

    @override
    def begin_by_hand(self) -> None:
        session = self.session.sync_session
        if not session.in_transaction():
            session.begin()

    def renew(self) -> None:
        """Forget the transaction that has ended; the unit goes on."""
        self._mark = None
        self.rollback_only = False
        self.callbacks = None


class Unit(Scope):
    """One unit of work. Lives: one request, message, job or script.

    It sleeps until somebody looks for it: then it is made whole, with its session and frame. An
    atomic unit is a transaction block, and never sleeps.
    """

    __slots__ = ("_goes_on", "_loop", "asleep")

    def __init__(self, source: Source, name: str, options: TransactionOptions) -> None:
        """Make this the innermost scope of the context. Sends nothing, opens nothing.

        Raises:
            TransactionRefusedError: It is atomic, and the task holds all connections already.
        """
        if options is IDLE:
            # The rest is set when the unit wakes (see __getattr__): many requests never look for it.
            self.source = source
            self.name = name
            self.left = False
            # Whoever looks first may do it in a thread, which runs no event loop or another one.
            self._loop = asyncio.get_running_loop()
            self.asleep = True
            context.push(self)
        else:
            super().__init__(source, name, options)
            self._goes_on = self.asleep = False
            self.enter_apart()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a scope has
        # Only what is not set yet comes here.
        with _waking:
            if self.asleep:
                self._wake()
        return object.__getattribute__(self, name)

    def _wake(self) -> None:
        """Make the session and the frame; those of a unit that has ended have ended, too."""
        super().__init__(self.source, self.name, IDLE, left=self.left)
        self._goes_on = False
        session = AmbientSession(self.source, self._loop)
        frame = Idle(session, self.name, READ_WRITE)
        session.turns = Turns(frame)
        if self.left:
            frame.ended = True
            frame.forget_session()
        # Last, because it is looked for without the lock.
        self.frame = frame
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
            await self.leave(None)

    async def close(self, error: BaseException | None) -> None:
        """End the unit, if it has not ended, and take it out of the context."""
        try:
            if not self.end_asleep():
                await self.leave(error)
        finally:
            context.drop(self)

    async def by_hand(self, verb: str) -> None:
        """Commit, roll back or close what is open; the next use begins anew.

        Raises:
            TransactionEndedError: The unit has ended.
            TransactionRefusedError: A block of this task is open, which ends by itself.
        """
        frame = self.frame
        if not isinstance(frame, Idle):
            await super().by_hand(verb)
            return
        frame.check_open()
        if verb != "commit":
            frame.rollback_only = True
        failure = await self._last_work(None)
        turns = frame.session.turns
        await turns.take(frame)
        try:
            self._goes_on = True
            await self._conclude(None, failure, None)
        finally:
            self._goes_on = False
            frame.renew()
            turns.give()
        if verb == "close" and frame.session.started:
            with frame.session.ending():
                await finish(greenlet_spawn(frame.session.sync_session.reset))

    @override
    def _forget(self) -> None:
        if not self._goes_on:
            context.uncover(self)
            self._let_go()
