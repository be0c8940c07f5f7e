"""This module takes a connection out of the pool for a transaction, begins on it, and returns it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from unitwork._runtime.connections.losses import nothing_stored_with
from unitwork._runtime.deadline import remaining_s
from unitwork._runtime.transactions.beginning import Beginning
from unitwork._runtime.transactions.inner_ends import InnerEnds
from unitwork._runtime.transactions.origin import Origin
from unitwork._runtime.transactions.unseen import is_own, unseen_end, unseen_failure
from unitwork._sqlalchemy.lazy import LazyConnection, held_by
from unitwork._sqlalchemy.savepoints import savepoint_names
from unitwork.dialects.backend import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction

    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork._runtime.deadline import Limits
    from unitwork._runtime.transactions.needs import CheckoutFrame
    from unitwork.errors import TransactionRefusedError


class Checkout:
    """One connection that a frame has; the `Holder` of it. Lives: from check-out to check-in."""

    __slots__ = (
        "_answer",
        "_beginning",
        "_ending",
        "_gate",
        "_info",
        "_inner_ends",
        "_origin",
        "commit_answered",
        "commit_sent",
        "connection",
        "ended_before",
        "frame",
        "gone_back",
        "released",
        "since",
    )

    def __init__(self, frame: CheckoutFrame) -> None:
        self.frame = frame
        self.connection: Connection | None = None
        self.since: float
        self._ending = False
        self._answer: Exception | bool = False
        """What has become of a COMMIT that was sent ahead: it failed, or the database has answered."""
        self.released = 0
        """How many savepoints were released."""
        self.gone_back = 0
        """How often the transaction has gone back to one."""
        self._info: dict[Any, Any] = {}
        self.commit_sent = False
        """Whether COMMIT has gone to the driver."""
        self.commit_answered = False
        """Whether the database has said that the work is stored."""
        self.ended_before: TransactionRefusedError | None = None
        """What says that something else has ended the transaction, and may have stored a part of it."""
        self._gate: WriteGate | None = None
        self._origin = Origin(frame)
        self._inner_ends: InnerEnds | None = None
        self._beginning = Beginning.in_mode(frame.source.backend, frame.mode)

    # -- as a holder ---------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """The block that it was taken for."""
        return self.frame.owner

    @property
    def last_statement(self) -> object:
        """What was sent last."""
        return self.frame.last_statement

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, as far as the database was told."""
        connection = self.connection
        return not self.frame.mode.autocommit and connection is not None and connection.in_transaction()

    @property
    def may_write(self) -> bool:
        """Whether it expects the database to take writes."""
        return not self.frame.mode.read_only

    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """Condemn the innermost open frame, as long as the savepoint around the error is open."""
        inner = self._inner_ends
        if inner is not None and inner.after(self._taken):
            error.add_note(str(inner.told(self.frame)))
            self.database_ended(error)
            return
        self._tell_what_is_stored(error)
        frame: Any = self.frame.session.turns.top
        frame.condemn(frame.owner, error, by_database=True, within=within)
        while frame is not self.frame and not frame.undoes_errors:
            frame = frame.parent
            frame.condemn(frame.owner, error, by_database=True, within=within)

    def database_ended(self, error: BaseException) -> None:
        """Condemn all open frames: the database has ended the whole transaction."""
        frame: Any = self.frame.session.turns.top
        self._tell_what_is_stored(error)
        while frame is not None:
            frame.condemn(frame.owner, error, by_database=True)
            frame = None if frame is self.frame else frame.parent

    def _tell_what_is_stored(self, error: BaseException) -> None:
        mode, inner = self.frame.mode, self._inner_ends
        half_stored = inner is not None and inner.found is not None
        if mode.read_only or not (mode.autocommit or self.commit_sent or half_stored):
            nothing_stored_with(error)

    def before_statement(self, sql: str) -> None:
        """Take note of what is about to be sent, if it may end the transaction.

        Raises:
            TransactionRefusedError: Something else has ended it already, past SQLAlchemy.
        """
        self._refuse_ended()
        if self._inner_ends is not None:
            self._inner_ends.before(self._taken, sql)

    def after_statement(self) -> None:
        """Notice that what was sent has ended the transaction. In a greenlet.

        Raises:
            TransactionRefusedError: It has: what was written before it is stored.
        """
        inner = self._inner_ends
        if inner is not None and inner.after(self._taken):
            error = inner.told(self.frame)
            self.database_ended(error)
            raise error

    def _refuse_ended(self) -> None:
        self._look_for_end()
        if self.ended_before is not None:
            raise self.ended_before

    def _look_for_end(self) -> None:
        self.ended_before = self.ended_before or unseen_end(self.frame, self._taken)

    def time_left(self) -> float | None:
        """Return the seconds that what is sent now may take; None is without limit."""
        limits: Limits = self.frame.session.limits_here()
        return remaining_s(limits) if limits else None

    # -- the connection ------------------------------------------------------------------------

    def take_idle(self) -> Connection | None:
        """Take a connection for which nothing has to be waited for; None if there is none. In no greenlet."""
        beginning, frame = self._beginning, self.frame
        if not beginning.needs_no_greenlet:
            return None
        gate = frame.source.write_gate() if beginning.queues_to_write else None
        if gate is not None and not gate.enter_at_once(frame, frame.owner):
            return None
        self._gate = gate
        connection = self._origin.idle(beginning.kind)
        if connection is None:
            self.forget()
            return None
        return self._took(connection)

    def take(self) -> Connection:
        """Wait for a connection; before that, in order, for the only write lock, if it is wanted."""
        frame = self.frame
        gate = frame.source.write_gate() if self._beginning.queues_to_write else None
        if gate is not None:
            await_only(gate.enter(frame, frame.owner, frame.source.watch))
            self._gate = gate
        return self._took(self._origin.connected())

    def _took(self, connection: Connection) -> Connection:
        self.connection = connection
        self.since = time.monotonic()
        self._origin.engines.take(connection, self)
        self._info = connection.info
        self._info[CHECKOUT] = self
        backend = self.frame.source.backend
        if backend.may_end_inside and is_own(self.frame, self._taken):
            self._inner_ends = InnerEnds(backend)
        return connection

    def leaves_replica(self, error: BaseException) -> bool:
        """Say whether another server may be asked: nothing was sent yet to a replica that is gone."""
        return self._origin.leaves_replica(error)

    def is_on(self, engines: Engines) -> bool:
        """Say whether the connection is of this server."""
        return self._origin.engines is engines and self.is_out

    def begin_silently(self) -> bool:
        """Begin, if that sends nothing by itself, which must not be interrupted; say whether it was so."""
        loud = self._beginning.is_loud
        # Where time is short, it must be possible to give BEGIN up by itself.
        if not (loud and self.frame.limits) and self._beginning.goes_with_next(self._taken):
            return True
        if not loud:
            self.begin()
        return not loud

    async def begin_ahead(self) -> None:
        """Begin in the mode of the frame; SQLAlchemy has nothing to send then."""
        self._ending = True  # SQLAlchemy rolls back by itself what cannot begin
        await self._beginning.ahead(self._taken)
        self._ending = False

    def begin(self) -> None:
        """Begin in the mode of the frame. In a greenlet, if something is sent by itself."""
        self._ending = True  # as above
        self._beginning.of(self._taken)
        self._ending = False

    @property
    def _taken(self) -> Connection:
        assert self.connection is not None  # noqa: S101  # it is taken before it is used
        return self.connection

    def commit(self, first: Callable[[], object], *, alone: bool = False) -> None:
        """Do what sends COMMIT in its own way, if it does; then see to it that it is sent. In a greenlet.

        Args:
            first: What does so.
            alone: It was sent ahead, and nobody hears of it: one that knows of nothing is not told.
        """
        self._ending = True
        first()
        connection = self._taken
        if alone and isinstance(connection, LazyConnection):
            return
        if (not self.commit_answered or self._answer is True) and connection.in_transaction():
            connection.commit()

    @property
    def waits_for_commit_alone(self) -> bool:
        """Whether all that is to be waited for at its end is the answer to COMMIT.

        Nobody else has the connection or listens to its end, and it goes back to where it was idle.
        """
        connection = self._taken
        lender = self._origin.lender
        if lender is None or not lender.takes_back_ended():
            return False
        return not (connection.in_nested_transaction() or self.frame.session.has_handed_out(connection))

    async def commit_ahead(self) -> bool:
        """Send COMMIT on the driver's connection; say whether it was stored. `commit` tells SQLAlchemy."""
        self._ending = True
        self._look_for_end()
        direct: Any = self.frame.source.backend.direct
        if self.ended_before is not None:
            return False
        self.commit_sent = True
        try:
            await direct.commit(held_by(self._taken).dbapi_connection)
        except Exception as error:  # noqa: BLE001  # raised by way of SQLAlchemy
            self._answer = error
            return False
        self._answer = self.commit_answered = True
        return True

    def committed_by(self, send: Callable[[], object]) -> None:
        """Send COMMIT, if the block is about to end and has not sent it ahead."""
        if self._answer is True:
            return
        self.refuse_by_hand("commit")
        if isinstance(self._answer, Exception):
            raise self._answer
        self._refuse_ended()
        if (failure := unseen_failure(self.frame, self._taken)) is not None:
            raise failure
        self.commit_sent = True
        send()
        self.commit_answered = True

    def rolled_back_by(self, send: Callable[[], object]) -> None:
        """Send ROLLBACK, if the block is about to end."""
        if self._taken.in_transaction():  # else SQLAlchemy rolls back by itself what could not begin
            self.refuse_by_hand("rollback")
        self._look_for_end()
        send()

    def released_by(self, send: Callable[[], object], name: str) -> None:
        """Send RELEASE, if the block is about to end, or the savepoint is none of a block."""
        self._refuse_savepoint_by_hand("commit", name)
        send()
        self.released += 1

    def gone_back_by(self, send: Callable[[], object], name: str) -> None:
        """Send ROLLBACK TO, if the block is about to end, or the savepoint is none of a block."""
        self._refuse_savepoint_by_hand("rollback", name)
        if not self._is_over:
            send()
        self.gone_back += 1

    def refuse_by_hand(self, verb: str) -> None:
        """Refuse an end that no block has asked for, by way of what SQLAlchemy hands out.

        SQLAlchemy counts its transaction as ended all the same, so nothing of it can be stored any more.
        """
        session = self.frame.session
        if not (self._ending or session.ends_allowed or session.flushing):
            error = self.frame.by_hand_refused(verb)
            session.turns.top.root.condemn(self.owner, error)
            raise error

    def _refuse_savepoint_by_hand(self, verb: str, name: str) -> None:
        """The same for the savepoint of a block; one that was begun inside of it is free to end."""
        savepoint: Any = self.frame.session.turns.top.savepoint
        if savepoint is not None and name in savepoint_names(savepoint):
            self.refuse_by_hand(verb)

    @property
    def _is_over(self) -> bool:
        """Whether the database has ended the transaction, with all savepoints in it."""
        mark = self.frame.condemned
        return mark is not None and mark.by_database and mark.within is None

    def roll_back(self) -> None:
        """Send ROLLBACK, if there is something to roll back. In a greenlet."""
        taken = self._ended()
        if taken.in_transaction():
            taken.rollback()

    def discard(self) -> None:
        """Close the connection instead of returning it."""
        taken = self._ended()
        if self._usable:
            taken.invalidate()

    @property
    def is_out(self) -> bool:
        """Whether the connection has not gone back to the pool."""
        return self.connection is not None and not self.connection.closed

    def throw_away(self) -> None:
        """Close the connection, and give its place in the pool back. In a greenlet."""
        taken = self._ended()
        for step in (taken.invalidate, taken.close):
            with suppress(Exception):
                step()

    def give_back(self) -> None:
        """Return the connection to the pool. In a greenlet."""
        taken = self._ended()
        if self._answer is True and isinstance(taken, LazyConnection):
            taken.return_ended()
        else:
            taken.close()

    def _ended(self) -> Connection:
        """Return the connection, whose transaction is about to end, and begins no more if it has not yet."""
        self._ending = True
        if isinstance(self._taken, LazyConnection) and not self._taken.closed:
            self.frame.source.backend.forget_beginning(self._taken)
        return self._taken

    def sever(self) -> None:
        """Break the connection under what waits for it."""
        if self._usable:
            self.frame.source.backend.sever(held_by(self._taken).driver_connection)

    @property
    def _usable(self) -> bool:
        return not (self._taken.closed or self._taken.invalidated)

    @property
    def lost(self) -> bool:
        """Whether the connection is broken, as far as the driver knows."""
        direct = self.frame.source.backend.direct
        if not self._usable:
            return True
        return direct is not None and direct.is_broken(held_by(self._taken).driver_connection)

    def forget(self) -> None:
        """Let the next writer in, and count this connection as held no longer."""
        if self._info.get(CHECKOUT) is self:
            del self._info[CHECKOUT]
        if self._gate is not None:
            self._gate.leave(self.frame)
            self._gate = None
        if self.connection is not None:
            self._origin.give_back(self.connection)
