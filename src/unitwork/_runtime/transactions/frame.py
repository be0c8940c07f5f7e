"""This module holds what a session does as a whole, and its one state: the base of all kinds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.util import await_only, greenlet_spawn

from unitwork._logic.outcome import Marks, Verdict, verdict_for_owner
from unitwork._logic.states import ENDED, Change, State, after
from unitwork._runtime.deadline import check
from unitwork._runtime.finish import Finished, Patience, finish, finish_here
from unitwork._runtime.transactions.connection import Checkout
from unitwork._runtime.transactions.hooks import Hooks
from unitwork._runtime.transactions.refused import by_hand_refused, condemned
from unitwork.errors import TransactionEndedError, UnexpectedRollbackError
from unitwork.options import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.engine import NestedTransaction

    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.deadline import Limits
    from unitwork._runtime.transactions.needs import Connections
    from unitwork.dialects import BeginMode
    from unitwork.errors import TransactionRefusedError
    from unitwork.options import TransactionOptions


# Looked up once: the class of an enum takes long for that in Python 3.11.
_IDLE, _OPEN, _CONDEMNED = State.IDLE, State.OPEN, State.CONDEMNED
_ENDING, _COMMITTED, _UNKNOWN = State.ENDING, State.COMMITTED, State.UNKNOWN
_BEGIN, _END, _COMMIT = Change.BEGIN, Change.END, Change.COMMIT
_TO_COMMIT = Verdict.COMMIT


class Condemnation(NamedTuple):
    """Why a frame can only roll back."""

    block: str
    error: BaseException | None
    by_database: bool
    within: NestedTransaction | None
    """The savepoint around the error; when it has ended, the error has no part in the frame any more."""


class Frame:
    """What one session does as a whole: a transaction, a savepoint, or neither. Lives: until its block ends.

    It owns its state: whoever wants to know whether a transaction is open, condemned or committed asks here.
    """

    settles = False
    """Each operation ends by itself, and holds no connection afterwards."""
    idles = False
    """It is a unit of work between its transactions."""
    begins_with_writes = False
    """Its first write begins a transaction that goes on."""
    hands_hooks_up = False
    """What waits for its end waits for that of the frame around it, if it is kept."""
    undoes_errors = True
    """A statement that fails now is undone with it, and with nothing around it."""
    kept = Outcome.COMMITTED
    undone = Outcome.ROLLED_BACK
    savepoint: object = None
    """SQLAlchemy's own part of it, if it is a savepoint."""

    # What most frames never need is not set in each.
    first_block: object = None
    """The block that has begun the transaction of a unit of work, as long as all in it is its own."""
    only_reads = False
    """What runs now is a read of a repository outside of transactions, which a replica may answer."""
    left_open: Sequence[str] = ()
    """The blocks that were open still when it let nobody in any more."""
    last_statement: object = None
    block_id: int | None = None
    """The number that observers know its block by; None where nobody observes."""
    entered_by: Callable[[], Any] | None = None
    """Returns the task that has entered its block, as long as that lives."""

    def __init__(
        self,
        session: Any,  # noqa: ANN401  # of a higher floor
        owner: str,
        mode: BeginMode,
        parent: Frame | None = None,
    ) -> None:
        self.session = session
        self.key: object = session.key
        """What the session is known by, also when it is gone."""
        self.source: Connections = session.source
        self.owner = owner
        self.mode = mode
        self.parent = parent
        self.base: Frame | None = None
        """The unit of work whose transaction this is: its tasks go on in here."""
        self.rollback_only = False
        self.hooks_or_none: Hooks | None = None
        self.joined: list[Any] | None = None
        self.limits: Limits = ()
        self.checkout: Checkout | None = None
        self.writes_before: int = session.writes
        """How much its session had written when it began."""
        self.writes_told: int = self.writes_before
        """The same, when its connection went back last."""
        self._state = _IDLE
        self._mark: Condemnation | None = None

    def tell_new(self) -> None:
        """Let the session inside, which has begun, know what it is to undo: what was inserted or deleted."""

    # -- what it is ----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What it is at this moment."""
        if self._state is _CONDEMNED:
            mark = self._mark
            if mark is not None and mark.within is not None and not mark.within.is_active:
                self._mark = None
                self._state = after(self._state, Change.CLEAR)
        return self._state

    @property
    def ended(self) -> bool:
        """Whether nothing may be sent here any more."""
        return self._state in ENDED

    @property
    def transactional(self) -> bool:
        """Whether what is sent here is part of a transaction."""
        return True

    @property
    def current(self) -> Frame:
        """The frame that code of its block is in: for a unit of work, the transaction that is open."""
        return self

    @property
    def root(self) -> Frame:
        """The physical transaction that this frame is, or is a savepoint of."""
        return self

    @property
    def seat(self) -> Frame:
        """The frame whose turn is waited for."""
        return self

    @property
    def connection(self) -> Connection | None:
        """The connection that it has begun on, if it has."""
        return self.checkout.connection if self.checkout is not None else None

    def has_written(self) -> bool:
        """Say whether something was sent since this was asked last that may write."""
        before, self.writes_told = self.writes_told, self.session.writes
        return self.writes_told > before

    def is_on(self, engines: Engines) -> bool:
        """Say whether it has a connection of this server."""
        return self.checkout is not None and self.checkout.is_on(engines)

    @property
    def waits_for_end(self) -> bool:
        """Whether somebody wants to hear of its end, takes part in it still, or has asked to undo it."""
        return bool(self.hooks_or_none or self.joined or self.rollback_only)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was sent in it that has not ended by itself, and nothing waits for its end."""
        if self.checkout is not None or self.hooks_or_none or self.joined or self.rollback_only:
            return False
        return self._state is _IDLE or (self.idles and self._state not in ENDED)

    @property
    def hooks(self) -> Hooks:
        """The functions that wait for its end."""
        if self.hooks_or_none is None:
            self.hooks_or_none = Hooks()
        return self.hooks_or_none

    # -- marks ---------------------------------------------------------------------------------

    def begun(self) -> None:
        """Take note that something was sent."""
        if self._state is _IDLE:
            self._state = after(self._state, _BEGIN)

    def forget_session(self) -> None:
        """Let go of the session after the end, so that both are freed without the collector."""
        self.last_statement = self.first_block = self.entered_by = None
        del self.session

    def ended_error(self) -> TransactionEndedError:
        """Build the error for whoever comes after the end."""
        return TransactionEndedError(self.source.name, self.owner)

    def check_open(self) -> None:
        """Refuse to go on when this frame has ended."""
        if self._state in ENDED:
            raise self.ended_error()

    def admit(self) -> None:
        """Refuse to send anything when this frame has ended, is late, or the database has condemned it."""
        if self._state in ENDED:
            raise self.ended_error()
        if self.limits:
            check(self.limits)
        if self._mark is not None:
            self.check_condemned()

    def check_condemned(self) -> None:
        """Refuse to send anything after a database error; it would be half of the work at best.

        Raises:
            TransactionRefusedError: The database has condemned the frame.
        """
        mark = self.condemned if self._mark is not None else None
        if mark is not None and mark.by_database:
            raise condemned(self.source.name, mark.block, mark.error) from mark.error

    def by_hand_refused(self, verb: str) -> TransactionRefusedError:
        """Build the error for a commit, rollback, close or begin by hand inside a block."""
        return by_hand_refused(self.source.name, self.owner, verb)

    @property
    def condemned(self) -> Condemnation | None:
        """Why this frame can only roll back, if it can."""
        return self._mark if self._mark is not None and self.state is not _OPEN else None

    def condemn(
        self,
        block: str,
        error: BaseException | None,
        *,
        by_database: bool = False,
        within: NestedTransaction | None = None,
    ) -> None:
        """Mark this frame: it can only roll back. The first reason stays; the database's goes before."""
        if self._state in ENDED and self._state is not _ENDING:
            return
        mark = self.condemned
        counts = mark is None or (by_database and (not mark.by_database or mark.within is not None))
        if counts:
            self._mark = Condemnation(block, error, by_database, within)
        if self._state not in (_CONDEMNED, _ENDING):
            self._state = after(self._state, Change.CONDEMN)
        # A unit of work at rest hands it to the transaction that it begins for its end.
        if counts and self.source.watch.active and not self.idles:
            self.source.watch.condemned(self.block_id, block, error, first=mark is None)

    def take_mark(self) -> Condemnation | None:
        """Return why this frame can only roll back, and let it go on."""
        mark = self.condemned
        if mark is not None:
            self._mark = None
            self._state = after(self._state, Change.CLEAR)
        return mark

    def verdict(self, error: BaseException | None, options: TransactionOptions) -> Verdict:
        """Say what the end of this frame's owner means."""
        left_open = self.left_open or ((self.joined or self.base) and self.joiners)
        if error is None and self._mark is None and not self.rollback_only and not left_open:
            return _TO_COMMIT
        marks = Marks(
            condemned=self.condemned is not None,
            rollback_only=self.rollback_only,
            joiners=bool(left_open),
        )
        return verdict_for_owner(error, options, marks)

    @property
    def joiners(self) -> list[Any]:
        """The blocks that take part in it and are open still."""
        joined = self.joined or []
        return joined if self.base is None or not self.base.joined else [*joined, *self.base.joined]

    def unexpected(self, error: BaseException | None) -> UnexpectedRollbackError:
        """Build the error for an owner that wanted to commit, or whose exception would have committed."""
        mark = self.condemned
        if mark is None:
            names = list(self.left_open) or [scope.name for scope in self.joiners]
            unexpected = UnexpectedRollbackError(self.source.name, names[0], names)
        else:
            raised = f" (raised {type(mark.error).__name__})" if mark.error is not None else ""
            asked = mark.error is None
            unexpected = UnexpectedRollbackError(self.source.name, f"{mark.block}{raised}", asked=asked)
        unexpected.__cause__ = error or (mark.error if mark is not None else None)
        return unexpected

    # -- ends ----------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        """How it has ended, as events and blocks call it."""
        if self._state is _UNKNOWN:
            return Outcome.UNKNOWN
        return self.kept if self._state is _COMMITTED else self.undone

    def close(self) -> None:
        """Let nobody in any more."""
        if self._state not in ENDED:
            self._state = after(self._state, _END)

    def committed(self) -> None:
        """The database has said that the work of this frame lasts."""
        if self._state is _ENDING:
            self._state = after(self._state, _COMMIT)

    def rolled_back(self) -> None:
        """The work of this frame is undone."""
        if self._state is _ENDING:
            self._state = after(self._state, Change.ROLL_BACK)

    def lost(self) -> None:
        """COMMIT was sent, and its answer never came."""
        if self._state is _ENDING:
            self._state = after(self._state, Change.LOSE)

    async def settle(self, *, failed: bool) -> None:
        """Do what follows each operation: nothing inside a transaction."""

    def see_through(self, work: Callable[[], object]) -> Awaitable[Finished]:
        """As `await_through`, in a greenlet."""
        return self.await_through(greenlet_spawn(work))

    def await_through(self, work: Coroutine[Any, Any, object]) -> Awaitable[Finished]:
        """Wait for what must not be interrupted, as long as there is patience."""
        source = self.source
        patience = Patience(source.grace_s, self.limits, self.root.sever)
        # Under `rolled_back()` an end may wait for a turn, and gives up by itself.
        if self.limits or source.backend.cancels_itself or source.pinned is not None:
            return finish(work, patience)
        return finish_here(work, patience)

    # -- the connection ------------------------------------------------------------------------

    async def check_out_idle(self) -> Connection | None:
        """Take an idle connection, and begin on it; None if it takes a greenlet to do so."""
        checkout = Checkout(self)
        connection = checkout.take_idle()
        if connection is None:
            return None
        self.checkout = checkout
        self.begun()
        if checkout.begin_silently():
            return connection
        done = await self.await_through(checkout.begin_ahead())
        if done.error is not None:
            await self.lose_connection()
        done.tell()
        return connection

    def check_out(self) -> Connection:
        """Take a connection of the pool, and begin on it. In a greenlet.

        A cancellation reaches the wait for the pool alone.
        """
        checkout = Checkout(self)
        try:
            connection = checkout.take()
        except BaseException:
            checkout.forget()
            raise
        self.checkout = checkout
        self.begun()
        if checkout.begin_silently():
            return connection
        done = await_only(self.see_through(checkout.begin))
        if done.error is not None:
            await_only(self.lose_connection())
            if done.cancelled is None and checkout.leaves_replica(done.error):
                return self.check_out()
        done.tell()
        return connection

    def give_back(self) -> None:
        """Return the connection, if there is one, to the pool. In a greenlet."""
        if self.checkout is not None:
            self.checkout.give_back()

    async def lose_connection(self) -> None:
        """Forget the connection; what was to return it may not even have begun, and it is closed then."""
        if self.checkout is not None and self.checkout.is_out:
            await finish(greenlet_spawn(self.checkout.throw_away))
        self.give_up_connection()

    def give_up_connection(self) -> None:
        """Forget the connection: it has gone back to the pool, or is lost."""
        checkout, self.checkout = self.checkout, None
        if checkout is not None:
            checkout.forget()

    def sever(self) -> None:
        """Break the connection under what waits for it."""
        if self.checkout is not None:
            self.checkout.sever()
