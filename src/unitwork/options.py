"""This module says what a caller may ask of a block, and how blocks end."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast

from typing_extensions import Unpack

from unitwork.errors import OptionError

__all__ = [
    "Isolation",
    "Lane",
    "Propagation",
    "RetryPolicy",
    "TransactionKeywords",
    "TransactionOptions",
]


class Propagation(enum.Enum):
    """What a block does when a transaction is already open, as in Spring."""

    __hash__ = object.__hash__

    REQUIRED = "REQUIRED"
    """Join the open transaction, or begin one."""
    REQUIRES_NEW = "REQUIRES_NEW"
    """Suspend the open transaction and begin another on its own connection."""
    NESTED = "NESTED"
    """A savepoint in the open transaction, or begin one."""
    SUPPORTS = "SUPPORTS"
    """Join the open transaction; without one, each statement commits by itself."""
    NOT_SUPPORTED = "NOT_SUPPORTED"
    """Suspend the open transaction; each statement commits by itself."""
    MANDATORY = "MANDATORY"
    """Join the open transaction; without one, refuse."""
    NEVER = "NEVER"
    """Without a transaction, each statement commits by itself; with one, refuse."""


class Isolation(enum.Enum):
    """The isolation level of a transaction. A database may give a stronger one."""

    READ_UNCOMMITTED = "READ UNCOMMITTED"
    READ_COMMITTED = "READ COMMITTED"
    REPEATABLE_READ = "REPEATABLE READ"
    SERIALIZABLE = "SERIALIZABLE"


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


class Lane(enum.Enum):
    """How a read reaches the database. The result is the same on each; fastest first."""

    DRIVER = "driver"
    """Outside of transactions: one statement on the connection of the driver itself."""
    FUSED = "fused"
    """On the connection of the session; rows become entities or records past the ORM's machinery."""
    SESSION = "session"
    """Through the session, as SQLAlchemy does it: always right."""

    @classmethod
    def of(cls, value: Lane | LaneName) -> Lane:
        """Return the lane of this name.

        Raises:
            OptionError: There is none.
        """
        return _member(cls, "fastest_lane", value)


