"""This module names what happened: frozen records, and the Observer that is told of them.

Durations are in seconds. An event is told at the moment when what it tells of has happened, in the task that
did it, so what took `duration_s` began that long ago. No event keeps a value of a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from unitwork.options import Outcome

if TYPE_CHECKING:
    from unitwork.options import Lane

__all__ = [
    "BlockCondemned",
    "BlockEnded",
    "BlockEntered",
    "BlockRetried",
    "ConnectionReturned",
    "ConnectionTaken",
    "ErrorSwallowed",
    "Event",
    "HookRan",
    "Observer",
    "Outcome",
    "PoolTimedOut",
    "ServerChosen",
    "StatementExecuted",
    "TurnAwaited",
    "WorkEnded",
    "WorkStarted",
]


@dataclass(frozen=True, slots=True)
class WorkStarted:
    """A unit of work began: a request, a message, a job or a script. Told where somebody observes by then.

    `work_id` counts up within the process. A unit of several Databases is told once for each.
    """

    work_id: int
    database: str
    name: str


@dataclass(frozen=True, slots=True)
class WorkEnded:
    """A unit of work ended. `error` is the exception that left it, as the name of its class."""

    work_id: int
    database: str
    duration_s: float
    error: str | None


@dataclass(frozen=True, slots=True)
class BlockEntered:
    """A transaction block was entered.

    `block_id` counts up within the process; `parent_id` is that of the block around it on the same
    Database, or None. `step` says in one or two words what the propagation led to. `opener` is `file:line`
    of the code that opened it, where it is known. `work_id` is that of the unit of work around it.
    """

    block_id: int
    parent_id: int | None
    database: str
    name: str
    propagation: str
    step: str
    read_only: bool
    opener: str | None = None
    work_id: int | None = None


@dataclass(frozen=True, slots=True)
class StatementExecuted:
    """One statement went to the database. `duration_s` is in seconds; parameters are never kept.

    `rows` is how many came back, or were changed; None where the driver does not say. `lane` is the way it
    took, and `refusal` why it took no faster one, None where it took the fastest there is. `server` is the
    `host:port` that it went to, None for SQLite. `work_id` is that of the unit of work around it. `many` is
    how often one text was sent with other values at once. `code` is what the database has answered where it
    failed: an SQLSTATE of PostgreSQL, else the number of the error.
    """

    block_id: int | None
    database: str
    sql: str
    duration_s: float
    error: str | None
    rows: int | None = None
    lane: Lane | None = None
    refusal: str | None = None
    server: str | None = None
    work_id: int | None = None
    many: int = 1
    code: str | None = None


@dataclass(frozen=True, slots=True)
class BlockCondemned:
    """A block can only roll back from now on: something failed that took part in it.

    `by` is what failed, as messages call it; `error` the name of the exception's class.
    """

    block_id: int | None
    database: str
    by: str
    error: str | None


@dataclass(frozen=True, slots=True)
class BlockEnded:
    """A transaction block was left. `error` is the exception that left it, as text of its class.

    `condemned_by` is what made a commit impossible, as messages call it.
    """

    block_id: int
    database: str
    outcome: Outcome
    duration_s: float
    error: str | None
    condemned_by: str | None = None


@dataclass(frozen=True, slots=True)
class BlockRetried:
    """A block that had failed is tried again. `attempt` counts from 2; `delay_s` is in seconds."""

    block_id: int | None
    database: str
    attempt: int
    delay_s: float
    error: str


@dataclass(frozen=True, slots=True)
class HookRan:
    """A function ran that waited for the end of a transaction.

    `phase` is "before commit", "after commit" or "after rollback"; `name` the function's qualified name.
    """

    block_id: int | None
    database: str
    phase: str
    name: str
    duration_s: float
    error: str | None


@dataclass(frozen=True, slots=True)
class ConnectionTaken:
    """A connection of the pool was checked out, after `wait_s` seconds of waiting or opening.

    `connection_id` is the same for one connection to the database as long as it lives. `opened` says that it
    was opened for this, which `wait_s` includes. `server` is its `host:port`, None for SQLite.
    """

    block_id: int | None
    database: str
    connection_id: int
    server: str | None
    wait_s: float
    opened: bool


@dataclass(frozen=True, slots=True)
class ConnectionReturned:
    """A connection was checked in after `use_s` seconds; `discarded` says that it was closed instead."""

    database: str
    connection_id: int
    server: str | None
    use_s: float
    discarded: bool


@dataclass(frozen=True, slots=True)
class PoolTimedOut:
    """Nobody returned a connection to the pool within `wait_s` seconds."""

    block_id: int | None
    database: str
    server: str | None
    wait_s: float


@dataclass(frozen=True, slots=True)
class TurnAwaited:
    """An operation waited `wait_s` seconds until another task was done with the session.

    `holder` is what it waited for, as messages call it. A wait for SQLite's only writer is told, too.
    """

    block_id: int | None
    database: str
    wait_s: float
    holder: str


@dataclass(frozen=True, slots=True)
class ServerChosen:
    """A read-only block or a read chose its server, where there are replicas.

    `role` is "replica" or "primary"; `reason` says why not a replica, None for one. `wait_s` is how long a
    replica was waited for that has what was written.
    """

    block_id: int | None
    database: str
    server: str | None
    role: str
    reason: str | None
    wait_s: float


@dataclass(frozen=True, slots=True)
class ErrorSwallowed:
    """Something failed that is not raised, since it would change what has happened: `place` says where."""

    database: str
    place: str
    error: str


Event: TypeAlias = (
    WorkStarted
    | WorkEnded
    | BlockEntered
    | StatementExecuted
    | BlockCondemned
    | BlockEnded
    | BlockRetried
    | HookRan
    | ConnectionTaken
    | ConnectionReturned
    | PoolTimedOut
    | TurnAwaited
    | ServerChosen
    | ErrorSwallowed
)


class Observer(Protocol):
    """Something that wants to know what transactions do. It must neither block nor raise.

    Take the events that you want and pass over all others: there may be more kinds in a later version.
    """

    def notice(self, event: Event, /) -> None:
        """Take one event. Called in the order in which things happened, in the task that did them."""
