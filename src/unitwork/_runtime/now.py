"""This module tells what a Database does at this moment. It sends nothing, and waits for nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from unitwork._runtime.connections.addresses import shown_address
from unitwork._runtime.connections.holders import short
from unitwork._runtime.connections.places import written_at
from unitwork._runtime.connections.pool import waiting_for
from unitwork._runtime.connections.server import NOT_ASKED
from unitwork.snapshot import HeldConnection, PoolNow, ServerNow, SessionNow, Snapshot, Waiting, WriterNow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unitwork._runtime.connections.engines import Engines
    from unitwork._runtime.connections.holders import Holder
    from unitwork._runtime.connections.loop_engine import LoopEngine
    from unitwork._runtime.connections.server import Server
    from unitwork._runtime.connections.servers import Servers
    from unitwork._runtime.source import Source

T = TypeVar("T")

_ATTEMPTS = 100


def snapshot(source: Source) -> Snapshot:
    """Return what is open and who waits; may be asked in any thread."""
    servers = source.servers
    if servers is None:
        known = [ServerNow(shown_address(source.url), "primary", None, None, None, _pools(source.engines))]
    else:
        known = [_server(source, servers, server) for server in servers.all]
        known.sort(key=lambda server: server.role != "primary")
    return Snapshot(source.name, tuple(known), tuple(_sessions(source)))


def _server(source: Source, servers: Servers, server: Server) -> ServerNow:
    is_primary = server is servers.writable.current
    engines = source.engines if is_primary else server.engines
    answered = server.state is not None
    return ServerNow(
        address=shown_address(server.url),
        role="primary" if is_primary else "spare" if engines is None else "replica",
        reachable=None if not answered and server.problem == NOT_ASKED else answered,
        problem=None if is_primary and answered else server.problem,
        lag_s=None if is_primary or engines is None or not answered else round(servers.lag_s(server), 3),
        pools=() if engines is None else _pools(engines),
    )


def _pools(engines: Engines) -> tuple[PoolNow, ...]:
    return tuple(_pool(place) for place in engines.in_all_loops())


def _pool(place: LoopEngine) -> PoolNow:
    pool: Any = place.engine.pool
    counts = hasattr(pool, "checkedin")
    return PoolNow(
        size=pool.size() if counts else None,
        overflow=max(0, pool.overflow()) if counts else 0,
        capacity=place.capacity(),
        idle=pool.checkedin() if counts else 0,
        in_use=place.in_use(),
        held=tuple(_held(_copied(place.held.values))),
        waiting=tuple(Waiting(who, wait_s) for who, wait_s in _copied(lambda: waiting_for(pool))),
        writer=_writer(place),
    )


def _held(holders: list[Holder]) -> Iterable[HeldConnection]:
    now = time.monotonic()
    for holder in sorted(holders, key=lambda holder: holder.since):
        last = holder.last_statement
        yield HeldConnection(
            owner=str(holder.owner),
            opener=written_at(holder.owner),
            held_s=now - holder.since,
            last_statement=None if last is None else short(last),
            in_transaction=holder.in_transaction,
        )


def _writer(place: LoopEngine) -> WriterNow | None:
    inside, now = place.write_gate.inside, time.monotonic()
    if inside is None:
        return None
    waiting = _copied(place.write_gate.waiting)
    behind = tuple(Waiting(str(writer.owner), now - writer.since) for writer in waiting)
    return WriterNow(str(inside.owner), now - inside.since, behind)


def _sessions(source: Source) -> Iterable[SessionNow]:
    now = time.monotonic()
    for turns in _copied(lambda: source.awaited):
        waiting = turns.waiting()
        if waiting:
            task, owner = turns.runs()
            behind = tuple(Waiting(f"task {who!r} for {block}", now - since) for who, block, since in waiting)
            yield SessionNow(task, str(owner), behind)


def _copied(items: Callable[[], Iterable[T]]) -> list[T]:
    """Copy what another thread may change meanwhile."""
    for _attempt in range(_ATTEMPTS):
        try:
            return list(items())
        except RuntimeError:  # it has changed its size
            continue
    return []
