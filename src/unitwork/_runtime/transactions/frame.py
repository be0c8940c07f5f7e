"""This module holds what commits or rolls back as a whole: transactions and savepoints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.util import greenlet_spawn

from unitwork._logic.outcome import Marks, Verdict, verdict_for_owner
from unitwork._runtime.finish import finish, finish_here
from unitwork._runtime.transactions.hooks import Callbacks
from unitwork.errors import (
    TransactionEndedError,
    TransactionRefusedError,
    UnexpectedRollbackError,
)
from unitwork.events import Outcome

if TYPE_CHECKING:
    from asyncio import CancelledError
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork._runtime.finish import Deadline, Finished
    from unitwork._runtime.sessions.session import TurnedSession
    from unitwork._runtime.source import Source
    from unitwork.dialects import BeginMode
    from unitwork.options import TransactionOptions


class Condemnation(NamedTuple):
    """Why a frame can only roll back."""

    block: str
    error: BaseException | None
    by_database: bool
    within: NestedTransaction | None
    """The savepoint around the error; when it has ended, the error has no part in the frame any more."""


class Frame:
    """What one session does as a whole. Lives: until the block that began it ends."""

    __slots__ = (
        "_mark",
        "callbacks",
        "connection",
        "deadline",
        "ended",
        "gate",
        "joined",
        "last_statement",
        "mode",
        "owner",
        "parent",
        "rollback_only",
        "session",
        "since",
        "source",
    )

    settles = False
    idles = False
    """It is a unit of work, which has transactions one after another."""
    kept = Outcome.COMMITTED
    undone = Outcome.ROLLED_BACK

    def __init__(
        self, session: TurnedSession, owner: str, mode: BeginMode, parent: Frame | None = None
    ) -> None:
        self.session = session
        self.source: Source = session.source
        self.owner = owner
        self.mode = mode
        self.parent = parent
        self.ended = False
        self._mark: Condemnation | None = None
        self.rollback_only = False
        self.callbacks: Callbacks | None = None
        self.joined: list[Entry] | None = None
        self.deadline: Deadline | None = None
        self.connection: Connection | None = None
        self.gate: WriteGate | None = None
        self.since = 0.0
        self.last_statement: object = None

    @property
    def transactional(self) -> bool:
        """Whether a transaction is open here."""
        return True

    @property
    def root(self) -> Frame:
        """The physical transaction that this frame is, or is a savepoint of."""
        return self

    def begin_by_hand(self) -> None:
        """Begin, if this frame begins by itself only with its first statement."""

    def hooks(self) -> Callbacks:
        """Return the functions registered here, to add one."""
        if self.callbacks is None:
            self.callbacks = Callbacks()
        return self.callbacks

    def connected(self, connection: Connection) -> None:
        """Take note of the connection that this frame has begun on."""
        self.connection = connection
        self.since = time.monotonic()
        self.source.frames[connection] = self

    def give_back(self) -> None:
        """Return the connection to the pool, if there is one. In a greenlet."""
        if self.connection is not None:
            self.connection.close()

    async def queue_to_write(self) -> None:
        """Wait for the only write lock in order with the other writers, before a connection is taken."""
        gate = self.source.write_gate()
        if gate is not None and not (self.mode.read_only or self.mode.autocommit):
            await gate.enter(self)
            self.gate = gate

    def disconnected(self) -> None:
        """Forget the connection: it has gone back to the pool."""
        if self.gate is not None:
            self.gate.leave(self)
            self.gate = None
        if self.connection is not None:
            self.source.frames.pop(self.connection, None)
            self.connection = None

    # -- marks ---------------------------------------------------------------------------------

    def forget_session(self) -> None:
        """Let go of the session after the end, so that both are freed without the collector."""
        self.last_statement = None
        del self.session

    def ended_error(self) -> TransactionEndedError:
        """Build the error for whoever comes after the end."""
        return TransactionEndedError(self.source.name, self.owner)

    def check_open(self) -> None:
        """Refuse to go on when this frame has ended."""
        if self.ended:
            raise self.ended_error()

    def admit(self) -> None:
        """Refuse to send anything when this frame has ended or the database has condemned it."""
        self.check_open()
        if self.deadline is not None:
            self.deadline.check()
        if self._mark is not None:
            self.check_condemned()

    def check_condemned(self) -> None:
        """Refuse to send anything after a database error; it would be half of the work at best."""
        mark = self.condemned
        if mark is not None and mark.by_database:
            raise TransactionRefusedError(
                self.source.name,
                f"The transaction on database {self.source.name!r} can only roll back: a statement failed.",
                "let the error end the block, or run what may fail with NESTED.",
                [f"Failed in: {mark.block} ({type(mark.error).__name__})"],
            ) from mark.error

    @property
    def condemned(self) -> Condemnation | None:
        """Why this frame can only roll back, if it can."""
        mark = self._mark
        if mark is None or mark.within is None or mark.within.is_active:
            return mark
        return None

    def condemn(
        self,
        block: str,
        error: BaseException | None,
        *,
        by_database: bool = False,
        within: NestedTransaction | None = None,
    ) -> None:
        """Mark this frame: it can only roll back. The first reason stays; the database's goes before."""
        mark = self.condemned
        if mark is None or (by_database and (not mark.by_database or mark.within is not None)):
            self._mark = Condemnation(block, error, by_database, within)

    def database_failed(self, error: BaseException, within: NestedTransaction | None) -> None:
        """Condemn the innermost open frame, as long as the savepoint around the error is open."""
        top = self.session.turns.top
        top.condemn(top.owner, error, by_database=True, within=within)

    def database_ended(self, error: BaseException) -> None:
        """Condemn all open frames: the database has ended the whole transaction."""
        frame: Frame | None = self.session.turns.top
        while frame is not None:
            frame.condemn(frame.owner, error, by_database=True)
            frame = None if frame is self else frame.parent

    def verdict(self, error: BaseException | None, options: TransactionOptions) -> Verdict:
        """Say what the end of this frame's owner means."""
        if error is None and self._mark is None and not self.rollback_only and not self.joined:
            return Verdict.COMMIT
        marks = Marks(
            condemned=self.condemned is not None,
            rollback_only=self.rollback_only,
            joiners=bool(self.joined),
        )
        return verdict_for_owner(error, options, marks)

    def unexpected(self) -> UnexpectedRollbackError:
        """Build the error for an owner that wanted to commit."""
        mark = self.condemned
        if mark is None:
            names = [scope.name for scope in self.joined or ()]
            return UnexpectedRollbackError(self.source.name, names[0], names)
        raised = f" (raised {type(mark.error).__name__})" if mark.error is not None else ""
        asked = mark.error is None
        unexpected = UnexpectedRollbackError(self.source.name, f"{mark.block}{raised}", asked=asked)
        unexpected.__cause__ = mark.error
        return unexpected

    def pristine(self) -> bool:
        """Say whether nothing was ever done here, so that there is nothing to end."""
        session = self.session
        untouched = not session.started and self.connection is None and not session.turns.busy
        return untouched and self.callbacks is None and self._mark is None and not self.joined

    # -- ends ----------------------------------------------------------------------------------

    async def settle(self, *, failed: bool) -> None:
        """Do what follows each operation: nothing inside a transaction."""

    def see_through(
        self, work: Callable[[], object], deadline: Deadline | None = None
    ) -> Awaitable[Finished]:
        """Do in a greenlet what must not be interrupted; with a deadline, give up soon after it."""
        spawned = greenlet_spawn(work)
        # Under `rolled_back()` an end may wait for a turn, and gives up by itself.
        if deadline is not None or self.source.backend.cancels_itself or self.source.pinned is not None:
            return finish(spawned, deadline)
        return finish_here(spawned)

    async def close(self) -> CancelledError | None:
        """Let nobody in any more, and wait for the operation that still runs."""
        turns = self.session.turns
        turns.close(self)
        return (await finish(turns.quiet())).cancelled if turns.busy else None

    async def keep(self) -> CancelledError | None:
        """Make the work of this frame last; undo it and raise when that fails."""
        raise NotImplementedError

    async def undo(self, cause: BaseException | None) -> CancelledError | None:
        """Undo the work of this frame; a second error becomes a note on the cause."""
        raise NotImplementedError
