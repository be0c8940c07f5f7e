"""This module enters blocks: what propagation and options lead to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from unitwork._logic.plan import Step, Surroundings, next_step, refusal
from unitwork._runtime import context
from unitwork._runtime.blocks.starvation import held_by_this_task, refuse_starvation, writer_among
from unitwork._runtime.finish import Deadline
from unitwork._runtime.sessions.ambient import AmbientSession
from unitwork._runtime.sessions.by_hand import by_hand_refused
from unitwork._runtime.sessions.turns import Turns
from unitwork._runtime.transactions.frame import Frame
from unitwork._runtime.transactions.frames import PhysicalTransaction, Plain, Savepoint
from unitwork.dialects import READ_WRITE, BeginMode
from unitwork.errors import TransactionRefusedError
from unitwork.events import Outcome
from unitwork.options import DEFAULT_OPTIONS

if TYPE_CHECKING:
    from unitwork._runtime.sessions.session import TurnedSession
    from unitwork._runtime.source import Source
    from unitwork.options import TransactionOptions

_AUTOCOMMIT = BeginMode(autocommit=True)
_APART = frozenset({Step.BEGIN_APART, Step.PLAIN_APART})
_UNDONE = frozenset({Outcome.ROLLED_BACK, Outcome.SAVEPOINT_UNDONE})


class Entry:
    """One block, as far as its entry. Lives: from the entry of the block to its end."""

    __slots__ = (
        "_deadline",
        "frame",
        "left",
        "name",
        "options",
        "outcome",
        "owns",
        "read_only_by",
        "source",
        "watched",
    )

    frame: Frame
    outside = False

    def __init__(self, source: Source, name: str, options: TransactionOptions, *, left: bool = False) -> None:
        self.source = source
        self.name = name
        self.options = options
        self.owns = True
        self.left = left
        self.read_only_by: str | None = None
        self.outcome = Outcome.NO_TRANSACTION
        self.watched: tuple[int, float] | None = None
        self._deadline: Deadline | None = None

    # -- entry ---------------------------------------------------------------------------------

    async def enter(self) -> TurnedSession:
        """Do what the propagation says, and make this the innermost scope of the context."""
        options = self.options
        outer = context.innermost(self.source)
        step = self._step(outer)
        if options.timeout_s is not None:
            self._deadline = Deadline(self.source.name, self.name, options.timeout_s)
        try:
            self._check(step, outer)
            await self._open(step, outer)
        except BaseException as error:
            self._refused(outer, error)
            raise
        self._entered(step, outer)
        if self._deadline is not None:
            await self._deadline.start()
        return self.frame.session

    def enter_apart(self) -> None:
        """Begin a transaction on a session of its own, whatever is open around it."""
        outer = context.innermost(self.source)
        step = self._step(outer)
        try:
            self.frame = self._apart(step)
        except BaseException as error:
            self._refused(outer, error)
            raise
        self.frame.deadline = self._tightest()
        self._entered(step, outer)

    def _step(self, outer: Entry | None) -> Step:
        return next_step(self.options.propagation, active=outer is not None and outer.frame.transactional)

    def _entered(self, step: Step, outer: Entry | None) -> None:
        context.push(self)
        if self.source.watch.active:
            self.watched = self.source.watch.entered(self, step, outer)

    def _refused(self, outer: Entry | None, error: BaseException) -> None:
        self.left = True
        self.outcome = Outcome.REFUSED
        if self.source.watch.active:
            self.source.watch.refused(self, outer, error)

    def _check(self, step: Step, outer: Entry | None) -> None:
        plain = step is Step.JOIN and self.options is DEFAULT_OPTIONS
        if plain or (outer is None and step is not Step.REFUSE):
            return
        around = None
        if outer is not None and outer.frame.transactional:
            frame = outer.frame
            mark = frame.condemned
            around = Surroundings(frame.root.owner, frame.root.mode.isolation, mark.block if mark else None)
        refused = refusal(self.name, self.options, step, around)
        if refused is not None:
            raise TransactionRefusedError(self.source.name, refused.sentence, refused.fix)

    async def _open(self, step: Step, outer: Entry | None) -> None:
        if outer is None or step in _APART:
            self.frame = self._apart(step)
        elif step is Step.JOIN:
            await self._join(outer)
        elif step is Step.SAVEPOINT:
            await self._open_savepoint(outer)
        elif step is Step.PLAIN and isinstance(outer.frame, Plain):
            self._share(outer)
        elif isinstance(outer.frame, Plain):
            self.frame = self._apart(step)
        else:
            await self._open_in_unit(step, outer)
        if self.owns:
            self.frame.deadline = self._tightest()

    def _tightest(self) -> Deadline | None:
        """Return the time limit that ends first, of this block and of all around it in this context."""
        scopes = context.open_scopes()
        if not scopes:
            return self._deadline
        around = (scope.frame.deadline for scope in scopes if not scope.outside)
        deadlines = [deadline for deadline in (self._deadline, *around) if deadline is not None]
        return min(deadlines, key=Deadline.remaining, default=None)

    def _apart(self, step: Step) -> Frame:
        """Make a frame on a session of its own."""
        if context.open_scopes():
            self._check_starvation(step)
        session = AmbientSession(self.source, asyncio.get_running_loop())
        frame = self._first_frame(session, step)
        session.turns = Turns(frame)
        return frame

    def _first_frame(self, session: TurnedSession, step: Step, unit: Frame | None = None) -> Frame:
        if self.options.read_only:
            self.read_only_by = self.name
        if step in (Step.PLAIN, Step.PLAIN_APART):
            # Read-only is for the database to enforce: each statement is a transaction then.
            mode = BeginMode(read_only=True) if self.options.read_only else _AUTOCOMMIT
            return Plain(session, self.name, mode, unit)
        return PhysicalTransaction(session, self.name, self._mode(), unit)

    def _check_starvation(self, step: Step) -> None:
        held = held_by_this_task(self.source)
        if held:
            plain = step in (Step.PLAIN, Step.PLAIN_APART)
            refuse_starvation(self.source, self.name, held, writes=not (plain or self.options.read_only))
            writer = writer_among(self.source, held)
            if plain and writer is not None:
                self.read_only_by = f"{self.name} (while {writer.owner} holds the only write lock)"

    def _mode(self) -> BeginMode:
        options = self.options
        if not options.read_only and options.isolation is None:
            return READ_WRITE
        return BeginMode(read_only=options.read_only, isolation=options.isolation)

    async def _join(self, outer: Entry) -> None:
        self._share(outer)
        frame = self.frame
        if self.read_only_by is self.name and frame.session.started and frame.session.has_changes():
            # What was written before belongs to the blocks outside, which may write.
            await frame.session.flush()
        self._register(frame)

    def _share(self, outer: Entry) -> None:
        self.owns = False
        self.frame = outer.frame
        self.read_only_by = outer.read_only_by or (self.name if self.options.read_only else None)

    async def _open_savepoint(self, outer: Entry) -> None:
        around = outer.frame
        around.admit()
        session = around.session
        frame = Savepoint(session, self.name, around.mode, around)
        frame.deadline = around.deadline
        await session.turns.take(around)
        try:
            await frame.begin()
            session.turns.enter(frame)
        except BaseException as error:
            session.failed(outer, around, error)
            raise
        finally:
            session.turns.give()
        self.frame = frame
        self.read_only_by = outer.read_only_by or (self.name if self.options.read_only else None)
        self._register(around)

    async def _open_in_unit(self, step: Step, outer: Entry) -> None:
        """Begin on the session of an idle unit of work, so that its entities stay attached."""
        unit = outer.frame
        session = unit.session
        frame = self._first_frame(session, step, unit)
        await session.turns.take(unit)
        try:
            begun_meanwhile = unit.transactional
            if not begun_meanwhile:
                session.turns.enter(frame)
        finally:
            session.turns.give()
        if begun_meanwhile:
            await self._open(next_step(self.options.propagation, active=True), outer)
            return
        self.frame = frame
        self._register(unit)

    def _register(self, around: Frame) -> None:
        """Let the frame around this one know that it must not end first."""
        if around.joined is None:
            around.joined = []
        around.joined.append(self)

    def inner(self, name: str, options: TransactionOptions) -> Entry:
        """Make a scope for the same Database, to be entered inside this one."""
        raise NotImplementedError

    async def leave(self, error: BaseException | None) -> None:
        """End the block as its options and marks say; raise what the caller must hear of."""
        raise NotImplementedError

    async def by_hand(self, verb: str) -> None:
        """Refuse to commit, roll back or close by hand: the block does it by itself."""
        raise by_hand_refused(self.source.name, verb, self.name)
