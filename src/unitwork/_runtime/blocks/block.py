"""This module holds a block from its entry, where propagation decides what it begins, to its end."""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import TYPE_CHECKING, Any, cast

from unitwork._logic.outcome import Verdict, verdict_for_joined
from unitwork._logic.plan import Step, Surroundings, next_step, next_step_at_rest, refusal
from unitwork._runtime import context
from unitwork._runtime.blocks.by_hand import BY_HAND
from unitwork._runtime.blocks.ending import end, pass_by
from unitwork._runtime.blocks.generators import iterated_generator
from unitwork._runtime.blocks.reloading import reload
from unitwork._runtime.blocks.starvation import held_by_this_task, refuse_starvation, writer_among
from unitwork._runtime.deadline import Deadline
from unitwork._runtime.sessions.session import opened_session
from unitwork._runtime.transactions.savepoint import Savepoint
from unitwork._runtime.transactions.transaction import Autocommit, Transaction
from unitwork.dialects import READ_WRITE, BeginMode
from unitwork.errors import TransactionRefusedError
from unitwork.options import DEFAULT_OPTIONS, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import CodeType, FrameType

    from unitwork._runtime.deadline import Limits
    from unitwork._runtime.sessions.session import AmbientSession
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame
    from unitwork._runtime.transactions.transaction import AtRest
    from unitwork.options import TransactionOptions

AUTOCOMMIT = BeginMode(autocommit=True)
_APART = frozenset({Step.BEGIN_APART, Step.PLAIN_APART})
_PLAIN = frozenset({Step.PLAIN, Step.PLAIN_APART})
# Looked up once: the class of an enum takes long for that in Python 3.11.
_JOIN, _SAVEPOINT, _ONLY_PLAIN, _REFUSE = Step.JOIN, Step.SAVEPOINT, Step.PLAIN, Step.REFUSE
_NO_TRANSACTION, _JOINED = Outcome.NO_TRANSACTION, Outcome.JOINED
_CONDEMN = Verdict.CONDEMN


