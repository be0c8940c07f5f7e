"""This module says where the connection of a frame comes from: of which server, and who lends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection

if TYPE_CHECKING:
    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.connections.idle import Lender
    from unitwork._runtime.transactions.needs import Connections
    from unitwork.dialects import BeginMode


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


class Origin:
    """Where one connection comes from, and goes back to. Lives: one check-out.

    Attributes:
        engines: Those of its server.
    """

    __slots__ = ("_frame", "_lender", "_seen", "engines")

    def __init__(self, frame: OriginFrame) -> None:
        self._frame = frame
        self.engines: Engines = frame.source.engines
        self._lender: Lender | None = None
        """Who has lent it, if it was idle."""
        self._seen: Any = None
        """What the code has written and read, where there are several servers."""

    def idle(self) -> Connection | None:
        """Return a connection for which nothing has to be waited for; None if there is none."""
        source = self._frame.source
        direct = source.backend.direct
        if direct is None or source.servers is not None:
            return None
        home = self.engines.here()
        lender = home.lender()
        held = lender.idle()
        if held is None:
            return None
        self._lender = lender
        return Connection(home.engine.sync_engine, held)

    def connected(self) -> Connection:
        """Connect to the server that this is for; to another one than a replica that cannot be reached.

        In a greenlet.
        """
        source = self._frame.source
        if source.servers is None:
            return self.engines.here().engine.sync_engine.connect()
        while True:
            self._seen = source.servers.seen()
            self.engines = source.place_for(self._frame.mode, self._seen, reads=self._frame.only_reads)
            try:
                connection = self.engines.here().engine.sync_engine.connect()
            except Exception as error:
                if not self.leaves_replica(error):
                    raise
            else:
                source.servers.opened(self._seen, self.engines)
                return connection

    def leaves_replica(self, error: BaseException) -> bool:
        """Say whether another server may be asked: nothing was sent yet to a replica that is gone."""
        source = self._frame.source
        if source.servers is None or self.engines is source.engines:
            return False
        away = isinstance(error, OSError) or source.backend.is_lost(error)
        if away:
            source.servers.lost(self.engines, error)
            source.watch.swallowed(f"a read at {source.servers.address_of(self.engines)}", error)
        return away

    @property
    def takes_back_at_once(self) -> bool:
        """Whether the connection goes back without anything being waited for, and nobody listens to that."""
        if self._lender is None or not self._lender.resets_at_once:
            return False
        return self.engines.here().listeners.foreign() is None

    def give_back(self, connection: Connection) -> None:
        """Take note that a connection has gone back."""
        self.engines.give_back(connection)
        servers = self._frame.source.servers
        if self._seen is not None and servers is not None:
            servers.used(self._seen, self.engines, wrote=self._frame.has_written(), opened=True)
