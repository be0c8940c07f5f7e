"""This module names what happened: frozen records, and the Observer that is told of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["BlockEnded", "BlockEntered", "BlockRetried", "Event", "Observer", "Outcome", "StatementExecuted"]


class Outcome(enum.Enum):
    """How a block ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    SAVEPOINT_KEPT = "savepoint kept"
    SAVEPOINT_UNDONE = "undone to savepoint"
    JOINED = "left to the outer transaction"
    CONDEMNED = "failed: what it joined must be undone"
    NO_TRANSACTION = "ended without a transaction"
    UNKNOWN = "outcome unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class BlockEntered:
    """A transaction block was entered.

    `block_id` counts up within the process; `parent_id` is that of the block around it on the same
    Database, or None. `step` says in one or two words what the propagation led to.
    """

    block_id: int
    parent_id: int | None
    database: str
    name: str
    propagation: str
    step: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class StatementExecuted:
    """One statement went to the database. `duration_s` is in seconds; parameters are never kept."""

    block_id: int | None
    database: str
    sql: str
    duration_s: float
    error: str | None


@dataclass(frozen=True, slots=True)
class BlockEnded:
    """A transaction block was left. `error` is the exception that left it, as text of its class."""

    block_id: int
    database: str
    outcome: Outcome
    duration_s: float
    error: str | None


@dataclass(frozen=True, slots=True)
class BlockRetried:
    """A block that had failed is tried again. `attempt` counts from 2; `delay_s` is in seconds."""

    block_id: int | None
    database: str
    attempt: int
    delay_s: float
    error: str


Event: TypeAlias = BlockEntered | StatementExecuted | BlockEnded | BlockRetried


class Observer(Protocol):
    """Something that wants to know what transactions do. It must neither block nor raise."""

    def notice(self, event: Event, /) -> None:
        """Take one event. Called in the order in which things happened, in the task that did them."""
