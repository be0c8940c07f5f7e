"""This module asks whether an operation may run where it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import NO_STATE, UnmappedInstanceError

from unitwork._logic.writes import is_write, locks_rows
from unitwork._runtime import context
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import InstanceState

    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.sessions.session import AmbientSession
    from unitwork._runtime.transactions.frame import Frame


class Permission:
    """What may run on one session, asked at every statement and every end. Lives: as long as the session."""

    __slots__ = ("_session",)

    def __init__(self, session: AmbientSession) -> None:
        self._session = session

    def to_send(self, statement: object) -> None:
        """Refuse a statement that may not be sent here; begin the transaction that it needs.

        Raises:
            TransactionRefusedError: It writes inside a read-only block, or the database has condemned the frame.
        """
        session = self._session
        scope, frame = session.running_in or session.place()
        frame.check_condemned()
        frame.root.last_statement = statement
        if scope is None:
            return
        if frame.idles:
            if _needs_transaction(statement):
                self._refuse_in_read_only(scope)
                session.begin_to_write(scope)
        elif scope.read_only_by is not None:
            # A SELECT that hides a write in a CTE is left to the database where that enforces read-only.
            if not (frame.root.mode.read_only and isinstance(statement, Select)) and is_write(statement):
                raise self.write_refused(scope)
        elif scope.counts_writes and is_write(statement):
            session.writes += 1

    def to_flush(self) -> None:
        """Refuse to send changes inside a read-only block; begin the transaction that they need."""
        session = self._session
        scope, frame = session.running_in or session.place()
        if scope is None or not session.has_changes():
            return
        if scope.read_only_by is not None:
            # In a block that only narrows, what other tasks have changed is their own affair.
            if frame.root.mode.read_only or frame.idles or scope.changed_although_read_only:
                raise self.write_refused(scope)
            return
        if frame.idles:
            session.begin_to_write(scope)
        session.writes += 1

    def to_add(self, entities: Iterable[object]) -> None:
        """Refuse to insert inside a read-only block, after its end, or what another session holds."""
        session = self._session
        scope, frame = session.place()
        frame.admit()
        for entity in entities:
            try:
                entity_state = instance_state(entity)
            except NO_STATE as error:
                raise UnmappedInstanceError(entity) from error
            # A detached entity is only attached again; a new one would be inserted.
            if scope is not None and scope.read_only_by is not None and entity_state.key is None:
                raise self.write_refused(scope)
            self._refuse_what_is_held_elsewhere(entity_state)

    def _refuse_what_is_held_elsewhere(self, state: InstanceState[Any]) -> None:
        """Refuse now, where the caller is: it may be added later, in the middle of another task."""
        other, own = state.session, self._session.held
        if other is not None and other is not own:
            raise InvalidRequestError(
                f"Object '{state.obj()!r}' is already attached to another session: use "
                f"`session.merge()`, or take it out of there with `expunge()` first."
            )

    def to_change(self) -> None:
        """Refuse to delete, merge or write in bulk inside a read-only block; begin what it needs."""
        session = self._session
        scope, frame = session.running_in or session.place()
        if scope is None:
            return
        self._refuse_in_read_only(scope)
        if frame.idles:
            session.begin_to_write(scope)
        session.writes += 1

    def to_end(self, verb: str) -> None:
        """Refuse to end the transaction in another way than by its block or unit of work."""
        if not self._session.ends_allowed:
            raise by_hand_refused(self._session.source.name, verb, self._session.turns.top.owner)

    def to_wait_for_connection(self, frame: Frame) -> None:
        """Refuse to wait for a connection that only the caller's own outer blocks could free."""
        if len(context.open_scopes()) > 1:
            self._session.refuse_starvation(frame)

    def _refuse_in_read_only(self, scope: OpenScope) -> None:
        if scope.read_only_by is not None:
            raise self.write_refused(scope)

    def write_refused(self, scope: OpenScope) -> TransactionRefusedError:
        """Build the error for a write inside a read-only block."""
        name = self._session.source.name
        return TransactionRefusedError(
            name,
            f"A write on database {name!r} is refused: {scope.read_only_by} is read-only.",
            "write outside of it, or drop its `read_only=True`.",
        )


def _needs_transaction(statement: object) -> bool:
    """Say whether a unit of work that is at rest must begin for a statement."""
    return is_write(statement) or locks_rows(statement)


_FIXES = {
    "commit": "leave the block: it commits by itself; to commit earlier, make the block smaller.",
    "rollback": "raise an exception, or call `db.set_rollback_only()`.",
    "close": "leave the block: it closes its session by itself.",
    "begin": "use `db.transaction(propagation=NESTED)` for a savepoint, REQUIRES_NEW for one apart.",
}


def by_hand_refused(database: str, verb: str, block: str) -> TransactionRefusedError:
    """Build the error for a commit, rollback, close or begin by hand inside a block."""
    return TransactionRefusedError(
        database,
        f"`{verb}` by hand on database {database!r} is refused inside the transaction block {block}.",
        _FIXES.get(verb, _FIXES["close"]),
    )
