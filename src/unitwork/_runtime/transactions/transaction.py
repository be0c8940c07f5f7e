"""This module holds what commits or rolls back as a whole, and what lies under it in a unit of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.orm.attributes import instance_state
from typing_extensions import override

from unitwork._runtime.transactions.frame import Frame
from unitwork._sqlalchemy.savepoints import note_deleted, note_new
from unitwork.dialects import BeginMode
from unitwork.options import Outcome

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState


class Transaction(Frame):
    """A transaction from BEGIN to COMMIT or ROLLBACK. BEGIN is sent with the first statement."""

    by_hand = False
    """Whether `session.begin()` has begun it: then it is meant, whatever it has sent."""
    _new: WeakSet[InstanceState[Any]] | None = None
    _deleted: WeakSet[InstanceState[Any]] | None = None

    @property
    def hands_hooks_up(self) -> bool:  # type: ignore[override]  # constant in the other kinds
        # It has only read, in a unit of work that is to be one transaction.
        return self.base is None and self.parent is not None and self.parent.begins_with_writes

    @property
    def has_only_read(self) -> bool:
        """Whether nothing was sent that may write or lock, and nothing waits for its end."""
        wrote = self.session.writes > self.writes_before
        return not (wrote or self.by_hand or self.waits_for_end)

    def inserted(self, entity: object) -> None:
        """Take note of what was inserted past the ORM, which a rollback makes new again."""
        if self._new is None:
            self._new = WeakSet()
        self._new.add(instance_state(entity))

    def deleted(self, state: InstanceState[Any]) -> None:
        """Take note of what was deleted in a session that has not begun, which a rollback brings back."""
        if self._deleted is None:
            self._deleted = WeakSet()
        self._deleted.add(state)

    @override
    def tell_new(self) -> None:
        new, self._new = self._new, None
        for state in new or ():
            note_new(self.session.sync_session, state)
        deleted, self._deleted = self._deleted, None
        for state in deleted or ():
            note_deleted(self.session.sync_session, state)


class Autocommit(Frame):
    """No transaction: each statement commits by itself, and holds no connection afterwards."""

    settles = True
    kept = undone = Outcome.NO_TRANSACTION

    @property
    def transactional(self) -> bool:
        return False

    @override
    def condemn(self, *arguments: Any, **keywords: Any) -> None:
        """Nothing to condemn: what was done is committed."""

    @override
    async def settle(self, *, failed: bool) -> None:
        """End what the operation has left open, and give the connection back; what was loaded stays."""
        session = self.session
        if self.checkout is None and not (failed and session.held is not None):
            return
        done = await self.see_through(lambda: session.settle(self, failed=failed))
        await self.lose_connection()
        if done.error is not None and not failed:
            raise done.error
        if done.cancelled is not None:
            raise done.cancelled


class AtRest(Autocommit):
    """What lies under the transactions of a unit of work: between them each read ends by itself.

    Args:
        whole: The unit is one transaction, which begins with its first write and takes all blocks in.
    """

    idles = True
    kept = Outcome.COMMITTED
    undone = Outcome.ROLLED_BACK

    def __init__(
        self,
        session: Any,  # noqa: ANN401  # of a higher floor
        owner: str,
        parent: Frame | None = None,
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(session, owner, BeginMode(autocommit=True), parent)
        self.whole = whole
        self.transaction: Transaction | None = None
        """The one that the unit has begun and not ended."""
        self.scope: Any = None
        """The unit of work, while it is open: of a higher floor."""

    @property
    def seat(self) -> Frame:
        return self if self.parent is None else self.parent.seat

    @property
    def begins_with_writes(self) -> bool:  # type: ignore[override]  # constant in the other kinds
        return self.whole

    @property
    def current(self) -> Frame:
        begun = self.transaction
        return self if begun is None or begun.ended else begun

    @override
    def condemn(self, *arguments: Any, **keywords: Any) -> None:
        # A read that fails by itself leaves nothing half done.
        if self.whole and not keywords.get("by_database"):
            Frame.condemn(self, *arguments, **keywords)

    def begin_for_unit(self, mode: BeginMode) -> Transaction:
        """Begin the transaction of the unit."""
        begun = Transaction(self.session, self.owner, mode, self.seat)
        begun.base = self
        begun.limits = self.limits
        self.transaction = begun
        self.session.turns.enter(begun)
        return begun

    def hand_over(self, begun: Transaction) -> None:
        """Let what waits for the end of the unit wait for that of its transaction, which is about to end."""
        begun.rollback_only, self.rollback_only = begun.rollback_only or self.rollback_only, False
        mark = self.take_mark()
        if mark is not None:
            begun.condemn(mark.block, mark.error)
        hooks, self.hooks_or_none = self.hooks_or_none, None
        if hooks is not None:
            if begun.hooks_or_none is not None:
                hooks.take_over(begun.hooks_or_none)
            begun.hooks_or_none = hooks

    @override
    def forget_session(self) -> None:
        super().forget_session()
        self.scope = None
