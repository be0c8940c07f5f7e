"""This module asks whether an operation may run where it is called, and what its failure means."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import NO_STATE, UnmappedInstanceError
from sqlalchemy.util import await_only

from unitwork._logic.writes import is_write
from unitwork._runtime import context
from unitwork._runtime.blocks.starvation import held_by_this_task, refuse_starvation
from unitwork._runtime.sessions.by_hand import by_hand_refused
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType

    from unitwork._runtime.blocks.entry import Entry
    from unitwork._runtime.sessions.turns import Turns
    from unitwork._runtime.source import Source
    from unitwork._runtime.transactions.frame import Frame


class CheckedSession(AsyncSession):
    """An `AsyncSession` that knows the blocks it is used in. Lives: as long as its block or unit."""

    source: Source
    turns: Turns
    loop: asyncio.AbstractEventLoop
    started: bool
    ends_allowed: int
    running_in: tuple[Entry | None, Frame] | None
    """Where the operation is that has the turn: what it sends need not look for that again."""

    def place(self) -> tuple[Entry | None, Frame]:
        """Return the scope and the frame that the calling code is in, on this session."""
        self._check_loop()
        scope = context.scope_of(self)
        return scope, scope.frame if scope is not None else self.turns.top.root

    def _check_loop(self) -> None:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.loop:
            raise TransactionRefusedError(
                self.source.name,
                f"The session on database {self.source.name!r} is used outside of its event loop.",
                "use it in the loop that opened the block; open another block in a thread or another loop.",
            )

    @property
    def held(self) -> Session | None:
        """The session inside, once it has been set up."""
        return self.sync_session if self.started else None

    @property
    def begun(self) -> bool:
        """Whether the session inside has begun a transaction of its own, or joined that of the block."""
        return self.started and Session.in_transaction(self.sync_session)

    def has_changes(self) -> bool:
        """Say whether something waits to be sent."""
        session = self.sync_session
        return bool(session.new or session.deleted) or self.has_modified()

    def knows_nothing_of(self, identity: tuple[Any, ...] | None) -> bool:
        """Say whether nothing waits here to be sent, and no such entity is held."""
        if not self.started:
            return True
        held: Any = self.sync_session.identity_map
        return not self.has_changes() and identity not in held

    def has_modified(self) -> bool:
        """Say whether a persistent entity was changed."""
        session = self.sync_session
        if not session.identity_map.check_modified():
            return False
        return any(session.is_modified(entity) for entity in session.dirty)

    # -- guards --------------------------------------------------------------------------------

    def check_starvation(self, frame: Frame) -> None:
        """Refuse to wait for a connection that only the caller's own outer blocks could free."""
        if len(context.open_scopes()) > 1:
            held = held_by_this_task(self.source, besides=self)
            if held:
                mode = frame.root.mode
                refuse_starvation(
                    self.source, frame.owner, held, writes=not (mode.read_only or mode.autocommit)
                )

    def check_statement(self, statement: object) -> None:
        """Refuse a statement that may not be sent here."""
        scope, frame = self.running_in or self.place()
        frame.check_condemned()
        frame.root.last_statement = statement
        if scope is None or scope.read_only_by is None:
            return
        # A SELECT that hides a write in a CTE is left to the database where that enforces read-only.
        if not (frame.root.mode.read_only and isinstance(statement, Select)) and is_write(statement):
            raise self.write_refused(scope)

    def check_changes(self) -> None:
        """Refuse to send changes inside a read-only block."""
        scope = self.running_in[0] if self.running_in is not None else context.scope_of(self)
        if scope is None or scope.read_only_by is None:
            return
        # In a joined block new objects can only be those of a task beside it: `add` is refused here.
        apart = scope.frame.mode.read_only and self.has_changes()
        if apart or self.has_modified():
            raise self.write_refused(scope)

    def check_new(self, entities: Iterable[object]) -> None:
        """Refuse to insert inside a read-only block, or after its end."""
        scope, frame = self.place()
        frame.admit()
        for entity in entities:
            try:
                entity_state = instance_state(entity)
            except NO_STATE as error:
                raise UnmappedInstanceError(entity) from error
            # A detached entity is only attached again; a new one would be inserted.
            if scope is not None and scope.read_only_by is not None and entity_state.key is None:
                raise self.write_refused(scope)

    def check_write(self) -> None:
        """Refuse to delete or merge inside a read-only block."""
        scope = context.scope_of(self)
        if scope is not None and scope.read_only_by is not None:
            raise self.write_refused(scope)

    def check_end(self, verb: str) -> None:
        """Refuse to end the transaction in another way than by its block or unit of work."""
        if not self.ends_allowed:
            raise by_hand_refused(self.source.name, verb, self.turns.top.owner)

    def ending(self) -> _Ending:
        """Allow to end the transaction, while the block or unit of work does it."""
        return _Ending(self)

    def write_refused(self, scope: Entry) -> TransactionRefusedError:
        """Build the error for a write inside a read-only block."""
        return TransactionRefusedError(
            self.source.name,
            f"A write on database {self.source.name!r} is refused: {scope.read_only_by} is read-only.",
            "write outside of it, or drop its `read_only=True`.",
        )

    @contextmanager
    def turn(self) -> Generator[None]:
        """Take this task's turn, unless it has it: for what is loaded on access. In a greenlet."""
        turns = self.turns
        if turns.holder is asyncio.current_task() or self.ends_allowed:
            yield
            return
        await_only(turns.take(self.place()[1]))
        try:
            yield
        finally:
            turns.give()

    def failed(self, scope: Entry | None, frame: Frame, error: BaseException) -> None:
        """Condemn the frame if this error has left its transaction unusable."""
        name = scope.name if scope is not None else frame.owner
        if isinstance(error, PoolTimeoutError):
            error.add_note(self.source.holders())
        broken = self.started and not self.sync_session.is_active
        unsent = isinstance(error, DBAPIError) and frame.root.connection is None
        if unsent or broken or not isinstance(error, Exception):
            frame.condemn(name, error, by_database=True)
        if isinstance(error, DBAPIError):
            error.add_note(f"In {name} on database {self.source.name!r}.")


class _Ending:
    """While it is entered, the session may commit, roll back and close."""

    __slots__ = ("_session",)

    def __init__(self, session: CheckedSession) -> None:
        self._session = session

    def __enter__(self) -> None:
        self._session.ends_allowed += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.ends_allowed -= 1
