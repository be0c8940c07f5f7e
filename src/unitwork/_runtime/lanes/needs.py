"""This module says what the lanes need of connections, sessions and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import InstanceState, Session

    from unitwork._logic.effects import Effects
    from unitwork._runtime.connections.loop_engine import LoopEngine
    from unitwork._runtime.connections.watch import Watch
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork._runtime.deadline import Limits
    from unitwork.dialects import Backend, BeginMode


class Connections(Protocol):
    """The connections of one Database."""

    @property
    def name(self) -> str:
        """The name of the Database."""
        ...

    @property
    def backend(self) -> Backend:
        """What its kind of database needs."""
        ...

    @property
    def pinned(self) -> object | None:
        """The one connection that all work runs on, if it does: the lanes keep away then."""
        ...

    @property
    def session_options(self) -> Mapping[str, Any]:
        """What its sessions are made with."""
        ...

    @property
    def session_class(self) -> type[AsyncSession]:
        """What its sessions are."""
        ...

    @property
    def watch(self) -> Watch:
        """Its observers."""
        ...

    def home(self) -> LoopEngine:
        """Return the engine of the event loop that is running."""
        ...

    def dialect(self) -> Dialect:
        """Return the dialect of a server, of one that was connected to if there is one."""
        ...

    def place_for_read(self) -> LoopEngine | Awaitable[LoopEngine]:
        """Return where a single read is to run, or what waits for that."""
        ...

    def used(self, place: LoopEngine, *, wrote: bool) -> None:
        """Take note of what was read or written there by a statement that has committed by itself."""
        ...

    def lost(self, place: LoopEngine, error: BaseException) -> bool:
        """Take note that the server of this place cannot be reached; say whether another one may answer."""
        ...

    def write_gate(self) -> WriteGate | None:
        """Return the queue of those who want the only write lock, if there is one."""
        ...

    def holders(self) -> str:
        """Say who holds the connections, for a person whose pool is exhausted."""
        ...


class FrameAccess(Protocol):
    """What a session does as a whole: a transaction, a savepoint, neither, or a unit of work at rest."""

    @property
    def session(self) -> SessionAccess:
        """The session that it belongs to."""
        ...

    @property
    def root(self) -> FrameAccess:
        """The physical transaction that this is, or is a savepoint of."""
        ...

    @property
    def owner(self) -> str:
        """What messages call it."""
        ...

    @property
    def connection(self) -> Connection | None:
        """Its connection, once it has begun on one."""
        ...

    @property
    def mode(self) -> BeginMode:
        """How it begins."""
        ...

    @property
    def idles(self) -> bool:
        """Whether it is a unit of work at rest, or in a transaction that its session has begun by itself."""
        ...

    @property
    def current(self) -> FrameAccess:
        """For a unit of work, the transaction that it has begun."""
        ...

    @property
    def transactional(self) -> bool:
        """Whether a transaction is open here."""
        ...

    @property
    def begins_with_writes(self) -> bool:
        """Whether it is at rest until its first write, which begins a transaction that goes on."""
        ...

    def admit(self) -> None:
        """Refuse to send anything when it has ended, is late, or was condemned by the database."""
        ...


class TransactionAccess(FrameAccess, Protocol):
    """A physical transaction, or a savepoint."""

    def inserted(self, entity: object) -> None:
        """Take note of what was inserted past the ORM, which would not make it new again after a rollback."""
        ...

    def deleted(self, state: InstanceState[Any]) -> None:
        """Take note of what was deleted in a session that has not begun, and is back after a rollback."""
        ...


class TurnsAccess(Protocol):
    """Who may use a session now."""

    @property
    def top(self) -> Any:  # noqa: ANN401  # a FrameAccess, which the owner of this knows as more
        """The innermost frame that is open, the only one that may go on."""
        ...

    async def take_at_rest(self, frame: Any) -> bool:  # noqa: ANN401  # as above
        """Wait for the turn of a unit at rest; False as soon as another frame covers it."""
        ...

    def give(self) -> None:
        """End one operation, and wake who is next."""
        ...


class SessionAccess(Protocol):
    """A session that tasks share one operation at a time."""

    flushing: bool
    """Whether what is sent was asked about as a whole."""

    @property
    def turns(self) -> TurnsAccess:
        """Who may use it now."""
        ...

    @property
    def held(self) -> Session | None:
        """The session inside, once it has been set up."""
        ...

    def holder(self) -> Session:
        """Return the session inside for entities to be held by; it need not have begun for that."""
        ...

    def known(self, identity: tuple[Any, ...], kind: type[Any]) -> object | None:
        """Return the entity that is held, if whoever asks for one of this class gets it as it is."""
        ...

    def knows_nothing_of(self, identity: tuple[Any, ...] | None) -> bool:
        """Say whether nothing waits here to be sent, and no such entity is held."""
        ...

    def shares(self, connection: Connection) -> bool:
        """Say whether others may have this connection, listen to it, and send something on it themselves."""
        ...

    def limits_here(self) -> Limits:
        """Return the time limits of the code that runs."""
        ...

    def check_statement(self, statement: object, effects: Effects) -> None:
        """Refuse a statement that may not be sent here."""
        ...

    def check_new(self, entities: Iterable[object]) -> None:
        """Refuse to insert inside a read-only block, or after its end."""
        ...

    def check_change(self) -> None:
        """Refuse to change or delete an entity inside a read-only block."""
        ...

    def check_changes(self) -> bool:
        """Say whether changes may be sent here, and begin what they need."""
        ...

    def begin_as_block(self) -> None:
        """Let the session inside know that a transaction is open."""
        ...

    async def acquired_idle(self, frame: Any) -> Connection | None:  # noqa: ANN401  # a FrameAccess, as above
        """Check a connection out, and begin; None if it takes a greenlet to do so."""
        ...

    def acquired(self, frame: Any) -> Connection:  # noqa: ANN401  # a FrameAccess, as above
        """Check a connection out for a frame, and begin. In a greenlet."""
        ...
