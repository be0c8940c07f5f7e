"""This module asks whether an operation may run where it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Select, UpdateBase
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import NO_STATE, UnmappedInstanceError
from sqlalchemy.schema import ExecutableDDLElement

from unitwork._logic.effects import effects_of
from unitwork._logic.sql.statement import Step
from unitwork._logic.writes import commits_by_itself, steps_of, texts_of
from unitwork._runtime import context
from unitwork._sqlalchemy.private import forget_changes
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import InstanceState, Session

    from unitwork._logic.effects import Effects
    from unitwork._runtime.context import OpenScope
    from unitwork._runtime.sessions.turns import Place, Turns
    from unitwork._runtime.transactions.frame import Frame
    from unitwork._runtime.transactions.needs import Connections


_COMMITS_DDL = frozenset({"mysql", "mariadb"})
_ENDS = {Step.BEGIN: "begin", Step.COMMIT: "commit", Step.ROLLBACK: "rollback"}
"""What text may not do inside a block, and what it is called by hand."""


class AskedSession(Protocol):
    """A session whose operations are asked about."""

    turns: Turns
    key: object
    flushing: bool
    adding: bool
    ends_allowed: int
    writes: int
    connections_asked: int
    running_in: Place | None
    apart: OpenScope | None

    @property
    def source(self) -> Connections:
        """Its Database."""
        ...

    @property
    def held(self) -> Session | None:
        """The session inside, once it has been set up."""
        ...

    def place(self) -> Place:
        """Return the scope and the frame that the calling code is in."""
        ...

    def has_changes(self) -> bool:
        """Say whether something waits to be sent."""
        ...

    def wrote(self) -> None:
        """Count what is sent that may write."""
        ...

    def begin_to_write(self, scope: OpenScope) -> Frame:
        """Begin the transaction of a unit of work that is at rest."""
        ...

    def refuse_starvation(self, frame: Frame) -> None:
        """Refuse to wait for a connection that only the caller's own outer blocks could free."""
        ...


def to_send(session: AskedSession, statement: object, effects: Effects | None = None) -> None:
    """Refuse a statement that may not be sent here; begin the transaction that it needs.

    Args:
        session: Where.
        statement: As SQLAlchemy knows it.
        effects: What it does, if that is known.

    Raises:
        TransactionRefusedError: It writes inside a read-only block, would end the transaction behind the
            block's back, or the database has condemned the frame.
    """
    scope, frame = session.running_in or session.place()
    frame.check_condemned()
    frame.root.last_statement = statement
    if scope is None or session.flushing:
        return  # a flush was asked about as a whole
    is_select = isinstance(statement, Select)
    if is_select and not (frame.idles or scope.read_only_by or scope.counts_writes):
        return
    dialect = session.source.backend.dialect
    if not isinstance(statement, (Select, UpdateBase)):
        _refuse_to_end_by_text(session, statement, frame, dialect)
    effects = effects or effects_of(statement, dialect)
    writes = effects.writes
    if writes and scope.read_only_by is not None:
        # A SELECT that hides a write in a CTE is left to the database where that enforces read-only.
        if not (frame.root.mode.read_only and is_select):
            raise write_refused(session, scope)
    elif frame.idles and (writes or effects.locks or (effects.may_call and frame.begins_with_writes)):
        session.begin_to_write(scope)
        writes = True
    if writes:
        session.wrote()


def _refuse_to_end_by_text(session: AskedSession, statement: object, frame: Frame, dialect: str) -> None:
    """Refuse text that begins or ends a transaction, and DDL that commits what was written before it."""
    if not frame.root.transactional:
        return
    texts = texts_of(statement)
    if isinstance(statement, ExecutableDDLElement) and dialect in _COMMITS_DDL:
        texts = (str(statement.compile(dialect=session.source.home_engine().dialect)),)
    step = next((step for text in texts for step in steps_of(text, dialect) if step in _ENDS), None)
    if step is not None:
        raise frame.root.by_hand_refused(_ENDS[step])
    sent, in_savepoint = session.writes > session.connections_asked, frame is not frame.root
    if (sent or in_savepoint) and any(commits_by_itself(text, dialect) for text in texts):
        name = session.source.name
        done = f"commit what {frame.root.owner} has written"
        if not sent:
            done = f"end the savepoint of {frame.owner}"
        raise TransactionRefusedError(
            name,
            f"The statement would {done} on database {name!r}.",
            "run it outside of the block, or as the first statement of the outermost one.",
            [f"Statement: {' '.join(' '.join(texts).split())}"],
        )


