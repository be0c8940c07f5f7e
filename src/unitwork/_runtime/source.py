"""This module holds a Database as the runtime sees it: its connections and its lanes."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from unitwork._later import later
from unitwork._runtime import context
from unitwork._runtime.connections.connecting import after_others
from unitwork._runtime.connections.current import CurrentEngine
from unitwork._runtime.connections.engines import Engines
from unitwork._runtime.connections.holders import told
from unitwork._runtime.connections.listeners import EngineListeners
from unitwork._runtime.connections.server import Server
from unitwork._runtime.connections.watch import Watch
from unitwork._runtime.lanes.choice import Lanes
from unitwork._runtime.lanes.registry import room_for_statements
from unitwork._runtime.transactions.ends import tell_ends

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from sqlalchemy import URL
    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._logic.freshness import Seen
    from unitwork._runtime.connections.addresses import Addresses
    from unitwork._runtime.connections.loop_engine import LoopEngine
    from unitwork._runtime.connections.servers import Servers
    from unitwork._runtime.connections.stand_in import StandIn
    from unitwork._runtime.connections.write_gate import WriteGate
    from unitwork.dialects import Backend, BeginMode

if TYPE_CHECKING:  # what most programs do not use
    from unitwork import events
    from unitwork._runtime.connections import servers as many
else:
    events = later("unitwork.events")
    many = later("unitwork._runtime.connections.servers")


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
        addresses: Addresses,
        engine_options: Mapping[str, Any],
        session_options: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.backend = backend
        self.session_options = session_options
        self.session_class: type[AsyncSession] = AsyncSession
        """What its sessions are, besides what blocks need of them."""
        self.grace_s = 2.0
        """How long the end of a block is waited for once its time is over, or its task is cancelled."""
        self._engine_options = engine_options
        self._addresses = addresses
        self.watch = Watch(name, self, backend)
        self.awaited: WeakSet[Any] = WeakSet()
        """The turns of sessions that somebody waits for, or has waited for."""
        self.servers = self._several(addresses)
        """Its servers, if it has several, or may find its only one elsewhere."""
        self.engines = Engines(name, backend, addresses.engine, self._new_engine, self._equip)
        if self.servers is not None:
            self.servers.primary_engines = self.engines
            for engines in self.servers.replica_engines():
                engines.heard_as = self.engines
        self.engine = CurrentEngine(lambda: self.engines.here().engine.sync_engine)
        self.ledger: set[Any] | None = None
        self.lanes = Lanes(self)

    def _equip(self, place: LoopEngine) -> None:
        servers, engine = self.servers, place.engine.sync_engine
        if servers is not None:
            event.listen(engine, "do_connect", after_others(servers.writable.open))
        tell_ends(engine, _nothing if servers is None else servers.wrote_by_hand)
        self.watch.equip(place)

    def _equip_replica(self, place: LoopEngine) -> None:
        tell_ends(place.engine.sync_engine, _nothing)
        self.watch.equip(place)

    def _several(self, addresses: Addresses) -> Servers | None:
        """Make its servers, if it has several."""
        if len(addresses.primaries) + len(addresses.replicas) < 2:  # noqa: PLR2004  # several
            return None
        known: dict[URL, Server] = {}
        for url in addresses.replicas:
            make = partial(self._new_engine, url)
            known[url] = Server(url, Engines(self.name, self.backend, None, make, self._equip_replica))
        primaries = [known.get(url) or Server(url) for url in addresses.primaries]
        replicas = [known[url] for url in addresses.replicas]
        places = (primaries, replicas)
        return many.Servers(self.name, self.backend, places, addresses.limits, self._asking_engine)

    @property
    def url(self) -> URL:
        """The URL of the database; its password shows in no text."""
        return self.backend.url

    @property
    def addresses(self) -> list[URL]:
        """The URLs of all its servers, first that of the database."""
        return [self.url, *self._addresses.primaries, *self._addresses.replicas]

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

    def dialect(self) -> Dialect:
        """Return the dialect of a server, of one that was connected to if there is one."""
        dialect = self.engines.here().engine.dialect
        if self.servers is not None and getattr(dialect, "server_version_info", None) is None:
            return next(self.servers.dialects_that_know(), dialect)
        return dialect

    def home_listeners(self) -> EngineListeners:
        """Return who listens to the engine of the event loop that is running."""
        return self.engines.here().listeners

    def remember_here(self) -> None:
        """Let the task that runs know what the tasks that it starts will write."""
        if self.servers is not None:
            self.servers.seen()

    def place_for(self, mode: BeginMode, seen: Seen, *, reads: bool) -> Engines:
        """Return the engines of the server that a transaction, or a single read, runs on. In a greenlet."""
        servers = self.servers
        may = reads or self.backend.reads_on_replicas(mode)
        if servers is None or not may or self._is_on_primary():
            if servers is not None and self.watch.active and (reads or mode.read_only):
                self._tell_of_primary(servers, mode, may=may)
            return self.engines
        started = time.monotonic() if self.watch.active else None
        engines = servers.choose(seen) or await_only(servers.wait(seen))
        if started is not None:
            self._tell_of_choice(servers, engines, started)
        return engines

    def place_for_read(self) -> LoopEngine | Awaitable[LoopEngine]:
        """Return where a single read is to run, or what waits for that."""
        servers = self.servers
        if servers is None or self.pinned is not None:
            return self.engines.here()
        seen = servers.seen()
        engines = servers.choose(seen)
        if engines is None:
            return self._waited_for(servers, seen)
        if self.watch.active:
            self._tell_of_choice(servers, engines, time.monotonic())
        return _asked(engines)

    def used(self, place: LoopEngine, *, wrote: bool) -> None:
        """Take note of what was read or written there by a statement that has committed by itself."""
        servers = self.servers
        if servers is not None:
            servers.used(servers.seen(), cast("Engines", place.engines), wrote=wrote)

    def lost(self, place: LoopEngine, error: BaseException) -> bool:
        """Take note that the server of this place cannot be reached; say whether another one may answer."""
        servers = self.servers
        if servers is None or place.engines is self.engines:
            return False
        engines = cast("Engines", place.engines)
        servers.lost(engines, error)
        self.watch.swallowed(f"a read at {servers.address_of(engines)}", error)
        return True

    def may_answer_instead(self, error: BaseException) -> bool:
        """Say whether the primary may answer a read that a replica has refused or left unanswered."""
        servers = self.servers
        if servers is None or not servers.replicas or context.reads_latest(servers):
            return False
        return self.backend.takes_no_writes(error) or self.backend.is_lost(error)

    async def _waited_for(self, servers: Servers, seen: Seen) -> LoopEngine:
        started = time.monotonic() if self.watch.active else None
        engines = await servers.wait(seen)
        if started is not None:
            self._tell_of_choice(servers, engines, started)
        return _asked(engines)

    def _tell_of_choice(self, servers: Servers, engines: Engines, started: float) -> None:
        """Tell observers where a read goes, that began to choose at this time of the monotonic clock."""
        if servers.replicas:
            self._tell_of_server(servers, engines, servers.why_not_replica(engines), started)

    def _tell_of_primary(self, servers: Servers, mode: BeginMode, *, may: bool) -> None:
        """Tell observers of a read that no replica was looked for."""
        if not servers.replicas or self.pinned is not None:
            return
        reason = "a transaction is open on the primary here"
        if not may:
            reason = "it asks for `fresh=True`" if mode.fresh else "replicas have no such isolation"
        self._tell_of_server(servers, self.engines, reason, time.monotonic())

    def _tell_of_server(self, servers: Servers, engines: Engines, reason: str | None, started: float) -> None:
        watch = self.watch
        address = servers.address_of(engines)
        role = "primary" if engines is self.engines else "replica"
        wait_s = time.monotonic() - started
        watch.tell(events.ServerChosen(watch.place()[0], self.name, address, role, reason, wait_s))

    def _is_on_primary(self) -> bool:
        """Say whether the code here has a transaction open on the primary, and has seen the newest there."""
        if self.pinned is not None:
            return True
        return any(
            scope.source is self
            and not (scope.outside or scope.frame.ended)
            and scope.frame.root.is_on(self.engines)
            for scope in context.open_scopes()
        )

    def write_gate(self) -> WriteGate | None:
        """Return the queue of those who want the only write lock, if this database has one."""
        waits = self.backend.one_writer and not self.backend.shared_between_loops and self.pinned is None
        return self.engines.here().write_gate if waits else None

    def capacity(self) -> int | None:
        """Return how many connections the pool can give out at once; None is without limit."""
        return self.engines.here().capacity()

    def holders(self) -> str:
        """Say who holds the connections, for a person whose pool is exhausted."""
        places = [self.engines, *(self.servers.replica_engines() if self.servers is not None else ())]
        held = [list(engines.here().held.values()) for engines in places]
        return told(self.name, [holder for each in held for holder in each])

    async def dispose(self) -> None:
        """Close all connections of this loop; forget those of loops that are closed."""
        if self.pinned is None:  # else a program under test ends; its database goes on with the test
            if self.servers is not None:
                await self.servers.dispose()
            await self.engines.dispose()

    def _asking_engine(self, server: Server) -> AsyncEngine:
        """Make what opens the one connection that a server is asked on."""
        arguments = {**self.backend.connect_limit, **self._engine_options.get("connect_args", {})}
        engine = create_async_engine(
            server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments
        )
        self.home().listeners.hand_on(EngineListeners(engine.sync_engine), {"do_connect"})
        self.backend.install(engine)
        return engine

    def _new_engine(self, url: URL | None = None) -> AsyncEngine:
        # A pool of the user's own has options of its own.
        own = {"pool", "poolclass"} & self._engine_options.keys()
        defaults = {} if own else self.backend.engine_options()
        chosen = {"query_cache_size": room_for_statements(), **defaults, **self._engine_options}
        return create_async_engine(url or self.url, **chosen)


def _asked(engines: Engines) -> LoopEngine:
    """Return the engine of the event loop that is running, which knows then who listens to it."""
    place = engines.here()
    place.listeners.foreign()
    return place


def _nothing() -> None:
    """Where there is one server, nobody asks who has written."""
