"""This module chooses the server of each read: one that has all that its reader has seen already."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING

from unitwork._logic.freshness import BEGINNING, Seen
from unitwork._runtime import context
from unitwork._runtime.connections.addresses import shown_address
from unitwork._runtime.connections.sampling import Sampling
from unitwork._runtime.connections.server import NOT_CAUGHT_UP
from unitwork._runtime.connections.writable import Writable
from unitwork.errors import ReplicaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._logic.positions import Position
    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.connections.server import Server
    from unitwork.dialects import Backend
    from unitwork.dialects.replication import ServerState
    from unitwork.options import ServerLimits

_FIRST_ROUND_S = 10.0
_IN_VAIN_S = 1.0
"""How long nobody waits for a replica after somebody has waited in vain: it would be in vain again."""
_POSITION_S = 1.0
_SILENT = 3
"""How often in a row a server may answer too late before its connections are closed."""


class Servers:
    """The servers of a Database that has several. Lives: as long as the Database.

    Args:
        database: What the Database is called.
        backend: What its kind of database needs.
        places: Where writes may go, in this order; and where reads may go, each with a pool.
        limits: How long to wait for what.
        engine_for: Makes what opens one connection to a server, to ask it.
    """

    def __init__(
        self,
        database: str,
        backend: Backend,
        places: tuple[Sequence[Server], Sequence[Server]],
        limits: ServerLimits,
        engine_for: Callable[[Server], AsyncEngine],
    ) -> None:
        self.database = database
        self.key = object()
        """What contexts know them by, which may outlive the Database."""
        self._backend = backend
        self._primaries, self.replicas = places
        self.all = [*self._primaries, *(each for each in self.replicas if each not in self._primaries)]
        self.limits = limits
        self._engine_for = engine_for
        self.writable = Writable(backend, self.all, limits.failover_s)
        self._usable: list[Server] = []
        self._turn = count()
        self._vain_until = BEGINNING
        self._since = float("inf")
        """When the primary has answered first."""
        self._samplings: dict[asyncio.AbstractEventLoop, Sampling] = {}
        self._refusals: list[str] = []
        self.primary_engines: Engines
        """Those of the Database, where writes go; set when they are made."""

    # -- a read ----------------------------------------------------------------------------------

    def seen(self) -> Seen:
        """Return what the task that runs has written and read."""
        found: Seen | None = context.seen(self.key)
        task = context.this_task()
        if found is None or not found.belongs_to(task):
            found = Seen(task, found, now=time.monotonic())
            context.see(self.key, found)
        return found

    def choose(self, seen: Seen) -> Engines | None:
        """Return where to read now: the least busy of the replicas that are new enough. None if none is."""
        if not self.replicas or context.reads_latest(self):
            return self.primary_engines
        if asyncio.get_running_loop() not in self._samplings:
            return None  # nobody asks the servers here yet, and what is known of them may be old
        fit = [server for server in self._usable if seen.may_read(server)]
        if not fit:
            return None
        if len(fit) == 1:
            chosen = fit[0]
            if len(self._usable) > 1 and chosen.busy:
                self._sampling().hurry()  # others may be new enough soon, and have more time
            return chosen.engines
        first = next(self._turn) % len(fit)
        return min((*fit[first:], *fit[:first]), key=_busy).engines

    async def wait(self, seen: Seen) -> Engines:
        """Wait for a replica that is new enough; return where to read, in the end the primary.

        Raises:
            ReplicaError: What was given as a replica is none of this primary.
        """
        sampling = self._sampling()
        if not sampling.rounds:
            await sampling.next_round(_FIRST_ROUND_S)
        over = time.monotonic() + self.limits.replica_wait_s
        while True:
            self._check()
            chosen = self.choose(seen)
            if chosen is not None:
                return chosen
            now = time.monotonic()
            none = not (self._usable or any(server.problem == NOT_CAUGHT_UP for server in self.replicas))
            if none or now < self._vain_until:
                return self.primary_engines
            if now >= over or not await sampling.next_round(over - now):
                self._vain_until = time.monotonic() + _IN_VAIN_S
                return self.choose(seen) or self.primary_engines

    def used(self, seen: Seen, engines: Engines, *, wrote: bool, opened: bool = False) -> None:
        """Take note of who has read or written where, up to now.

        Args:
            seen: Whose it is.
            engines: Where.
            wrote: Something may have been written.
            opened: That was told before, by `opened`.
        """
        now = time.monotonic()
        if engines is self.primary_engines:
            seen.read_latest(now)
        else:
            server = self._server_of(engines)
            if server is not None and opened:
                seen.closed(server, now)
            elif server is not None:
                seen.read(server, now)
        if wrote and engines is self.primary_engines:
            seen.wrote(now)

    def opened(self, seen: Seen, engines: Engines) -> None:
        """Take note that somebody has a connection, until `used`."""
        server = self._server_of(engines)
        if server is not None:
            seen.opened(server)

    def wrote_by_hand(self) -> None:
        """Take note of a COMMIT that no block has sent, such as that of a session of one's own."""
        self.used(self.seen(), self.primary_engines, wrote=True)

    def lost(self, engines: Engines, error: BaseException) -> None:
        """Take note that a replica cannot be reached: it gets no reads until it has answered again."""
        server = self._server_of(engines)
        if server is not None:
            server.failed(error)
            self._usable = [each for each in self._usable if each is not server]

    def replica_engines(self) -> list[Engines]:
        """Return those of the replicas."""
        return [server.engines for server in self.replicas if server.engines is not None]

    def dialects_that_know(self) -> Iterator[Dialect]:
        """Return the dialects of replicas that were connected to."""
        dialects = (engines.here().engine.dialect for engines in self.replica_engines())
        return (each for each in dialects if getattr(each, "server_version_info", None) is not None)

    def _server_of(self, engines: Engines) -> Server | None:
        return next((server for server in self.replicas if server.engines is engines), None)

    def address_of(self, engines: Engines) -> str | None:
        """Return the `host:port` of a replica, or of the primary as far as it is known."""
        server = self._server_of(engines) or self.writable.current
        return shown_address(server.url)

    def why_not_replica(self, engines: Engines) -> str | None:
        """Say why a read that was just sent to these engines has got no replica; None if it has one."""
        if engines is not self.primary_engines:
            return None
        if context.reads_latest(self):
            return "it is inside of `db.primary()`"
        if self._usable:
            return "no replica has all that was written and read here"
        problems = (f"{server.name}: {server.problem}" for server in self.replicas if server.problem)
        return f"no replica is fit: {'; '.join(problems) or 'none has answered yet'}"

    async def position_since(self, moment: float) -> Position | None:
        """Return where the primary was at some time after this moment; None if it does not say in time."""
        sampling = self._sampling()
        over = time.monotonic() + _POSITION_S
        while True:
            found = sampling.written_since(moment)
            left = over - time.monotonic()
            if found is not None or left <= 0:
                return found
            await sampling.next_round(left)

    # -- what is known of them ---------------------------------------------------------------------

    async def refreshed(self) -> None:
        """Ask all servers now."""
        await self._sampling().next_round(_FIRST_ROUND_S, whole=True)

    def _sampling(self) -> Sampling:
        loop = asyncio.get_running_loop()
        found = self._samplings.get(loop)
        if found is None:
            for gone in [each for each in self._samplings if each.is_closed()]:
                del self._samplings[gone]
            assert self._backend.replication is not None  # noqa: S101  # only such have several servers
            found = Sampling(
                self.all, self._backend.replication, self._engine_for, self._primary, self._judge
            )
            self._samplings[loop] = found
        found.start(f"unitwork: servers of {self.database}")
        return found

    def _primary(self) -> Server:
        return self.writable.current

    def _check(self) -> None:
        if self._refusals:
            raise ReplicaError(self.database, self._refusals)

    def _judge(self) -> None:
        """Say which replicas may be read from, and leave a primary that is none any more."""
        primary = self._settled_primary()
        self._refusals = []
        usable = []
        for server in self.replicas:
            server.problem = self._problem_of(server, primary)
            if server.silent == _SILENT and server is not primary and server.engines is not None:
                server.engines.here().leave_server()  # whoever waits for its answer is told
            if server.problem is None:
                usable.append(server)
        self._usable = usable

    def _settled_primary(self) -> Server:
        """Return the server that takes writes; another one if that of before does not."""
        current = self.writable.current
        gone = current.state is None and (current.silent >= _SILENT or not current.timed_out)
        if gone or (current.state is not None and not current.state.writable):
            promoted = [each for each in self.all if self._may_succeed(each)]
            if promoted:
                self.writable.current = promoted[0]
                self.primary_engines.here().leave_server()
        current = self.writable.current
        if current.state is not None:
            current.problem = None
            self._since = min(self._since, current.asked_at)
        return current

    def _may_succeed(self, server: Server) -> bool:
        """Say whether a server takes the writes of this cluster now, and may rightly do so."""
        state = server.state
        if state is None or not (state.writable and self.writable.belongs(state)):
            return False
        return server.has_followed or server not in self.replicas

    def _problem_of(self, server: Server, primary: Server) -> str | None:
        """Say why a replica gets no reads now, if so."""
        if server is primary:
            return "it is the primary"
        state, known = server.state, primary.state
        if state is None or not state.ready:
            return server.problem
        if known is None:
            return None if server.has_followed else "the primary does not answer"
        return self._problem_beside(server, state, primary.name, known)

    def _problem_beside(
        self, server: Server, state: ServerState, primary: str, known: ServerState
    ) -> str | None:
        """Say what keeps a replica from being read from, if something does: both servers have answered."""
        refusal = self._refusal(server, state, primary, known)
        followed, server.follows = server.follows, refusal is None
        if refusal is not None:
            # The primary was asked first: what it has written since, as the first since it was promoted, may
            # have been replayed already. Then the next answers agree.
            if not followed:
                self._refusals.append(refusal)
            return refusal
        if state.writable and not state.equals:
            return "it takes writes now"
        if known.position.parts and not state.position.parts:
            return f"it has nothing of {primary}"
        return self._delay_of(server)

    def _refusal(self, server: Server, state: ServerState, primary: str, known: ServerState) -> str | None:
        """Say why a server must not have been given as a replica of this primary, if so."""
        if not state.follows(known):
            return f"{server.name} is not a replica of {primary}."
        # One that is named among the primaries may be one that was left.
        if state.writable and not (state.equals or server.has_followed or server in self._primaries):
            return f"{server.name} takes writes itself: it is no replica."
        return None

    def _delay_of(self, server: Server) -> str | None:
        """Say that a replica is too far behind, if so."""
        state = server.state
        replayed_s = state.replayed_s if state is not None else None
        if server.as_of == BEGINNING and (replayed_s or 0) > self.limits.max_lag_s:
            return NOT_CAUGHT_UP  # it may be idle as well as late
        lag_s = self.lag_s(server)
        return f"it is {lag_s:.1f} s behind" if lag_s > self.limits.max_lag_s else None

    def lag_s(self, server: Server) -> float:
        """Return how many seconds a replica is behind the primary, as far as both were asked."""
        first = min(self._since, self.writable.current.asked_at)
        return max(0.0, self.writable.current.asked_at - max(server.as_of, first))

    # -- the end ---------------------------------------------------------------------------------

    async def dispose(self) -> None:
        """Close the connections of this loop, and end what asks the servers."""
        self._usable = []
        sampling = self._samplings.pop(asyncio.get_running_loop(), None)
        if sampling is not None:
            await sampling.stop()
        for server in self.replicas:
            if server.engines is not None:
                await server.engines.dispose()


def _busy(server: Server) -> int:
    return server.busy