class Scope:
    """One block. Lives: from its entry to its end."""

    __slots__ = (
        "_began",
        "_bound",
        "_deadline",
        "_frame",
        "_had_changes",
        "_joined",
        "_task",
        "_writes_before",
        "counts_writes",
        "fresh",
        "generator",
        "is_entered",
        "left",
        "left_among",
        "limits",
        "name",
        "options",
        "outcome",
        "owns",
        "read_only_by",
        "source",
        "watched",
        "writes_of_others",
    )

    _frame: Frame
    outside = False
    asleep = False
    work: Any = None
    """What observers were told of it, if it is a unit of work."""

    def __init__(
        self,
        source: Source,
        name: str,
        options: TransactionOptions,
        *,
        fresh: bool = False,
        left: bool = False,
    ) -> None:
        """Make a block that is not entered yet.

        Args:
            source: Its Database.
            name: What messages call it.
            options: How it behaves.
            fresh: It reads anew what a unit of work around it holds already, because it may be tried again.
            left: It has ended already.
        """
        self.source = source
        self.name = name
        self.options = options
        self.fresh = fresh or options.isolation is not None
        self.owns = True
        self.left = left
        self.is_entered = False
        self.left_among: Collection[asyncio.Task[Any]] | None = None
        self.read_only_by: str | None = None
        self.outcome = _NO_TRANSACTION
        self.watched: tuple[int, float] | None = None
        self.limits: Limits = ()
        self.counts_writes = False
        self._task: weakref.ref[asyncio.Task[Any]] | None = None
        self.generator: CodeType | None = None
        self.writes_of_others = 0
        self._deadline: Deadline | None = None
        self._joined: Frame | None = None
        self._writes_before: int | None = None
        self._began: AtRest | None = None
        self._bound: Frame | None = None
        self._had_changes = False

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task that has entered it, as long as that lives.

        Not for longer: its result may be a generator that holds the block, and ends it when nobody has it.
        """
        return None if self._task is None else self._task()

    @task.setter
    def task(self, task: asyncio.Task[Any] | None) -> None:
        self._task = None if task is None else weakref.ref(task)

    @property
    def frame(self) -> Frame:
        """What its code takes part in now."""
        if self._bound is not None:
            return self._bound
        frame = self._frame
        if not frame.idles:
            return frame
        current = frame.current
        if current is not frame and not self.owns:
            # Its work is part of this transaction, and of no other that the unit of work begins after it.
            self._bound = current
        return current

    # -- entry ---------------------------------------------------------------------------------

    async def enter(self, caller: FrameType | None = None) -> AmbientSession:  # noqa: C901  # one story, told with every block
        """Do what the propagation says, and make this the innermost scope of the context.

        Args:
            caller: The frame of Python that holds the block, if it may be that of an async generator.

        Raises:
            TransactionRefusedError: The options do not fit what is open. Condemns nothing.
        """
        scopes = context.open_scopes()
        outer: Scope | None = context.innermost(self.source) if scopes else None
        if outer is not None:
            await outer.make_way()
        step, begins = self._step(outer)
        if scopes or self.options.timeout_s is not None:
            self._take_limits()
        try:
            if outer is not None or step is _REFUSE:
                self._check(step, outer)
            if self._deadline is not None:
                await self._deadline.start()
            if outer is None:
                self._frame = self._apart(step)
            else:
                await self._open(step, outer, begins=begins)
        except BaseException as error:
            self._refused(outer, error)
            if self._deadline is not None and self._deadline.started and await self._deadline.stop(error):
                raise self._deadline.error() from error
            raise
        if caller is not None:
            self.generator = iterated_generator(caller)
        self._entered(step, outer)
        if self.fresh and self._is_first_in_unit():
            await self._read_afresh()
        session: AmbientSession = self._frame.session
        return session

    def enter_apart(self) -> AmbientSession:
        """Begin on a session of its own, whatever is open around it."""
        outer: Scope | None = context.innermost(self.source)
        step = next_step(self.options.propagation, active=outer is not None and outer.frame.transactional)
        self._take_limits()
        try:
            self._frame = self._apart(step)
        except BaseException as error:
            self._refused(outer, error)
            raise
        self._entered(step, outer)
        session: AmbientSession = self._frame.session
        return session

    async def make_way(self) -> None:
        """Let a block begin inside: a unit of work ends what was only read by hand."""

    def _step(self, outer: Scope | None) -> tuple[Step, bool]:
        """Say what to do, and whether the transaction of the unit around begins with it."""
        propagation = self.options.propagation
        if outer is None:
            return next_step(propagation, active=False), False
        frame = outer.frame
        if frame.begins_with_writes:
            only_reads = self.options.read_only and not frame.session.has_changes()
            begins, step = next_step_at_rest(propagation, only_reads=only_reads)
            return step, begins
        return next_step(propagation, active=frame.transactional), False

    def _take_limits(self) -> None:
        """Take over the time limits of what is around, on whatever Database, and begin one's own."""
        scopes = context.open_scopes()
        if scopes and scopes[-1].limits:
            self.limits = tuple(limit for limit in scopes[-1].limits if not limit.ended)
        if self.options.timeout_s is not None:
            self._deadline = Deadline(self.source.name, self.name, self.options.timeout_s)
            self.limits = (self._deadline, *self.limits)

    def _entered(self, step: Step, outer: Scope | None) -> None:
        self.task = asyncio.current_task()
        self.source.remember_here()
        if self.owns:
            self._frame.limits = self.limits
            self._frame.entered_by = self._task
        self.is_entered = True
        if self.generator is None and context.has_generators():
            self.generator = iterated_generator(sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as `inspect.currentframe`
        context.push(self)
        if self.source.watch.active:
            self.watched = self.source.watch.entered(self, step, outer)
            if self.owns:
                self._frame.block_id = self.watched[0]

    def _refused(self, outer: Scope | None, error: BaseException) -> None:
        self.left = True
        self.outcome = Outcome.REFUSED
        if self.source.watch.active:
            self.source.watch.refused(self, outer, error)

    def _check(self, step: Step, outer: Scope | None) -> None:
        if step is _JOIN and self.options is DEFAULT_OPTIONS:
            return
        around = None
        if outer is not None and outer.frame.transactional:
            frame = outer.frame
            mark = frame.condemned
            around = Surroundings(frame.root.owner, frame.root.mode.isolation, mark.block if mark else None)
        elif outer is not None and outer.frame.begins_with_writes:
            # The transaction of the unit begins with what this block asks for.
            around = Surroundings(outer.frame.owner, self.options.isolation, None)
        refused = refusal(self.name, self.options, step, around)
        if refused is not None:
            raise TransactionRefusedError(self.source.name, refused.sentence, refused.fix)

    async def _open(self, step: Step, outer: Scope, *, begins: bool) -> None:
        if begins and not await self._begin_unit(outer):
            await self._open_again(outer)
            return
        if step in _APART:
            self._frame = self._apart(step)
        elif step is _JOIN:
            await self._join(outer)
        elif step is _SAVEPOINT:
            await self._open_savepoint(outer)
        elif outer.frame.idles and outer.frame.session.turns.is_lost_to(outer.frame):
            self._frame = self._apart(step)
        elif outer.frame.idles:
            await self._open_in_unit(step, outer)
        elif step is _ONLY_PLAIN:
            self._share(outer)
        else:
            self._frame = self._apart(step)

    async def _open_again(self, outer: Scope) -> None:
        """Decide anew: somebody has begun a transaction while this block waited for its turn."""
        step, begins = self._step(outer)
        self._check(step, outer)
        await self._open(step, outer, begins=begins)

    async def _begin_unit(self, outer: Scope) -> bool:
        """Begin the transaction of a unit of work with the settings of its first block; False if it has."""
        resting = outer.frame
        await resting.session.turns.take(resting)
        try:
            begun_meanwhile = outer.frame.transactional
            if not begun_meanwhile:
                outer.begin_transaction(
                    BeginMode(isolation=self.options.isolation) if self.options.isolation else READ_WRITE
                )
                self._began = cast("AtRest", outer._frame)
                self._had_changes = resting.session.has_changes()
                outer.frame.first_block = self
        finally:
            resting.session.turns.give()
        return not begun_meanwhile

    def _apart(self, step: Step) -> Frame:
        """Make a frame on a session of its own."""
        if context.open_scopes():
            self._check_starvation(step)
        session = opened_session(self.source, asyncio.get_running_loop(), BY_HAND)
        frame = self._first_frame(session, step)
        session.begin_with(frame)
        return frame

    def _first_frame(self, session: AmbientSession, step: Step, unit: Frame | None = None) -> Frame:
        if self.options.read_only:
            self.read_only_by = self.name
            session.watch_changes()
        if step in _PLAIN:
            # Read-only is for the database to enforce: each statement is a transaction then.
            mode = self._mode() if self.options.read_only else AUTOCOMMIT
            return Autocommit(session, self.name, mode, unit)
        return Transaction(session, self.name, self._mode(), unit)

    def _check_starvation(self, step: Step) -> None:
        held = held_by_this_task(self.source)
        if held:
            plain = step in _PLAIN
            refuse_starvation(self.source, self.name, held, writes=not (plain or self.options.read_only))
            writer = writer_among(self.source, held)
            if plain and writer is not None:
                self.read_only_by = f"{self.name} (while {writer.owner} holds the only write lock)"

    def _mode(self) -> BeginMode:
        options = self.options
        if not options.read_only and options.isolation is None:
            return READ_WRITE
        return BeginMode(options.read_only, options.isolation, fresh=options.fresh)

    async def _join(self, outer: Scope) -> None:
        self._share(outer)
        session: AmbientSession = self._frame.session
        narrows = self.read_only_by is self.name
        if session.has_changes() and (narrows or (self.counts_writes and session.autoflush)):
            # What was written before belongs to the blocks outside.
            await session.flush()
        if narrows:
            session.watch_changes()
            session.guard_connection()
        self._writes_before = session.writes
        self._register(self.frame)

    def _share(self, outer: Scope) -> None:
        self.owns = False
        self._frame = outer._frame
        self.counts_writes = self.counts_writes or outer.counts_writes
        self.read_only_by = outer.read_only_by or (self.name if self.options.read_only else None)

    async def _open_savepoint(self, outer: Scope) -> None:
        around = outer.frame
        around.admit()
        session: AmbientSession = around.session
        frame = Savepoint(session, self.name, around.mode, around)
        await session.turns.take(around)
        try:
            await frame.begin()
            session.turns.enter(frame)
        except BaseException as error:
            session.failed(outer, around, error)
            raise
        finally:
            session.turns.give()
        self._frame = frame
        self.counts_writes = outer.counts_writes
        self.read_only_by = outer.read_only_by or (self.name if self.options.read_only else None)
        if self.read_only_by is self.name:
            session.watch_changes()
            session.guard_connection()
        self._register(around)

    async def _open_in_unit(self, step: Step, outer: Scope) -> None:
        """Begin on the session of a unit of work at rest, so that its entities stay attached."""
        unit = outer.frame
        session: AmbientSession = unit.session
        frame = self._first_frame(session, step, unit)
        self._had_changes = session.has_changes()
        await session.turns.take(unit)
        try:
            begun_meanwhile = outer.frame.transactional
            if not begun_meanwhile:
                session.turns.enter(frame)
        finally:
            session.turns.give()
        if begun_meanwhile:
            await self._open_again(outer)
            return
        self._frame = frame
        self._register(unit)

    def _register(self, around: Frame) -> None:
        """Let the frame around this one know that it must not end first."""
        self._joined = around
        if around.joined is None:
            around.joined = []
        around.joined.append(self)

    def inner(self, name: str, options: TransactionOptions) -> Scope:
        """Make a scope for the same Database, to be entered inside this one."""
        return Scope(self.source, name, options)

    def begin_transaction(self, mode: BeginMode = READ_WRITE) -> Frame:
        """Begin the transaction of the unit of work that this is, or whose rest it shares."""
        resting = cast("AtRest", self._frame)
        begun = resting.begin_for_unit(mode)
        if self.source.watch.active:
            # Whichever block in it has led to that.
            resting.scope.tell_of_begin(begun)
        return begun

    def _is_first_in_unit(self) -> bool:
        """Say whether it has begun a transaction on the session of a unit of work."""
        parent = self._frame.parent
        return self._began is not None or (self.owns and parent is not None and parent.idles)

    async def _read_afresh(self) -> None:
        """Read anew what the session of the unit around holds: this block relies on what it reads."""
        try:
            await reload(self._frame.session)
        except BaseException as error:
            await self.leave(error)
            raise

    # -- end -----------------------------------------------------------------------------------

    async def leave(self, error: BaseException | None) -> None:
        """End the block as its options and marks say; raise what the caller must hear of."""
        try:
            if self._deadline is not None:
                await self._leave_in_time(self._deadline, error)
            elif not self._leave_at_once(error):
                await self._leave(error)
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.left = True
            self.is_entered = False
            if asyncio.current_task() is not self.task:
                self.left_among = weakref.WeakSet(asyncio.all_tasks())
            if self.watched is not None:
                self.source.watch.ended(self, error)

    async def _leave_in_time(self, deadline: Deadline, error: BaseException | None) -> None:
        late = deadline.passed
        if late:
            self.frame.condemn(self.name, deadline.error())
        failure = error
        try:
            await self._leave(error)
        except BaseException as raised:  # noqa: BLE001  # raised again below
            failure = raised
        ours = await deadline.stop(failure)
        if self.outcome is Outcome.UNKNOWN and failure is not None:
            raise failure
        if ours and failure is not None and self.outcome is Outcome.COMMITTED:
            # The COMMIT was through before the time limit could stop it; what failed after it is told.
            if failure.__cause__ is not None:
                raise failure.__cause__
            return
        gave_up = failure is not None and deadline.passed and self.source.backend.is_timeout(failure)
        if ours or gave_up or (late and isinstance(failure, Exception)):
            raise deadline.error() from failure
        if failure is not None and failure is not error:
            raise failure

    def _leave_at_once(self, error: BaseException | None) -> bool:
        """Leave a block if that sends nothing; say whether it was so."""
        if self.owns:
            return self._frame.checkout is None and pass_by(self, self._frame, error)
        self._leave_joined(error)
        return True

    async def _leave(self, error: BaseException | None) -> None:
        if not self.owns:
            self._leave_joined(error)
        elif self._frame.ended:
            self._leave_what_has_ended(error)
        else:
            await end(self, self._frame, error)

    def _leave_joined(self, error: BaseException | None) -> None:
        """Leave what another block has begun; an exception condemns it, if this one has done something."""
        frame = self.frame
        joined = frame.transactional or frame.begins_with_writes
        self.outcome = _JOINED if joined else _NO_TRANSACTION
        self.forget(frame)
        if frame.ended:
            if error is None:
                raise frame.ended_error()
            return
        if verdict_for_joined(error, self.options) is _CONDEMN and not self._has_done_nothing(error):
            frame.condemn(self.name, error)
            self.outcome = Outcome.CONDEMNED if joined else self.outcome

    def _has_done_nothing(self, error: BaseException | None) -> bool:
        """Say whether nothing has to be undone, where that is asked: it was left early, or undecorated."""
        asked = self.counts_writes or isinstance(error, GeneratorExit)
        session: AmbientSession = self._frame.session
        own = session.writes - self.writes_of_others
        return asked and own == self._writes_before and not session.has_changes()

    def _leave_what_has_ended(self, error: BaseException | None) -> None:
        """The block around has ended first, and has undone this one."""
        frame = self._frame
        self.outcome = frame.outcome
        self.forget(frame)
        if error is None:
            raise frame.ended_error()

    def forget(self, frame: Frame) -> None:  # noqa: ARG002  # units of work have several
        """Take the block out of the context, and let the frame around it end."""
        context.drop(self)
        joined, self._joined = self._joined, None
        if joined is not None and joined.joined is not None and self in joined.joined:
            joined.joined.remove(self)

    async def by_hand(self, verb: str) -> None:
        """Refuse to commit, roll back or close by hand: the block does it by itself."""
        raise self.frame.by_hand_refused(verb)

    def ended_error(self) -> BaseException:
        """Build the error for whoever comes after the end."""
        return self._frame.ended_error()

    async def is_undone(self, error: BaseException) -> bool:
        """Undo all that this block was part of, so that it may be tried again; say whether that can be.

        It cannot where others have a part in it: another task in the same transaction, or changes of a unit
        of work that waited to be sent, which nobody would make again.
        """
        if self._had_changes:
            return False
        if self.owns and self.outcome is Outcome.ROLLED_BACK:
            return True
        if self.owns and self.options.read_only and self.outcome is _NO_TRANSACTION:
            return True
        began, self._began = self._began, None
        begun = began.transaction if began is not None else None
        if began is None or begun is None or begun.first_block is not self or begun.joiners:
            return False
        await began.scope.undo_to_try_again(error)
        return True
