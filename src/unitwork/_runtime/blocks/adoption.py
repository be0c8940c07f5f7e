"""This module holds the extent in which a session of the program's own is the ambient one."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSessionTransaction
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn
from typing_extensions import override

from unitwork._logic.plan import Step
from unitwork._logic.states import ENDED
from unitwork._runtime import context
from unitwork._runtime.blocks.block import Scope
from unitwork._runtime.blocks.by_hand import ByHand, HandSavepoint, HandTransaction
from unitwork._runtime.blocks.generators import iterated_generator
from unitwork._runtime.blocks.owners_ends import OwnersEnds
from unitwork._runtime.blocks.waiting import last_operation
from unitwork._runtime.connections.loop_engine import INSTEAD_OF_AUTOCOMMIT, commits_by_itself
from unitwork._runtime.sessions.adopted import AdoptedSession, adopt, adopted_already, give_up
from unitwork._runtime.sessions.session import AmbientSession
from unitwork._runtime.transactions.savepoint import Savepoint
from unitwork._sqlalchemy.private import connection_of
from unitwork.errors import OptionError, TransactionRefusedError
from unitwork.options import DEFAULT_OPTIONS, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import SessionTransaction

    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.adopted import AdoptedTransaction
    from unitwork._runtime.transactions.frame import Frame


class Adoption(Scope):
    """The extent in which a session of the program's own is the ambient one. Lives: as long as that.

    Its transaction is that of whoever has made it: blocks take part in it, and he ends it, in here or later.
    """

    __slots__ = ("_adopted", "_ends", "_session")

    _frame: AdoptedTransaction  # pyright: ignore[reportIncompatibleVariableOverride]  # its own is always one
    _adopted: AdoptedSession
    _ends: OwnersEnds

    def __init__(self, source: Source, name: str, session: AsyncSession) -> None:
        super().__init__(source, name, DEFAULT_OPTIONS)
        self.owns = False
        self._session = session

    # -- entry -----------------------------------------------------------------------------------

    @override
    async def enter(self, caller: FrameType | None = None) -> AmbientSession:
        """Make the session the ambient one; nothing where it is that already.

        Raises:
            TransactionRefusedError: It is of another database or event loop; it is adopted already elsewhere.
            OptionError: Each of its statements would commit by itself.
        """
        session, source = self._session, self.source
        outer: Scope | None = context.innermost(source)
        if isinstance(session, AmbientSession):
            if outer is None or outer.frame.key is not session.key:
                raise adopted_already(source, session)
            self.left = True
            return session
        self._take_limits()
        try:
            self._check_engine(session.sync_session)
            adopted = self._adopted = adopt(session, source, self, OF_OWNER)
        except BaseException as error:
            self._refused(outer, error)
            raise
        self._ends = OwnersEnds.of(adopted.sync_session, source, partial(_work_inside, source, self.name))
        self._ends.adopted_by(self, adopted)
        if caller is not None:
            self.generator = iterated_generator(caller)
        self._entered(Step.JOIN, outer)
        self.goes_on_in(self._frame)
        return adopted

    def _check_engine(self, held: Session) -> None:
        """Refuse a session of another database; of several engines, each is looked at when it is used."""
        transaction = Session.get_nested_transaction(held) or Session.get_transaction(held)
        bind = connection_of(transaction) or held.bind
        if bind is None:
            return
        engine, engines = bind.engine, self.source.engines
        route = engines.route(engine)
        if route is None and engines.made(engine):
            raise self._foreign(
                "is of another event loop", "make it, and adopt it, in the loop that uses it."
            )
        if route is None:
            raise self._foreign(
                "is of another engine", "adopt it with a Database that is made of its engine."
            )
        if isinstance(bind, Connection) and route is not engine:
            raise self._foreign("has begun before `rolled_back()`", "begin with the session inside of it.")
        if commits_by_itself(bind.get_execution_options().get("isolation_level")):
            raise OptionError("isolation_level", "AUTOCOMMIT", [INSTEAD_OF_AUTOCOMMIT])

    def _foreign(self, what: str, fix: str) -> TransactionRefusedError:
        name = self.source.name
        return TransactionRefusedError(name, f"{self.name} is refused by database {name!r}: it {what}.", fix)

    def goes_on_in(self, frame: AdoptedTransaction) -> None:
        """Let what comes now take part in this transaction, or savepoint, of the owner's."""
        self._frame = frame  # pyright: ignore[reportIncompatibleVariableOverride]  # declared above
        frame.limits = self.limits
        if self.watched is not None:
            frame.block_id = self.watched[0]

    # -- what the owner ends in it ---------------------------------------------------------------

    @override
    async def by_hand(self, verb: str) -> None:
        """Commit, roll back or close as the owner asks; the next use begins anew.

        Raises:
            UnexpectedRollbackError: Commit was asked for, but a block inside had failed, or is open still.
        """
        frame = self._frame
        frame.check_open()
        await self._ends.by_hand(partial(self._end, verb), commits=verb == "commit")

    async def _end(self, verb: str) -> None:
        adopted, frame = self._adopted, self._frame
        await adopted.turns.take(frame)
        try:
            await adopted.close_streams()
            with adopted.ending():
                done = await frame.see_through(getattr(adopted.sync_session, verb))
        finally:
            adopted.turns.give()
        failure = done.error or done.cancelled
        if failure is not None:
            raise failure

    # -- end -------------------------------------------------------------------------------------

    @override
    async def leave(self, error: BaseException | None) -> None:
        """Give the session back to its owner, with what waits for its end.

        Raises:
            asyncio.CancelledError: The task was cancelled meanwhile.
        """
        if not self.left:
            await super().leave(error)

    @override
    def _leave_at_once(self, error: BaseException | None) -> bool:
        return False  # something may be open inside

    @override
    async def _leave(self, error: BaseException | None) -> None:
        adopted, frame, failure = self._adopted, self._frame, None
        try:
            await adopted.end_what_is_open(frame, error)
        except BaseException as raised:  # noqa: BLE001  # raised when the session is its owner's again
            failure = raised
        frame = self._frame
        frame.left_open = [scope.name for scope in frame.joiners]
        inside = adopted.turns.close(frame)
        stopped = cancelled = None
        if adopted.turns.busy and adopted.turns.holder is not asyncio.current_task():
            stopped, cancelled = await last_operation(frame, adopted.turns)
        for savepoint in inside:
            await self._undo(savepoint)
        self.outcome = Outcome.JOINED if frame.condemned is None else Outcome.CONDEMNED
        give_up(adopted, self._ends.hand_back(frame, error))
        # A context may outlive this, such as that of a timer, and knows its scopes.
        del self._session, self._adopted, self._ends
        self.forget(frame)
        failure = failure or stopped or cancelled
        if failure is not None and failure is not error:
            raise failure

    async def _undo(self, savepoint: Frame) -> None:
        """Roll back to a savepoint that a task has left open which goes on."""
        if isinstance(savepoint, Savepoint):
            await savepoint.await_through(savepoint.undo())
        savepoint.rolled_back()


