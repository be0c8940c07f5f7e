"""This module says what a transaction needs of the connections of its Database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._runtime.connections.holders import Holder
    from unitwork._runtime.connections.watch import Watch
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork.dialects import Backend


class Held(Protocol):
    """Who has which connection."""

    def take(self, connection: Connection, holder: Holder) -> None:
        """Take note of who has a connection."""
        ...

    def give_back(self, connection: Connection) -> None:
        """Take note that a connection has gone back."""
        ...


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
    def engines(self) -> Held:
        """Who has which connection."""
        ...

    @property
    def grace_s(self) -> float:
        """How long an end is waited for once its time is over."""
        ...

    @property
    def pinned(self) -> object | None:
        """The one connection that all work runs on, if it does."""
        ...

    def home_engine(self) -> AsyncEngine:
        """Return the engine of the event loop that is running."""
        ...

    def write_gate(self) -> WriteGate | None:
        """Return the queue of those who want the only write lock, if there is one."""
        ...
