"""This module says where the connection of a frame comes from: of which server, and who lends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitwork._sqlalchemy.lazy import LazyConnection

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.connections.idle import Lender
    from unitwork._runtime.transactions.needs import OriginFrame


class Origin:
    """Where one connection comes from, and goes back to. Lives: one check-out.

    Attributes:
        engines: Those of its server.
        lender: Who has lent it, if it was idle, and can be told to commit.
    """

    __slots__ = ("_frame", "_seen", "engines", "lender")

    def __init__(self, frame: OriginFrame) -> None:
        self._frame = frame
        self.engines: Engines = frame.source.engines
        self.lender: Lender | None = None
        self._seen: Any = None
        """What the code has written and read, where there are several servers."""

    def idle(self, kind: type[Connection]) -> Connection | None:
        """Return a connection for which nothing has to be waited for; None if there is none."""
        source = self._frame.source
        direct = source.backend.direct
        if direct is None or source.servers is not None:
            return None
        home = self.engines.here()
        engine, lender = home.engine.sync_engine, home.lender()
        self.lender = lender if direct.commits else None
        if kind is LazyConnection:
            lent = lender.lend()
            return None if lent is None else LazyConnection(engine, lent, lender)
        held = lender.idle()
        return None if held is None else kind(engine, held)

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

    def give_back(self, connection: Connection) -> None:
        """Take note that a connection has gone back."""
        self.engines.give_back(connection)
        servers = self._frame.source.servers
        if self._seen is not None and servers is not None:
            servers.used(self._seen, self.engines, wrote=self._frame.has_written(), opened=True)