LaneName: TypeAlias = Literal["driver", "fused", "session"]
PropagationName: TypeAlias = Literal[
    "REQUIRED", "REQUIRES_NEW", "NESTED", "SUPPORTS", "NOT_SUPPORTED", "MANDATORY", "NEVER"
]
IsolationName: TypeAlias = Literal["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
ErrorClasses: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | list[type[BaseException]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a transactional function is tried again when the database asks for it.

    Tried again is what failed by a serialization failure, a deadlock, a lock timeout or a busy
    SQLite file, and what lost its connection, or got none, before COMMIT was sent; each attempt is a
    transaction of its own. A COMMIT whose outcome is unknown never is. A server that restarts is away
    for seconds: that takes more attempts and longer waits than the defaults.

    Args:
        attempts: Attempts in all, from 1.
        first_delay_s: Longest wait in seconds before the second attempt; it doubles each time.
        longest_delay_s: The wait in seconds never grows beyond this.
        total_s: No new attempt after this many seconds; None is no limit.

    Raises:
        OptionError: A number is out of range.

    Examples:
        >>> RetryPolicy(attempts=5, total_s=10).attempts
        5
    """

    attempts: int = 3
    first_delay_s: float = 0.02
    longest_delay_s: float = 1.0
    total_s: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise OptionError("attempts", self.attempts, ["a number from 1"])
        if self.first_delay_s < 0 or self.longest_delay_s < 0:
            raise OptionError("delay", min(self.first_delay_s, self.longest_delay_s), ["0 or more seconds"])


class ServerLimits:
    """How long a Database of several servers waits for what, in seconds; see `Database`.

    Raises:
        OptionError: A number is out of range.
    """

    __slots__ = ("failover_s", "max_lag_s", "replica_wait_s")

    def __init__(
        self, *, replica_wait_s: float = 0.05, max_lag_s: float = 30.0, failover_s: float = 10.0
    ) -> None:
        self.replica_wait_s = replica_wait_s
        self.max_lag_s = max_lag_s
        self.failover_s = failover_s
        for name in ("replica_wait_s", "max_lag_s", "failover_s"):
            if not getattr(self, name) >= 0:
                raise OptionError(name, getattr(self, name), ["0 or more seconds"])


class TransactionKeywords(TypedDict, total=False):
    """The keywords of `db.transaction()` and `@transactional`."""

    propagation: Propagation | PropagationName
    read_only: bool
    fresh: bool
    isolation: Isolation | IsolationName | None
    timeout: float | None
    durable: bool
    rollback_for: ErrorClasses
    no_rollback_for: ErrorClasses


class SchemaKeywords(TypedDict, total=False):
    """The keywords of `schema_for` and `pydantic_schema`."""

    purpose: Literal["read", "create", "update"]
    include: Collection[str]
    exclude: Collection[str]
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOptions:
    """How a transaction block behaves. Lives: as long as the declaration that it belongs to.

    Examples:
        >>> TransactionOptions.of(propagation="NESTED").propagation
        <Propagation.NESTED: 'NESTED'>
    """

    propagation: Propagation = Propagation.REQUIRED
    read_only: bool = False
    fresh: bool = False
    isolation: Isolation | None = None
    timeout_s: float | None = None
    durable: bool = False
    rollback_for: tuple[type[BaseException], ...] = ()
    no_rollback_for: tuple[type[BaseException], ...] = ()

    @classmethod
    def of(cls, **keywords: Unpack[TransactionKeywords]) -> TransactionOptions:
        """Check and convert the keywords that a person wrote.

        Raises:
            OptionError: A name is unknown, a number is out of range, or a class is no exception.
        """
        if not keywords:
            return DEFAULT_OPTIONS
        asked = keywords.get("propagation")
        if len(keywords) == 1 and isinstance(asked, (str, Propagation)) and asked in _OF_PROPAGATION:
            return _OF_PROPAGATION[asked]
        if len(keywords) == 1 and keywords.get("read_only") is True:
            return _READ_ONLY
        _refuse_unknown(keywords)
        return cls(
            propagation=_member(
                Propagation, "propagation", keywords.get("propagation", Propagation.REQUIRED)
            ),
            read_only=keywords.get("read_only", False),
            fresh=keywords.get("fresh", False),
            isolation=_isolation(keywords.get("isolation")),
            timeout_s=_seconds("timeout", keywords.get("timeout")),
            durable=keywords.get("durable", False),
            rollback_for=_error_classes("rollback_for", keywords.get("rollback_for", ())),
            no_rollback_for=_error_classes("no_rollback_for", keywords.get("no_rollback_for", ())),
        )


DEFAULT_OPTIONS = TransactionOptions()
_READ_ONLY = TransactionOptions(read_only=True)
_OF_PROPAGATION: dict[object, TransactionOptions] = {
    name: TransactionOptions(propagation=each) for each in Propagation for name in (each, each.value)
}
"""What a block that says no more than this has; it may be entered often."""

_CENTURY_S = 100 * 365.25 * 86_400
_KEYWORDS = frozenset(TransactionKeywords.__annotations__)
_Member = TypeVar("_Member", bound=enum.Enum)


def _refuse_unknown(keywords: TransactionKeywords) -> None:
    unknown = [name for name in keywords if name not in _KEYWORDS]
    if unknown:
        raise TypeError(
            f"A transaction has no option {unknown[0]!r}.\n  Fix: use {', '.join(sorted(_KEYWORDS))}."
        )


def _member(kind: type[_Member], option: str, value: object) -> _Member:
    if isinstance(value, kind):
        return value
    wanted = str(value).upper().replace(" ", "_")
    found = kind.__members__.get(wanted)
    if found is None:
        raise OptionError(option, value, [repr(member.value) for member in kind])
    return found


def _isolation(value: object) -> Isolation | None:
    return None if value is None else _member(Isolation, "isolation", value)


def _seconds(option: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise OptionError(option, value, ["a number of seconds above 0"])
    # Longer than a century is no limit, and more than timers and databases can count.
    return float(value) if value < _CENTURY_S else None


def _error_classes(option: str, value: object) -> tuple[type[BaseException], ...]:
    classes: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list | set | frozenset) else (value,)
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise OptionError(option, item, ["an exception class", "a tuple of them"])
    return cast("tuple[type[BaseException], ...]", classes)
