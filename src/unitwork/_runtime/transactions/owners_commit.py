"""This module knows what has become of the COMMIT of a transaction that the owner of its session ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitwork._runtime.transactions.frame import Frame
    from unitwork.dialects import Backend


class OwnersCommit:
    """What is known of the COMMIT of an owner's transaction. Lives: as long as that.

    Args:
        refuse_half: Raises if something in it can only be rolled back: COMMIT would store the rest.
    """

    __slots__ = ("_error", "_refuse_half", "_sent", "answered", "cancelled")

    def __init__(self, refuse_half: Callable[[], None]) -> None:
        self._refuse_half = refuse_half
        self._sent = False
        self._error: BaseException | None = None
        self.answered = False
        """The database has said that the work is stored."""
        self.cancelled: BaseException | None = None
        """The cancellation that came after it, and is raised when all that waited has been told."""

    def send_by(self, frame: Frame, send: Callable[[], object]) -> None:
        """Send it, unless it would store half of the work. In a greenlet.

        It is seen through: of a COMMIT that a cancellation has left alone, nobody would know what it did.
        """
        self._refuse_half()
        self._sent = True
        done = await_only(frame.see_through(send))
        if done.error is not None:
            self.failed(done.error)
            raise done.error
        self.answered = True
        if done.cancelled is not None:
            raise done.cancelled

    def clean_by(self, frame: Frame, send: Callable[[], object]) -> None:
        """Send ROLLBACK. In a greenlet.

        After a COMMIT it is the pool that cleans the connection: SQLAlchemy tells nobody of the end if that
        is cancelled.
        """
        if not self.answered:
            send()
            return
        done = await_only(frame.see_through(send))
        if done.error is not None:
            raise done.error
        self.cancelled = self.cancelled or done.cancelled

    def failed(self, error: BaseException) -> None:
        """Take note of what may be why it was not answered; what SQLAlchemy makes of it says more."""
        if self._sent and not self.answered:
            self._error = error

    def may_be_stored(self, backend: Backend) -> bool:
        """Say whether it was sent, and nobody knows what became of it."""
        error = self._error
        return error is not None and (not isinstance(error, Exception) or backend.may_be_stored(error))