def to_flush(session: AskedSession) -> bool:
    """Say whether changes may be sent here; begin the transaction that they need.

    What a read-only transaction finds changed was changed outside of it, and is sent after it.
    """
    scope, frame = session.running_in or session.place()
    if scope is None or not session.has_changes():
        return True
    if frame.root.mode.read_only or (scope.read_only_by is not None and frame.idles):
        return False
    if frame.idles:
        session.begin_to_write(scope)
    session.wrote()
    return True


def to_add(session: AskedSession, entities: Iterable[object], place: Place | None = None) -> None:
    """Refuse to insert inside a read-only block, after its end, or what another session holds.

    Args:
        session: Which is to hold them.
        entities: What is added.
        place: Where the calling code is, if that is known; it was admitted there.
    """
    if place is None:
        place = session.place()
        place[1].admit()
    scope = place[0]
    for entity in entities:
        try:
            entity_state = instance_state(entity)
        except NO_STATE as error:
            raise UnmappedInstanceError(entity) from error
        # A detached entity is only attached again; a new one would be inserted.
        if scope is not None and scope.read_only_by is not None and entity_state.key is None:
            raise write_refused(session, scope)
        if entity_state.session_id is not None:
            _refuse_what_is_held_elsewhere(session, entity_state)


def to_cascade(session: AskedSession, state: InstanceState[Any]) -> None:
    """Refuse that a relationship adds a new entity inside a read-only block."""
    if state.key is not None or session.adding or session.flushing:
        return
    scope = context.scope_of(session)
    if scope is not None and scope.read_only_by is not None and not scope.left:
        raise write_refused(session, scope)


def _refuse_what_is_held_elsewhere(session: AskedSession, state: InstanceState[Any]) -> None:
    """Refuse now, where the caller is: it may be added later, in the middle of another task."""
    other, own = state.session, session.held
    if other is not None and other is not own:
        raise InvalidRequestError(
            f"Object '{state.obj()!r}' is already attached to another session: use "
            f"`session.merge()`, or take it out of there with `expunge()` first."
        )


def to_change(session: AskedSession) -> None:
    """Refuse to delete, merge or write in bulk inside a read-only block; begin what it needs."""
    scope, frame = session.running_in or session.place()
    if scope is None:
        return
    refuse_in_read_only(session, scope)
    if frame.idles:
        session.begin_to_write(scope)
    session.wrote()


def to_change_attribute(session: AskedSession, state: InstanceState[Any]) -> None:
    """Refuse to change an entity inside a read-only block, where it is done."""
    scope = session.apart or context.scope_of(session)
    if scope is not None and scope.read_only_by is not None and not scope.left and not session.flushing:
        forget_changes(state)
        raise write_refused(session, scope)


def to_end(session: AskedSession, verb: str) -> None:
    """Refuse to end the transaction in another way than by its block or unit of work."""
    if not session.ends_allowed:
        raise session.turns.top.by_hand_refused(verb)


def to_wait_for_connection(session: AskedSession, frame: Frame) -> None:
    """Refuse to wait for a connection that only the caller's own outer blocks could free."""
    if len(context.open_scopes()) > 1:
        session.refuse_starvation(frame)


def refuse_in_read_only(session: AskedSession, scope: OpenScope) -> None:
    """Refuse a write inside a read-only block."""
    if scope.read_only_by is not None:
        raise write_refused(session, scope)


def write_refused(session: AskedSession, scope: OpenScope) -> TransactionRefusedError:
    """Build the error for a write inside a read-only block."""
    name = session.source.name
    return TransactionRefusedError(
        name,
        f"A write on database {name!r} is refused: {scope.read_only_by} is read-only.",
        "write outside of it, or drop its `read_only=True`.",
    )
