"""This module is the fused lane: a read in a block, on its connection, past the ORM's machinery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from unitwork._runtime.loading import NeedsSession
from unitwork.dialects.direct import UnreadableRowsError
from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from unitwork._runtime.express import Call
    from unitwork._runtime.session import AmbientSession
    from unitwork.dialects.direct import Direct, Rows


def read_fused(call: Call, session: AmbientSession) -> Sequence[Any] | None:
    """Return what becomes of the rows of a read; None if the session itself must do it. In a greenlet."""
    needed = call.read.mapper is not None
    if session.started or needed:
        sync = session.sync_session
        listeners = session.source.express.session_listeners
        if not session.knows_nothing_of(call.identity) or listeners.of_reads(sync) is not None:
            return None
    session.check_statement(call.asked.statement)
    connection = _connection(session)
    if session.source.home_listeners().are_on(connection):
        return None
    try:
        rows = _rows(connection, session.source.express.direct, call)
        return call.items(rows, session.sync_session if needed else None)
    except NeedsSession:
        return None


def _connection(session: AmbientSession) -> Connection:
    """Return the connection of the block; a session that has begun must know that it is used."""
    frame = session.turns.top
    if session.started and (frame is not frame.root or frame.connection is None):
        return Session.connection(session.sync_session)
    return frame.root.connection or session.acquired(frame.root)


def _rows(connection: Connection, direct: Direct | None, call: Call) -> Rows:
    driver = connection.connection.driver_connection
    if direct is None or not direct.in_transaction(driver):
        # SQLAlchemy sends BEGIN with its own first statement.
        result = connection.exec_driver_sql(call.read.sql, call.parameters)
        call.read.described_by(result.cursor)
        return result.all()
    try:
        return await_only(call.read.rows(direct, driver, call.arguments))
    except NeedsSession:
        raise
    except BaseException as failure:
        error = failure.__cause__ or failure if isinstance(failure, UnreadableRowsError) else failure
        # As if SQLAlchemy had sent it: its class of error, its events, and what they do to the block.
        try:
            run_on_driver(connection, Failed(call.read.sql, error), call.parameters)
        except Exception:
            # A driver may have closed what was cancelled, and says only that.
            if isinstance(error, Exception):
                raise
        raise
