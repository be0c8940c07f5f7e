"""This module takes a connection out of the pool for a transaction, begins on it, and returns it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import await_only

from unitwork.dialects.orders import Failed, run_on_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection, Engine

    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork._runtime.transactions.frame import Frame


_CHECKOUT = "unitwork_checkout"


def tell_commits(engine: Engine) -> None:
    """Let check-outs know when COMMIT was sent and answered, whoever sends it: SQLAlchemy tells only of the first."""
    send = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:  # noqa: ANN401  # of the pool
        checkout: Checkout | None = connection.info.get(_CHECKOUT)
        if checkout is not None:
            checkout.commit_sent = True
        send(connection)
        if checkout is not None:
            checkout.commit_answered = True

    vars(engine.dialect)["do_commit"] = do_commit


class Checkout:
    """One connection that a frame has. Lives: from check-out to check-in."""

    __slots__ = ("_gate", "_options", "commit_answered", "commit_sent", "connection", "frame", "since")

    connection: Connection

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.since = time.monotonic()
        self.commit_sent = False
        """Whether COMMIT has gone to the driver."""
        self.commit_answered = False
        """Whether the database has said that the work is stored."""
        self._gate: WriteGate | None = None
        self._options: Mapping[str, Any] = frame.source.backend.execution_options(frame.mode)

    @property
    def begins_loudly(self) -> bool:
        """Whether BEGIN sends something by itself, which must not be interrupted."""
        return bool(self._options) or not self.frame.source.backend.begins_silently

    def take(self) -> Connection:
        """Wait for a connection; who wants the only write lock waits in order with the other writers first."""
        frame = self.frame
        source, mode = frame.source, frame.mode
        if source.backend.one_writer and not (mode.read_only or mode.autocommit):
            gate = source.write_gate()
            if gate is not None:
                await_only(gate.enter(frame))
                self._gate = gate
        self.connection = source.home_engine().sync_engine.connect()
        self.since = time.monotonic()
        source.frames[self.connection] = frame
        return self.connection

    def begin(self) -> None:
        """Begin in the mode of the frame. In a greenlet."""
        try:
            if self._options:
                _set(self.connection, self._options)
            self.connection.begin()
        except BaseException:
            self.connection.close()
            raise

    def commit(self, first: Callable[[], object]) -> None:
        """Do what sends COMMIT in its own way, if it does; then see to it that it is sent. In a greenlet."""
        info = self.connection.info
        info[_CHECKOUT] = self
        try:
            first()
            if not self.commit_answered and self.connection.in_transaction():
                self.connection.commit()
        finally:
            info.pop(_CHECKOUT, None)

    def roll_back(self) -> None:
        """Send ROLLBACK, if there is something to roll back. In a greenlet."""
        if self.connection.in_transaction():
            self.connection.rollback()

    def discard(self) -> None:
        """Close the connection instead of returning it."""
        if not (self.connection.closed or self.connection.invalidated):
            self.connection.invalidate()

    def give_back(self) -> None:
        """Return the connection to the pool. In a greenlet."""
        self.connection.close()

    def sever(self) -> None:
        """Break the connection under what waits for it."""
        if not (self.connection.closed or self.connection.invalidated):
            self.frame.source.backend.sever(self.connection.connection.driver_connection)

    def forget(self) -> None:
        """Let the next writer in, and count this connection as held no longer."""
        if self._gate is not None:
            self._gate.leave(self.frame)
            self._gate = None
        connection = getattr(self, "connection", None)
        if connection is not None:
            self.frame.source.frames.pop(connection, None)


def _set(connection: Connection, options: Mapping[str, Any]) -> None:
    """Set the options of a transaction. Some are sent, and SQLAlchemy leaves their errors as they come."""
    try:
        connection.execution_options(**options)
    except SQLAlchemyError:
        raise
    except Exception as error:
        run_on_driver(connection, Failed(f"SET {', '.join(options)}", error))
        raise
