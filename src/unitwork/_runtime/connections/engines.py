"""This module holds the engines of one Database: one for each event loop that uses it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from unitwork._runtime.connections.loop_engine import LoopEngine
from unitwork.errors import TransactionRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._runtime.connections.holders import Holder
    from unitwork._runtime.connections.stand_in import StandIn
    from unitwork.dialects import Backend

_of_this_process: weakref.WeakSet[Engines] = weakref.WeakSet()


class Engines:
    """The engines of one Database. Lives: as long as the Database.

    Args:
        database: What the Database is called.
        backend: What its kind of database needs.
        given: An engine of the caller's own, which cannot be doubled.
        make: Makes an engine, where none is given.
        equipped: Called with each engine before it is used.

    Attributes:
        stand_in: What lends in place of the pools now, if anything does.
        heard_as: Those that a program listens to, if it does not know these.
        disposed: It was disposed of, and not used since.
    """

    def __init__(
        self,
        database: str,
        backend: Backend,
        given: AsyncEngine | None,
        make: Callable[[], AsyncEngine],
        equipped: Callable[[LoopEngine], None],
    ) -> None:
        self._database = database
        self._backend = backend
        self._make = make
        self._equipped = equipped
        self.given = given is not None
        self.stand_in: StandIn | None = None
        self.heard_as: Engines | None = None
        self.disposed = False
        self._moving = threading.Lock()
        self._lost = False
        self._all = [self._new(given or make())]
        self._current: tuple[asyncio.AbstractEventLoop | None, LoopEngine] = (None, self._all[0])
        _of_this_process.add(self)

    def here(self) -> LoopEngine:
        """Return the engine of the loop that runs here; threads may ask at the same time."""
        loop, engine = self._current
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return engine
        return engine if running is loop else self._moved(running)

    def route(self, engine: Engine) -> Engine | None:
        """Return what somebody's session uses here in place of an engine; None if it is none of these.

        One with execution options of its own shares the pool of the engine that it was made of. While
        there is a stand-in, that lends its connection in place of all pools.
        """
        here = self.here()
        if engine.pool is here.engine.sync_engine.pool:
            return engine
        if self.stand_in is None or not self.made(engine):
            return None
        options = engine.get_execution_options()
        lending = here.engine.sync_engine
        return lending.execution_options(**options) if options else lending

    def made(self, engine: Engine) -> bool:
        """Say whether an engine is one of these, of whichever event loop."""
        return any(engine.pool is each.engine.sync_engine.pool for each in self._all)

    def in_all_loops(self) -> list[LoopEngine]:
        """Return the engines of the event loops that use it; the only one if none does."""
        known = self._all
        return [engine for engine in known if not engine.free()] or known[:1]

    def holders(self) -> list[Holder]:
        """Return who has connections of any of the engines."""
        return [holder for engine in self._all for holder in list(engine.held.values())]

    def take(self, connection: Connection, holder: Holder) -> None:
        """Take note of who has a connection."""
        self.here().held[connection] = holder

    def give_back(self, connection: Connection) -> None:
        """Take note that a connection has gone back; its event loop may be gone too."""
        for engine in self._all:
            engine.held.pop(connection, None)

    def replace(self, stand_in: StandIn) -> None:
        """Let all that ask an engine for a connection ask the stand-in."""
        replaced = self.here()
        lending = LoopEngine(stand_in.engine, self._backend)
        lending.held = replaced.held  # where its listeners look, which hear of the stand-in's connections
        self.stand_in = stand_in
        self._current = (stand_in.loop, lending)

    def restore(self) -> None:
        """Take connections from the pools again."""
        _loop, lending = self._current
        lending.held.clear()
        self.stand_in = None
        self._current = (None, self._all[0])

    async def dispose(self) -> None:
        """Close all connections of this loop; forget those of loops that are closed."""
        here = self.here()
        self.disposed = True
        out = _is_out(here.engine.sync_engine.pool)
        await here.engine.dispose()
        kept, self._backend.kept = self._backend.kept, None
        if kept is not None and not out:
            # It was opened for a pool that is gone, and used by this one never.
            await greenlet_spawn(kept.close)
        with self._moving:
            for engine in self._all:
                if engine is not here and engine.free():
                    engine.abandon()
            self._all = [here, *(engine for engine in self._all if not (engine is here or engine.free()))]
            self._current = (None, here)

    def forked(self) -> None:
        """Begin anew in a child process; the connections are those of the parent, and are not touched."""
        self._moving = threading.Lock()
        used = [engine for engine in self._all if engine.loop is not None]
        self._lost = bool(used) and self._backend.kept is not None
        for engine in used:
            engine.forked()
        self.stand_in = None
        self._current = (None, self._all[0])

    def _moved(self, loop: asyncio.AbstractEventLoop) -> LoopEngine:
        """Make the engine of this loop the current one; adopt a free one, or build another."""
        if self._lost:
            raise self._refused(
                "is in the memory of the process that this one was forked from.",
                "make the Database after the fork, or keep its rows in a file.",
            )
        if self.stand_in is not None and not self.stand_in.loop.is_closed():
            raise self.stand_in.in_another_loop()
        self.stand_in = None
        with self._moving:
            self.disposed = False
            known = [engine for engine in self._all if engine.loop is not None and engine.loop() is loop]
            engine = known[0] if known else self._adopted() or self._twin()
            if not known:
                self.let_hear(engine)
            engine.loop = weakref.ref(loop)
            self._current = (loop, engine)
            return engine

    def let_hear(self, engine: LoopEngine) -> None:
        """Let those who listen to an engine that the program knows hear of this one, too."""
        for listened in self.listened():
            if listened is not engine:
                listened.listeners.hand_on(engine.listeners)

    def listened(self) -> list[LoopEngine]:
        """Return the engines that a program knows, and may listen to."""
        return self._all if self.heard_as is None else self.heard_as.listened()

    def _adopted(self) -> LoopEngine | None:
        for engine in self._all:
            if engine.free() or self._backend.shared_between_loops:
                self._refuse_to_share(engine)
                if engine.loop is not None:
                    engine.abandon()
                return engine
        return None

    def _refuse_to_share(self, engine: LoopEngine) -> None:
        """Refuse the one connection of a database in memory to a second loop while the first one uses it."""
        loop = engine.loop() if engine.loop is not None else None
        if loop is None or loop.is_closed():
            return
        if loop.is_running() or _is_out(engine.engine.sync_engine.pool):
            raise self._refused(
                "is in memory, and in use on another event loop.",
                "use it in one loop at a time, or keep its rows in a file.",
            )

    def _twin(self) -> LoopEngine:
        if self.given:
            raise TransactionRefusedError(
                self._database,
                f"The AsyncEngine of database {self._database!r} is in use on another event loop.",
                "give the Database a URL instead, or dispose of it on the other loop first.",
            )
        engine = self._new(self._make())
        self._all = [engine, *(known for known in self._all if not known.free())]
        return engine

    def elsewhere(self) -> TransactionRefusedError:
        """Build the error for a statement that a session routes to an engine of another database."""
        return self._refused(
            "has an engine of its own, and the session routes a statement to another one.",
            "make a Database for each engine, and open a block on it; drop `binds` or `get_bind`.",
        )

    def _refused(self, problem: str, fix: str) -> TransactionRefusedError:
        return TransactionRefusedError(self._database, f"Database {self._database!r} {problem}", fix)

    def _new(self, engine: AsyncEngine) -> LoopEngine:
        new = LoopEngine(engine, self._backend)
        new.engines = self
        new.equip()
        self._equipped(new)
        new.listeners.know_all()
        return new


def _is_out(pool: Any) -> bool:  # noqa: ANN401  # of any class
    """Say whether somebody has a connection of this pool, as far as it can tell."""
    return hasattr(pool, "checkedout") and pool.checkedout() > 0


def _begin_anew() -> None:
    for engines in list(_of_this_process):
        engines.forked()


if hasattr(os, "register_at_fork"):  # where a process can be forked at all
    os.register_at_fork(after_in_child=_begin_anew)
