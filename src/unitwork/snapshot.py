"""This module names what `db.snapshot()` tells of one moment: servers, pools, and who waits for whom.

Durations are in seconds, up to that moment. No value of a parameter is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "HeldConnection",
    "Ping",
    "PoolNow",
    "PoolStatus",
    "ServerNow",
    "ServerStatus",
    "SessionNow",
    "Snapshot",
    "Waiting",
    "WriterNow",
]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody who waits. `who` is a task by its name, a block as messages call it, or both."""

    who: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class HeldConnection:
    """A connection that a block, a unit of work or a single statement has.

    Attributes:
        owner: Whose it is, as messages call it.
        opener: `file:line` of the code that has opened the block, where it is known.
        held_s: For how long.
        last_statement: What was sent on it last, cut if it is long; None if nothing yet.
        in_transaction: Whether a transaction is open on it.
    """

    owner: str
    opener: str | None
    held_s: float
    last_statement: str | None
    in_transaction: bool


@dataclass(frozen=True, slots=True)
class WriterNow:
    """Who has the only write lock of an SQLite file in this process, and who wants it, in order."""

    owner: str
    write_s: float
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class PoolNow:
    """The connections of one server that one event loop uses.

    Attributes:
        size: How many the pool keeps open; None for a pool without a size.
        overflow: How many are open besides.
        capacity: The most that it gives out at once; None is no limit.
        idle: How many nobody has.
        in_use: How many somebody has: those in `held`, and those taken by hand, such as from `db.engine`.
        held: Those that this library has taken, the longest held first.
        waiting: Who waits for one, in order.
        writer: Who writes, where only one can.
    """

    size: int | None
    overflow: int
    capacity: int | None
    idle: int
    in_use: int
    held: tuple[HeldConnection, ...]
    waiting: tuple[Waiting, ...]
    writer: WriterNow | None


@dataclass(frozen=True, slots=True)
class ServerNow:
    """One server of a Database.

    Attributes:
        address: Its `host:port`; None for SQLite.
        role: "primary" takes the writes now; "replica" takes reads; "spare" may become the primary.
        reachable: Whether it has answered when it was asked last; None where servers are not asked, or it was
            not yet.
        problem: Why it gets no work now; None if nothing is known to be wrong.
        lag_s: How many seconds a replica is behind the primary, at most; None if it is not known.
        pools: Its connections, by the event loop that uses them; none for a spare.
    """

    address: str | None
    role: str
    reachable: bool | None
    problem: str | None
    lag_s: float | None
    pools: tuple[PoolNow, ...]


@dataclass(frozen=True, slots=True)
class SessionNow:
    """A session that somebody waits for.

    Attributes:
        task: The task whose operation runs; None if none does, and a block inside has to end first.
        owner: The block that may use it now, as messages call it.
        waiting: Who waits, in order.
    """

    task: str | None
    owner: str
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one Database does at this moment, in all event loops of the process.

    Attributes:
        database: Its name.
        servers: The primary first.
        sessions: Those that somebody waits for.
    """

    database: str
    servers: tuple[ServerNow, ...]
    sessions: tuple[SessionNow, ...]


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The connections of a pool. `capacity` is the most that it gives out at once; None is no limit."""

    checked_out: int
    idle: int
    capacity: int | None


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known of one server.

    Attributes:
        name: Its host and port.
        role: "primary" takes the writes now; "replica" takes reads; "spare" may become the primary.
        problem: Why it gets no work now; None if nothing is wrong.
        position: How far it has come, by stream of changes; empty if it does not say.
        lag_s: How many seconds it is behind the primary, at most; None for the primary and spares.
        latency_ms: How long its last answer took, in milliseconds; None if it has not answered.
        pool: Its connections here; None for a spare, which has none.
    """

    name: str
    role: str
    problem: str | None
    position: str
    lag_s: float | None
    latency_ms: float | None
    pool: PoolStatus | None


@dataclass(frozen=True, slots=True)
class Ping:
    """The answer of a server. `latency_ms` is one round trip in milliseconds.

    `servers` tells of each one, where a Database has several.
    """

    server_version: str
    latency_ms: float
    servers: tuple[ServerStatus, ...] = ()
