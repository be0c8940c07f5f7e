"""This module makes `session.begin_nested()` the same thing as a NESTED block."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy.ext.asyncio import AsyncSessionTransaction

from unitwork._runtime import context
from unitwork.errors import TransactionRefusedError
from unitwork.options import Propagation, TransactionOptions

if TYPE_CHECKING:
    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.sessions.session import TurnedSession
    from unitwork._runtime.transactions.frame import Frame
    from unitwork._runtime.transactions.frames import Savepoint

_NESTED = TransactionOptions(propagation=Propagation.NESTED)


class HandSavepoint(AsyncSessionTransaction):
    """What `begin_nested()` returns. Lives: until it is committed or rolled back, or its block ends."""

    __slots__ = ("_ambient", "_scope")

    def __init__(self, session: TurnedSession) -> None:
        super().__init__(session, nested=True)
        self._ambient = session
        self._scope: Entry | None = None

    @property
    def parent(self) -> Frame | None:
        """The frame around this savepoint, while it is open."""
        return self._scope.frame.parent if self._scope is not None else None

    async def start(self, is_ctxmanager: bool = False) -> AsyncSessionTransaction:  # noqa: ARG002, FBT001, FBT002  # SQLAlchemy's
        """Begin the savepoint.

        Raises:
            TransactionRefusedError: No transaction is open, or it is not the current one.
        """
        around, frame = self._ambient.place()
        frame.check_open()
        if around is None or context.innermost(self._ambient.source) is not around:
            raise self._refused(f"the transaction of {frame.owner} is not the current one")
        if frame.settles:
            raise self._refused(f"{frame.owner} runs without a transaction")
        frame.begin_by_hand()
        scope = around.inner("begin_nested()", _NESTED)
        await scope.enter()
        self._scope = scope
        self._ambient.savepoints.append(self)
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
            self._ambient.savepoints.remove(self)
            await scope.leave(error)

    def _refused(self, why: str) -> TransactionRefusedError:
        return TransactionRefusedError(
            self._ambient.source.name,
            f"A savepoint is refused here: {why}.",
            "begin it in the task and the transaction that the session belongs to.",
        )