async def _work_inside(
    source: Source, name: str, session: AsyncSession, work: Callable[[], Awaitable[None]]
) -> None:
    """Adopt a session for some work."""
    adoption = Adoption(source, name, session)
    await adoption.enter()
    try:
        await work()
    except BaseException as error:
        await adoption.leave(error)
        raise
    await adoption.leave(None)


class OwnersTransaction(HandTransaction):
    """What `begin()` of an adopted session returns. Lives: until it is committed or rolled back."""

    __slots__ = ()

    @override
    async def start(self, is_ctxmanager: bool = False) -> AsyncSessionTransaction:
        """Begin as SQLAlchemy does, which refuses it where a transaction is begun already.

        Raises:
            TransactionRefusedError: In a block, which takes part in the transaction of the owner.
            sqlalchemy.exc.InvalidRequestError: It has begun already.
        """
        _scope, frame = self._ambient.place()
        await self._ambient.in_turn(_begin)
        self._frame = frame
        self.sync_transaction = Session.get_transaction(self._ambient.sync_session)
        return self

    @override
    async def _end(self, verb: str) -> None:
        frame, self._frame = self._frame, None
        if frame is not None and frame.state not in ENDED:
            # It may be a plain session again.
            await getattr(self._ambient, verb)()


class OwnersSavepoint(HandSavepoint):
    """What `begin_nested()` of an adopted session returns. Lives: as that of a block."""

    __slots__ = ()

    @override
    async def commit(self) -> None:
        """Release the savepoint; SQLAlchemy refuses it where that has ended."""
        if self.parent is None:
            await greenlet_spawn(self._closed.commit)
        await super().commit()

    @override
    async def rollback(self) -> None:
        """Roll back to the savepoint; SQLAlchemy refuses it where that has ended."""
        if self.parent is None:
            await greenlet_spawn(self._closed.rollback)
        await super().rollback()

    @property
    def _closed(self) -> SessionTransaction:
        """That of the session inside, which has ended with the adoption, or by hand."""
        assert self.sync_transaction is not None  # noqa: S101  # it has begun
        return self.sync_transaction


async def _begin(session: AmbientSession) -> None:
    await greenlet_spawn(session.sync_session.begin)


class OfOwner(ByHand):
    """What an adopted session needs of the blocks around it."""

    @override
    def savepoint(self, session: AmbientSession) -> AsyncSessionTransaction:
        """Return a savepoint that is begun by hand, and is known to have ended with the adoption."""
        return OwnersSavepoint(session)

    @override
    def transaction(self, session: AmbientSession) -> AsyncSessionTransaction:
        """Return a transaction that the owner begins and ends."""
        if cast("AdoptedSession", session).is_in_block():
            raise session.place()[1].by_hand_refused("begin")
        return OwnersTransaction(session)


OF_OWNER = OfOwner()
