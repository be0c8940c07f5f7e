"""This module makes what SQLAlchemy's session begins by hand the same thing as blocks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy.ext.asyncio import AsyncSessionTransaction

from unitwork._runtime import context
from unitwork._runtime.blocks.starvation import held_by_this_task, refuse_starvation
from unitwork.errors import TransactionRefusedError
from unitwork.options import Outcome, Propagation, TransactionOptions

if TYPE_CHECKING:
    from unitwork._runtime.sessions.session import AmbientSession
    from unitwork._runtime.transactions.frame import Frame
    from unitwork._runtime.transactions.savepoint import Savepoint

_NESTED = TransactionOptions(propagation=Propagation.NESTED)


class SavepointScope(Protocol):
    """The block that a savepoint by hand is."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task that has entered it, as long as that lives."""
        ...

    @property
    def frame(self) -> Frame:
        """The savepoint."""
        ...

    async def enter(self) -> object:
        """Begin it."""
        ...

    async def leave(self, error: BaseException | None) -> None:
        """Release it, or roll back to it."""
        ...


class HandSavepoint(AsyncSessionTransaction):
    """What `begin_nested()` returns. Lives: until it is committed or rolled back, or its block ends."""

    __slots__ = ("_ambient", "_scope")

    def __init__(self, session: AmbientSession) -> None:
        super().__init__(session, nested=True)
        self._ambient = session
        self._scope: SavepointScope | None = None

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """Where it was begun."""
        return self._scope.task if self._scope is not None else None

    @property
    def parent(self) -> Frame | None:
        """The frame around this savepoint, while it is open."""
        return self._scope.frame.parent if self._scope is not None else None

    async def start(self, is_ctxmanager: bool = False) -> AsyncSessionTransaction:  # noqa: ARG002, FBT001, FBT002  # SQLAlchemy's
        """Begin the savepoint; in a unit of work at rest, its transaction as well.

        Raises:
            TransactionRefusedError: It is not the current transaction, or there can be none.
        """
        around, frame = self._ambient.place()
        frame.check_open()
        if around is None or context.innermost(self._ambient.source) is not around:
            raise self._refused(f"the transaction of {frame.owner} is not the current one")
        if frame.idles:
            await self._ambient.in_turn(_begin)
        elif frame.settles:
            raise self._refused(f"{frame.owner} runs without a transaction")
        scope: SavepointScope = around.inner("begin_nested()", _NESTED)
        await scope.enter()
        self._scope = scope
        self._ambient.savepoints = [*self._ambient.savepoints, self]
        self.sync_transaction = cast("Savepoint", scope.frame).transaction
        return self

    async def commit(self) -> None:
        """Release the savepoint."""
        await self.end(None)

    async def rollback(self) -> None:
        """Roll back to the savepoint."""
        if self._scope is not None:
            self._scope.frame.rollback_only = True
        await self.end(None)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.end(error)

    async def end(self, error: BaseException | None) -> None:
        """Release the savepoint, or roll back to it if an exception leaves; once."""
        scope, self._scope = self._scope, None
        if scope is not None:
            self._ambient.savepoints = [each for each in self._ambient.savepoints if each is not self]
            await scope.leave(error)

    def _refused(self, why: str) -> TransactionRefusedError:
        return TransactionRefusedError(
            self._ambient.source.name,
            f"A savepoint is refused here: {why}.",
            "begin it in the task and the transaction that the session belongs to.",
        )


class HandTransaction(AsyncSessionTransaction):
    """What `begin()` returns in a unit of work. Lives: until it is committed or rolled back."""

    __slots__ = ("_ambient", "_frame")

    def __init__(self, session: AmbientSession) -> None:
        super().__init__(session, nested=False)
        self._ambient = session
        self._frame: Frame | None = None

    async def start(self, is_ctxmanager: bool = False) -> AsyncSessionTransaction:  # noqa: ARG002, FBT001, FBT002  # SQLAlchemy's
        """Begin the transaction of the unit of work; BEGIN goes with the first statement."""
        refuse_begin(self._ambient)
        await self._ambient.in_turn(_begin)
        self._frame = self._ambient.place()[1]
        self.sync_transaction = self._ambient.sync_session.get_transaction()
        return self

    async def commit(self) -> None:
        """Commit the transaction, if it is open still."""
        await self._end("commit")

    async def rollback(self) -> None:
        """Roll the transaction back, if it is open still."""
        await self._end("rollback")

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._end("commit" if error is None else "rollback")

    async def _end(self, verb: str) -> None:
        frame, self._frame = self._frame, None
        if frame is not None and frame.ended and verb == "commit":
            base = frame.base
            if base is not None and base.ended and frame.outcome is not Outcome.COMMITTED:
                raise frame.ended_error()  # the unit of work has ended first, and has undone it
        elif frame is not None and not frame.ended:
            scope, _frame = self._ambient.place()
            if scope is None:
                raise frame.by_hand_refused(verb)
            await scope.by_hand(verb)


def refuse_begin(session: AmbientSession) -> None:
    """Refuse to begin by hand where a transaction is open already.

    Raises:
        TransactionRefusedError: A block, or the unit of work, has begun one.
    """
    _scope, frame = session.place()
    frame.check_open()
    if not frame.idles:
        raise frame.by_hand_refused("begin")


async def _begin(session: AmbientSession) -> None:
    """Begin the transaction of a unit of work at rest, in this task's turn."""
    scope, frame = session.running_in or session.place()
    if scope is not None and frame.idles:
        session.begin_to_write(scope).by_hand = True  # type: ignore[attr-defined]  # the transaction of the unit


class ByHand:
    """What the session needs of the blocks around it."""

    def savepoint(self, session: AmbientSession) -> AsyncSessionTransaction:
        """Return a savepoint that is begun by hand."""
        return HandSavepoint(session)

    def transaction(self, session: AmbientSession) -> AsyncSessionTransaction:
        """Return a transaction of a unit of work that is begun by hand."""
        refuse_begin(session)
        return HandTransaction(session)

    def holds_connection(self, session: AmbientSession) -> bool:
        """Say whether a block around the calling code has a connection of this Database."""
        return bool(held_by_this_task(session.source))

    def refuse_starvation(self, session: AmbientSession, frame: Frame) -> None:
        """Refuse to wait for a connection that only the caller's own outer blocks could free."""
        held = held_by_this_task(session.source, besides=session)
        if held:
            mode = frame.root.mode
            refuse_starvation(
                session.source, frame.owner, held, writes=not (mode.read_only or mode.autocommit)
            )


BY_HAND = ByHand()
