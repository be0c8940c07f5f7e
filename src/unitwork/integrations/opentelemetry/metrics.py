"""This module counts and measures what happens, by the semantic conventions of OpenTelemetry."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from unitwork.events import (
    BlockEnded,
    BlockRetried,
    ConnectionReturned,
    ConnectionTaken,
    ErrorSwallowed,
    HookRan,
    Outcome,
    PoolTimedOut,
    ServerChosen,
    TurnAwaited,
)
from unitwork.integrations.opentelemetry.attributes import (
    DATABASE,
    ERROR_TYPE,
    OUTCOME,
    PLACE,
    ROLE,
    Attributes,
    given,
    of_server,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider

    from unitwork.database import Database
    from unitwork.events import Event, StatementExecuted
    from unitwork.snapshot import PoolNow

_POOL = "db.client.connection.pool.name"
_STATE = "db.client.connection.state"
_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]
"""In seconds, as the conventions advise."""
_UNEXPECTED = "UnexpectedRollbackError"


class Metrics:
    """The metrics of the Databases that one observer is told of. Lives: as the observer."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self._instruments = _instruments_of(provider)

    def begin(self, database: Database) -> None:
        """Tell of the pool of a Database."""
        watched = self._instruments.databases
        watched[database] = watched.get(database, 0) + 1

    def end(self, database: Database) -> None:
        """Tell of it no more."""
        watched = self._instruments.databases
        watched[database] -= 1
        if not watched[database]:
            del watched[database]

    def statement(self, event: StatementExecuted, attributes: Attributes) -> None:
        """Measure one statement."""
        self._instruments.operation.record(event.duration_s, attributes)

    def take(self, event: Event) -> None:  # noqa: C901  # one line for each kind
        """Count and measure what happened."""
        here: Attributes = {DATABASE: event.database}
        pool: Attributes = {_POOL: event.database}
        its = self._instruments
        match event:
            case BlockEnded():
                told = given({OUTCOME: event.outcome.name.lower(), ERROR_TYPE: event.error})
                its.blocks.record(event.duration_s, here | told)
                own = event.condemned_by is not None and event.outcome is Outcome.ROLLED_BACK
                if own and event.error == _UNEXPECTED:
                    its.unexpected.add(1, here)
            case BlockRetried():
                its.retries.add(1, here | {ERROR_TYPE: event.error})
            case HookRan():
                told = given({"unitwork.hook.phase": event.phase, ERROR_TYPE: event.error})
                its.hooks.record(event.duration_s, here | told)
            case ConnectionTaken():
                where = pool | of_server(event.server)
                its.wait.record(event.wait_s, where)
                if event.opened:
                    its.create.record(event.wait_s, where)
            case ConnectionReturned():
                its.use.record(event.use_s, pool | of_server(event.server))
            case PoolTimedOut():
                its.timeouts.add(1, pool | of_server(event.server))
            case ServerChosen():
                its.choices.add(1, here | {ROLE: event.role} | of_server(event.server))
            case TurnAwaited():
                its.turns.record(event.wait_s, here)
            case ErrorSwallowed():
                its.swallowed.add(1, here | {PLACE: event.place, ERROR_TYPE: event.error})
            case _:
                pass


