"""This module holds what is private in how a session begins and ends savepoints, and what it undoes then.

Each function does one thing that has no public name. A test fails when SQLAlchemy changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction
    from sqlalchemy.orm import InstanceState, Session, SessionTransaction


def flushes_nothing(session: Session) -> bool:
    """Say whether a session has nothing to look at when it flushes, as before a savepoint or a COMMIT."""
    clean: bool = session._is_clean()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return clean


def savepoint_names(transaction: SessionTransaction) -> set[str]:
    """Return what the savepoint that a session has begun is called on its connections, where it was sent."""
    begun: Any = transaction._connections  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # by connection and by engine
    return {getattr(each[1], "_savepoint", "") for each in begun.values()}


def begun_savepoint(transaction: SessionTransaction) -> NestedTransaction | None:
    """Return what a savepoint of a session is on its connection, where it was sent and has not ended."""
    begun: Any = transaction._connections  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # by connection and by engine
    nested: NestedTransaction | None = next((each[1] for each in begun.values()), None)
    return nested if nested is not None and nested.is_active else None


def is_open_in(session: Session, savepoint: SessionTransaction) -> bool:
    """Say whether a session is in a savepoint that it has begun, or in one inside of that."""
    found = session._transaction  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # `get_transaction` is asked by others, too
    while found is not None and found is not savepoint:
        found = found.parent
    return found is not None


def go_back_to(connection: Connection, name: str) -> None:
    """Roll back to a savepoint of which a connection itself does not know any more. In a greenlet."""
    connection._rollback_to_savepoint_impl(name)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def savepoints_to_send(session: Session) -> int:
    """Return how many savepoints a session has begun that its connection knows nothing of yet."""
    count, transaction = 0, session.get_nested_transaction()
    while transaction is not None and transaction.nested:
        if transaction._connections:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # by connection and by engine
            break
        count, transaction = count + 1, transaction.parent
    return count


def next_savepoint_name(connection: Connection) -> str:
    """Return what the next savepoint on a connection is going to be called."""
    sent: int = vars(connection).get("_Connection__savepoint_seq", 0)  # a lazy one has sent none
    return f"sa_savepoint_{sent + 1}"


def note_new(session: Session, state: InstanceState[Any]) -> None:
    """Let the innermost transaction of a session know that it has inserted an entity, as a flush does."""
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    transaction._new[state] = True  # noqa: SLF001  # what a rollback makes new again


def note_deleted(session: Session, state: InstanceState[Any]) -> None:
    """Let the transaction of a session know that an entity was deleted in it, as a flush does."""
    transaction: Any = session.get_transaction()
    transaction._deleted[state] = True  # noqa: SLF001  # what a rollback brings back
