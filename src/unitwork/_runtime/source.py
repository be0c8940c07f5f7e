"""This module holds a Database as the runtime sees it: its connections and its lanes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import create_async_engine

from unitwork._runtime import context
from unitwork._runtime.connections.current import CurrentEngine
from unitwork._runtime.connections.engines import Engines
from unitwork._runtime.connections.holders import told
from unitwork._runtime.connections.watch import Watch
from unitwork._runtime.lanes.choice import Lanes
from unitwork._runtime.transactions.connection import tell_ends

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._runtime.connections.listeners import EngineListeners
    from unitwork._runtime.connections.loop_engine import LoopEngine
    from unitwork._runtime.connections.stand_in import StandIn
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork.dialects import Backend


class Source:
    """Engines, lanes and observers of one Database. Lives: as long as its Database.

    Attributes:
        engines: Its engines, and who has their connections.
        watch: Its observers.
        lanes: Its ways to send a statement.
        engine: What a program may keep: of whichever event loop it is used in.
        ledger: The blocks and units that were entered since a test looks for leaks, else None.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        engine: AsyncEngine | None,
        engine_options: Mapping[str, Any],
        session_options: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.backend = backend
        self.session_options = session_options
        self.grace_s = 2.0
        """How long the end of a block is waited for once its time is over, or its task is cancelled."""
        self._engine_options = engine_options
        self.watch = Watch(name, partial(context.last, self))
        self.engines = Engines(name, backend, engine, self._new_engine, self._equip)
        self.engine = CurrentEngine(lambda: self.engines.here().engine.sync_engine)
        self.ledger: set[Any] | None = None
        self.lanes = Lanes(self)

    def _equip(self, engine: AsyncEngine) -> None:
        tell_ends(engine.sync_engine)
        self.watch.equip(engine)

    @property
    def url(self) -> URL:
        """The URL of the database; its password shows in no text."""
        return self.backend.url

    @property
    def pinned(self) -> StandIn | None:
        """What lends the one connection that everything runs on while `db.rolled_back()` is open, else None.

        Whoever takes connections from the pool by another way than `home_engine()` must not do so while it
        is set: what is written there would not be seen, and would stay.
        """
        return self.engines.stand_in

    def home(self) -> LoopEngine:
        """Return the engine of the event loop that is running, its pool and its queue of writers."""
        return self.engines.here()

    def home_engine(self) -> AsyncEngine:
        """Return the engine for the event loop that is running, if one is."""
        return self.engines.here().engine

    def home_listeners(self) -> EngineListeners:
        """Return who listens to the engine of the event loop that is running."""
        return self.engines.here().listeners

    def write_gate(self) -> WriteGate | None:
        """Return the queue of those who want the only write lock, if this database has one."""
        waits = self.backend.one_writer and not self.backend.shared_between_loops and self.pinned is None
        return self.engines.here().write_gate if waits else None

    def capacity(self) -> int | None:
        """Return how many connections the pool can give out at once; None is without limit."""
        return self.engines.here().capacity()

    def holders(self) -> str:
        """Say who holds the connections, for a person whose pool is exhausted."""
        return told(self.name, list(self.engines.here().held.values()))

    async def dispose(self) -> None:
        """Close all connections of this loop; forget those of loops that are closed."""
        if self.pinned is None:  # else a program under test ends; its database goes on with the test
            await self.engines.dispose()

    def _new_engine(self) -> AsyncEngine:
        # A pool of the user's own has options of its own.
        own = {"pool", "poolclass"} & self._engine_options.keys()
        defaults = {} if own else self.backend.engine_options()
        return create_async_engine(self.url, **{**defaults, **self._engine_options})
