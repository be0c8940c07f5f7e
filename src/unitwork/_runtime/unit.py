"""This module holds units of work: one session that sees several transactions, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._runtime import state
from unitwork._runtime.ambient import AmbientSession
from unitwork._runtime.finish import finish
from unitwork._runtime.frames import PhysicalTransaction
from unitwork._runtime.scope import Scope
from unitwork._runtime.turns import Turns
from unitwork.dialects import READ_WRITE
from unitwork.options import TransactionOptions

if TYPE_CHECKING:
    from unitwork._runtime.engine import Source

_OPTIONS = TransactionOptions()


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
    """One unit of work. Lives: one request, message, job or script."""

    __slots__ = ("_goes_on", "_idle")

    def __init__(self, source: Source, name: str) -> None:
        super().__init__(source, name, _OPTIONS)
        self._goes_on = False

    async def enter(self) -> AmbientSession:
        """Make this the innermost scope of the context. Sends nothing, opens nothing."""
        session = AmbientSession(self.source)
        self.frame = self._idle = Idle(session, self.name, READ_WRITE)
        session.turns = Turns(self.frame)
        state.push(self)
        return session

    async def by_hand(self, verb: str) -> None:
        """Commit, roll back or close what is open; the next use begins anew.

        Raises:
            TransactionEndedError: The unit has ended.
            TransactionRefusedError: A block of this task is open, which ends by itself.
        """
        frame = self._idle
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

    def _forget(self) -> None:
        if not self._goes_on:
            super()._forget()
