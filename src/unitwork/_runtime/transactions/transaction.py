"""This module holds the two kinds of frame that commit or roll back as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.orm import make_transient
from sqlalchemy.orm.attributes import instance_state

from unitwork._runtime.transactions.frame import Frame
from unitwork.events import Outcome

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, SessionTransaction

    from unitwork.dialects import BeginMode


class Transaction(Frame):
    """A transaction from BEGIN to COMMIT or ROLLBACK. BEGIN is sent with the first statement."""

    __slots__ = ("_new", "by_hand")

    def __init__(
        self,
        session: Any,  # noqa: ANN401  # of a higher floor
        owner: str,
        mode: BeginMode,
        parent: Frame | None = None,
    ) -> None:
        super().__init__(session, owner, mode, parent)
        self.by_hand = False
        """Whether `session.begin()` has begun it: then it is meant, whatever it has sent."""
        self._new: WeakSet[InstanceState[Any]] | None = None

    def inserted(self, entity: object) -> None:
        """Take note of what was inserted past the ORM, which would not make it new again after a rollback."""
        if self._new is None:
            self._new = WeakSet()
        self._new.add(instance_state(entity))

    def inserted_entities(self) -> NewEntities:
        """Return what was inserted past the ORM, with its values, before a rollback expires them."""
        return NewEntities(self._new)


class NewEntities:
    """Entities that are new again after a rollback, with their values. Lives: one rollback."""

    __slots__ = ("_kept",)

    def __init__(self, states: WeakSet[InstanceState[Any]] | None) -> None:
        entities = [(state, state.obj()) for state in states or ()]
        self._kept = [
            (state, entity, dict(state.dict)) for state, entity in entities if entity is not None
        ]

    def restore(self) -> None:
        """Make them new again."""
        for state, entity, values in self._kept:
            make_transient(entity)
            state.dict.update(values)
            state.expired = False


class Savepoint(Frame):
    """A savepoint: it can be undone alone. SAVEPOINT is sent with its first statement."""

    __slots__ = ("transaction",)

    transaction: SessionTransaction
    kept = Outcome.SAVEPOINT_KEPT
    undone = Outcome.SAVEPOINT_UNDONE

    @property
    def root(self) -> Frame:
        return self.parent.root if self.parent is not None else self

    def release(self) -> None:
        """Send RELEASE. In a greenlet."""
        self.transaction.commit()

    def roll_back(self) -> None:
        """Send ROLLBACK TO. In a greenlet."""
        # After a failed RELEASE the session has already gone back behind it.
        if self.session.sync_session.in_nested_transaction():
            self.transaction.rollback()
