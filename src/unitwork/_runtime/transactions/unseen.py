"""This module asks the driver what it alone has heard, of those who use its connection past SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitwork._runtime.transactions.refused import ended_unseen, failed_unseen
from unitwork._sqlalchemy.lazy import LazyConnection, held_by
from unitwork.dialects.backend import LENT

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork._runtime.transactions.needs import CheckoutFrame
    from unitwork.errors import TransactionRefusedError, UnexpectedRollbackError


def is_own(frame: CheckoutFrame, connection: Connection) -> bool:
    """Say whether an end of the transaction on the server is one of the frame: not of a lent connection."""
    return not (frame.mode.autocommit or LENT in connection.get_execution_options())


def unseen_end(frame: CheckoutFrame, connection: Connection) -> TransactionRefusedError | None:
    """Return what says that the driver knows of no transaction any more, though no end of it was heard of."""
    mark = frame.condemned
    if mark is not None and mark.by_database:
        return None
    # It may have ended: a pool may be told to commit what comes back.
    is_begun = isinstance(connection, LazyConnection) or connection.in_transaction()
    if not (is_begun and is_own(frame, connection)):
        return None
    held = held_by(connection).dbapi_connection
    if held is None or not frame.source.backend.has_ended_unseen(held):
        return None
    return ended_unseen(frame.source.name, frame.owner)


def unseen_failure(frame: CheckoutFrame, connection: Connection) -> UnexpectedRollbackError | None:
    """Return what says that the database would answer COMMIT with a rollback, of which nobody would hear.

    In a greenlet. Only who has asked for the connection can have sent what has failed.
    """
    if frame.mode.read_only or not (frame.session.has_handed_out(connection) and is_own(frame, connection)):
        return None
    held = held_by(connection).dbapi_connection
    if held is None or not frame.source.backend.has_failed_unseen(held):
        return None
    return failed_unseen(frame.source.name, frame.owner)
