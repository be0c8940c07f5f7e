"""This module says what a transaction needs of the connections of its Database, and they of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from weakref import WeakSet

    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._logic.freshness import Seen
    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.connections.servers import Servers
    from unitwork._runtime.connections.watch import Watch
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork._runtime.deadline import Limits
    from unitwork.dialects import Backend, BeginMode
    from unitwork.errors import TransactionRefusedError


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
    def watch(self) -> Watch:
        """Its observers."""
        ...

    @property
    def awaited(self) -> WeakSet[Any]:
        """The turns of sessions that somebody waits for, or has waited for."""
        ...

    @property
    def engines(self) -> Engines:
        """Its engines, and who has their connections."""
        ...

    @property
    def servers(self) -> Servers | None:
        """Its servers, if it has several."""
        ...

    @property
    def grace_s(self) -> float:
        """How long an end is waited for once its time is over."""
        ...

    @property
    def pinned(self) -> object | None:
        """The one connection that all work runs on, if it does."""
        ...

    def place_for(self, mode: BeginMode, seen: Seen, *, reads: bool) -> Engines:
        """Return the engines of the server that a transaction, or a single read, is to run on."""
        ...

    def home_engine(self) -> AsyncEngine:
        """Return the engine of the event loop that is running."""
        ...

    def write_gate(self) -> WriteGate | None:
        """Return the queue of those who want the only write lock, if there is one."""
        ...


class OriginFrame(Protocol):
    """What a connection is taken for, as far as it matters to where it comes from."""

    @property
    def source(self) -> Connections:
        """Where connections come from."""
        ...

    @property
    def mode(self) -> BeginMode:
        """How it begins."""
        ...

    @property
    def only_reads(self) -> bool:
        """Whether it is a read of a repository outside of transactions."""
        ...

    def has_written(self) -> bool:
        """Say whether something was sent since this was asked last that may write."""
        ...


class CheckoutFrame(OriginFrame, Protocol):
    """What a connection is taken for."""

    @property
    def owner(self) -> str:
        """The block that has begun it."""
        ...

    @property
    def last_statement(self) -> object:
        """What was sent last."""
        ...

    @property
    def session(self) -> Any:  # noqa: ANN401  # of a higher floor
        """The session that it belongs to."""
        ...

    @property
    def limits(self) -> Limits:
        """Its time limits."""
        ...

    @property
    def condemned(self) -> Any:  # noqa: ANN401  # of a higher module
        """Why it can only roll back, if it can."""
        ...

    def by_hand_refused(self, verb: str) -> TransactionRefusedError:
        """Build the error for an end by hand."""
        ...
