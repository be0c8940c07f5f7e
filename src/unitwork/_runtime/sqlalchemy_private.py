"""This module is the one place for what is private in SQLAlchemy, or differs between its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import InstanceState


def end_quietly(session: Session) -> None:
    """End the transaction of a session without a flush and without expiring, undoing or detaching anything.

    Its connections are let go of, not committed.
    """
    transaction = session.get_transaction()
    while transaction is not None:
        transaction.close()
        transaction = session._transaction  # noqa: SLF001  # the one around a savepoint


class _Watched(set["InstanceState[Any]"]):
    """The states of a session that have changes; tells of each when its first attribute is about to change."""

    def __init__(self, known: set[InstanceState[Any]], tell: Callable[[InstanceState[Any]], None]) -> None:
        super().__init__(known)
        self._tell = tell

    def add(self, state: InstanceState[Any], /) -> None:
        self._tell(state)
        super().add(state)


def watch_changes(session: Session, tell: Callable[[InstanceState[Any]], None]) -> None:
    """Call a function in the code that changes an entity of the session, when it does; it may raise.

    An entity that has changes already is not told of again before they are sent.
    """
    held: Any = session.identity_map
    if not isinstance(held._modified, _Watched):  # noqa: SLF001  # InstanceState puts itself in there
        held._modified = _Watched(held._modified, tell)  # noqa: SLF001


def forget_changes(state: InstanceState[Any]) -> None:
    """Take back that an entity has changes, where the first of them was refused."""
    state.modified = False