class _Instruments:
    """What one meter provider collects. Lives: as the provider: one name is one instrument there."""

    def __init__(self, meter: Meter) -> None:
        self.databases: _Watched = weakref.WeakKeyDictionary()
        """Whose pools are told of, and by how many observers; none is kept alive."""
        self._meter = meter
        duration = self._seconds
        self.operation = duration("db.client.operation.duration", "Duration of database client operations.")
        self.wait = duration("db.client.connection.wait_time", "Time to obtain an open connection.")
        self.create = duration("db.client.connection.create_time", "Time to create a new connection.")
        self.use = duration("db.client.connection.use_time", "Time between borrowing and returning.")
        self.blocks = duration("unitwork.block.duration", "Time from the entry of a block to its end.")
        self.hooks = duration("unitwork.hook.duration", "Time of functions that wait for a transaction.")
        self.turns = duration("unitwork.turn.wait_time", "Time to wait for another task's operation.")
        count = self._count
        self.timeouts = count("db.client.connection.timeouts", "{timeout}", "Waits for a connection in vain.")
        self.retries = count("unitwork.block.retries", "{retry}", "Blocks that are tried again.")
        self.unexpected = count(
            "unitwork.block.unexpected_rollbacks", "{rollback}", "Blocks that had to roll back unasked."
        )
        self.choices = count("unitwork.server.choices", "{choice}", "Servers that reads have gone to.")
        self.swallowed = count("unitwork.errors.swallowed", "{error}", "Failures that are not raised.")
        self._observe_pools()

    def _seconds(self, name: str, description: str) -> Histogram:
        return self._meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=_BUCKETS
        )

    def _count(self, name: str, unit: str, description: str) -> Counter:
        return self._meter.create_counter(name, unit, description)

    def _observe_pools(self) -> None:
        for name, unit, description, numbers in (
            ("count", "{connection}", "Connections by their state.", _by_state),
            ("idle.max", "{connection}", "The most idle connections that are kept.", _kept),
            ("idle.min", "{connection}", "The fewest idle connections that are kept.", _none_kept),
            ("max", "{connection}", "The most open connections.", _capacity),
            ("pending_requests", "{request}", "Operations that wait for a connection.", _waiting),
        ):
            told = _Told(self.databases, numbers)
            self._meter.create_observable_up_down_counter(
                f"db.client.connection.{name}", [told], unit, description
            )


_Watched: TypeAlias = "weakref.WeakKeyDictionary[Database, int]"
_Numbers: TypeAlias = "dict[str, int | None]"
"""By the state of the connections; of all of them by an empty text."""


def _by_state(pools: Sequence[PoolNow]) -> _Numbers:
    return {"used": sum(pool.in_use for pool in pools), "idle": sum(pool.idle for pool in pools)}


def _kept(pools: Sequence[PoolNow]) -> _Numbers:
    return {"": _sum(pool.size for pool in pools)}


def _none_kept(_pools: Sequence[PoolNow]) -> _Numbers:
    return {"": 0}


def _capacity(pools: Sequence[PoolNow]) -> _Numbers:
    return {"": _sum(pool.capacity for pool in pools)}


def _waiting(pools: Sequence[PoolNow]) -> _Numbers:
    return {"": sum(len(pool.waiting) for pool in pools)}


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None if one of them is no number."""
    found = list(numbers)
    return None if None in found else sum(number or 0 for number in found)


@dataclass(frozen=True, slots=True)
class _Told:
    """Gives numbers of all pools when a reader of metrics asks, which may be in another thread.

    Each server of a Database has a pool for each event loop; they are told as one.
    """

    databases: _Watched
    numbers: Callable[[Sequence[PoolNow]], _Numbers]

    def __call__(self, _options: CallbackOptions) -> Iterator[Observation]:
        """Return what there is to tell."""
        for database in list(self.databases):
            for server in database.snapshot().servers:
                where = {_POOL: database.name, **of_server(server.address)}
                for state, number in self.numbers(server.pools).items() if server.pools else ():
                    if number is not None:
                        yield Observation(number, where | ({_STATE: state} if state else {}))


_made: weakref.WeakKeyDictionary[MeterProvider, _Instruments] = weakref.WeakKeyDictionary()


def _instruments_of(provider: MeterProvider | None) -> _Instruments:
    """Return the instruments of a provider: several observers share them, and each pool is told once."""
    if provider is None:
        return _global_instruments()
    found = _made.get(provider)
    if found is None:
        found = _made[provider] = _Instruments(provider.get_meter("unitwork"))
    return found


@cache
def _global_instruments() -> _Instruments:
    """Return those of the global provider, which may be set later: what is made before is then connected."""
    return _Instruments(metrics.get_meter("unitwork"))
