"""This module notices that a statement has ended the transaction that it was sent in.

A procedure of MariaDB may commit. The server begins anew with what comes then, and tells nobody: a ROLLBACK
would undo the second half alone. A savepoint before such a statement is gone behind it, if that was so.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from unitwork._logic.writes import opens_with_write, runs_others
from unitwork._runtime.transactions.refused import committed_inside

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork._runtime.transactions.needs import CheckoutFrame
    from unitwork.dialects import Backend
    from unitwork.errors import TransactionRefusedError

_MARK = "unitwork_inside"


class InnerEnds:
    """The ends that statements of one transaction may bring. Lives: as long as that.

    All of it is called in a greenlet.
    """

    __slots__ = ("_backend", "_marked", "_wrote", "found")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._wrote = False
        self._marked: str | None = None
        self.found: str | None = None
        """The statement that has committed what was written before it."""

    def before(self, connection: Connection, sql: str) -> None:
        """Mark the place before a statement that runs others, if something was written before it."""
        self._marked = None
        if self._wrote and runs_others(sql, self._backend.dialect):
            with suppress(Exception):  # what is wrong with the connection, the statement itself will hear
                _send(connection, f"SAVEPOINT {_MARK}")
                self._marked = sql
        self._wrote = self._wrote or opens_with_write(sql)

    def after(self, connection: Connection) -> bool:
        """Say whether the statement has ended the transaction, whether it has failed or not."""
        marked, self._marked = self._marked, None
        if marked is None:
            return False
        try:
            _send(connection, f"RELEASE SAVEPOINT {_MARK}")
        except Exception as error:  # noqa: BLE001  # of any driver
            if self._backend.savepoint_is_gone(error):
                self.found = marked
                return True
        return False

    def told(self, frame: CheckoutFrame) -> TransactionRefusedError:
        """Return what says that it has, and with which statement."""
        return committed_inside(frame.source.name, frame.owner, self.found or "")


def _send(connection: Connection, sql: str) -> None:
    """Send what no program has asked for, and no observer is told of."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql)
    finally:
        cursor.close()
