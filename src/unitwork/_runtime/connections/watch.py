"""This module tells observers what happens on one Database."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar

from unitwork._later import later
from unitwork._logic.plan import Step
from unitwork._logic.routing import LaneRefusal
from unitwork._runtime import context
from unitwork._runtime.connections.places import opener_of
from unitwork._runtime.connections.pool_watch import PoolWatch
from unitwork._runtime.connections.statements import StatementWatch
from unitwork.options import Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from unitwork._runtime.connections.listeners import EngineListeners
    from unitwork.dialects import Backend
    from unitwork.events import Event, Observer
    from unitwork.options import TransactionOptions


if TYPE_CHECKING:
    from unitwork import events
else:  # who is not watched tells nothing
    events = later("unitwork.events")

R = TypeVar("R")

_OUTSIDE = LaneRefusal("the session is asked outside of a block")
_block_ids = itertools.count(1)
_KEPT = frozenset({Outcome.COMMITTED, Outcome.SAVEPOINT_KEPT})
"""Then what had condemned a block was undone before its end, such as by a savepoint."""
_work_ids = itertools.count(1)


class WatchedBlock(Protocol):
    """What is told of a block.

    Attributes:
        watched: Its number and when it was entered; None where nobody watched.
    """

    name: str
    options: TransactionOptions
    read_only_by: str | None
    outcome: Outcome
    watched: tuple[int, float] | None


class WatchedPlace(Protocol):
    """An engine of one event loop, as far as it is watched."""

    engine: AsyncEngine
    listeners: EngineListeners
    pool_watch: PoolWatch | None


class Work:
    """A unit of work that observers were told of. Lives: until they are told of its end."""

    __slots__ = ("error", "number", "started")

    def __init__(self) -> None:
        self.number = next(_work_ids)
        self.started = time.perf_counter()
        self.error: BaseException | None = None
        """What its end has raised, if that was before it is left."""


class Connected(Protocol):
    """What may have a connection."""

    connection: Connection | None


class Watch:
    """The observers of one Database. Without one, nothing is measured and no listener is installed.

    Args:
        database: What the Database is called.
        source: What blocks and units of work on it know it by.
        backend: What sends by itself what SQLAlchemy's cursors would take longer for.

    Attributes:
        active: Whether anybody observes.
        database: What the Database is called.
    """

    def __init__(self, database: str, source: object, backend: Backend) -> None:
        self.active = False
        self._backend = backend
        self.database = database
        self._source = source
        self.statements = StatementWatch(database, self.tell, self.place)
        self._changing = threading.Lock()
        """Held by whoever comes or goes, in any thread."""
        self._observers: list[Observer] = []
        self._places: list[tuple[EngineListeners, PoolWatch]] = []
        self._failed: list[Observer] = []
        self._condemned: dict[int, str] = {}
        """What has condemned the blocks that are open, by their number."""

    def add(self, observer: Observer) -> None:
        """Tell this observer of all that happens from now on."""
        with self._changing:
            if not self._observers:
                for listeners, pool in self._places:
                    self.statements.listen(listeners)
                    pool.begin()
                self._backend.tell = self.statements.begun_or_ended
            self._observers.append(observer)
            self.active = True

    def remove(self, observer: Observer) -> None:
        """Tell this observer no more.

        Raises:
            ValueError: It is none.
        """
        with self._changing:
            # By identity: two that are equal are two.
            place = next((place for place, each in enumerate(self._observers) if each is observer), None)
            if place is None:
                message = (
                    f"{observer!r} does not observe database {self.database!r}: "
                    "pass the very object that was given to `observe`, and once for each time."
                )
                raise ValueError(message)
            del self._observers[place]
            self._failed = [known for known in self._failed if known is not observer]
            self.active = bool(self._observers)
            if not self.active:
                for listeners, pool in self._places:
                    self.statements.ignore(listeners)
                    pool.end()
                self._backend.tell = None

    def equip(self, place: WatchedPlace) -> None:
        """Watch the statements and the connections of one more engine."""
        pool = PoolWatch(place.engine.sync_engine, self.database, self.tell, self.place)
        place.pool_watch = pool
        with self._changing:
            self._places.append((place.listeners, pool))
            if self.active:
                self.statements.listen(place.listeners)
                pool.begin()

    def no_faster(self, refusal: LaneRefusal | None) -> None:
        """Take note of why the next read of this task takes no faster lane; None: it takes the fastest."""
        if self.active:
            self.statements.no_faster(refusal)

    def outside_of_blocks(self) -> None:
        """Take note that a session is asked where it has to do all by itself, unless more is known."""
        if self.active and not self.statements.has_refusal():
            self.statements.no_faster(_OUTSIDE)

    def is_taken(self, answer: R | LaneRefusal) -> TypeGuard[R]:
        """Say whether a lane has answered or is prepared to, or take note of why not."""
        refusal = answer if isinstance(answer, LaneRefusal) else None
        self.no_faster(refusal)
        return refusal is None

    def place(self) -> tuple[int | None, int | None]:
        """Return the numbers of the block and the unit of work that the calling code is in.

        Wakes no unit of work that sleeps.
        """
        scope = context.last(self._source)
        watched = scope.watched if scope is not None and not scope.asleep else None
        work = context.innermost_work(self._source)
        return watched[0] if watched is not None else None, work.number if work is not None else None

    def work_started(self, name: str) -> Work:
        """Tell that a unit of work began; return what is to be told of at its end."""
        work = Work()
        self.tell(events.WorkStarted(work.number, self.database, name))
        return work

    def work_ended(self, work: Work, error: BaseException | None) -> None:
        """Tell that a unit of work has ended."""
        failure = error if error is not None else work.error
        duration_s = time.perf_counter() - work.started
        self.tell(events.WorkEnded(work.number, self.database, duration_s, _class_of(failure)))

    def entered(self, scope: WatchedBlock, step: Step, outer: WatchedBlock | None) -> tuple[int, float]:
        """Tell that a block was entered; return its number and the time."""
        number = next(_block_ids)
        parent = outer.watched[0] if outer is not None and outer.watched is not None else None
        self.tell(
            events.BlockEntered(
                block_id=number,
                parent_id=parent,
                database=self.database,
                name=scope.name,
                propagation=scope.options.propagation.value,
                step=step.value,
                read_only=scope.read_only_by is not None,
                opener=opener_of(scope.name),
                work_id=self.place()[1],
            )
        )
        return number, time.perf_counter()

    def refused(self, scope: WatchedBlock, outer: WatchedBlock | None, error: BaseException) -> None:
        """Tell that a block could not be entered."""
        scope.watched = self.entered(scope, Step.REFUSE, outer)
        self.ended(scope, error)

    def retried(self, scope: WatchedBlock, attempt: int, delay_s: float, error: BaseException) -> None:
        """Tell that a block is tried again."""
        number = scope.watched[0] if scope.watched is not None else None
        self.tell(events.BlockRetried(number, self.database, attempt, delay_s, type(error).__name__))

    def ending(self, transaction: Connected, verb: str, started: float) -> None:
        """Tell that a transaction was committed or rolled back; drivers report it to nobody."""
        connection = transaction.connection
        if self.active and connection is not None:
            self.statements.begun_or_ended(verb, started, connection)

    def ended(self, scope: WatchedBlock, error: BaseException | None) -> None:
        """Tell that a block was left."""
        if scope.watched is None:
            return
        number, started = scope.watched
        condemned_by = self._condemned.pop(number, None)
        self.tell(
            events.BlockEnded(
                block_id=number,
                database=self.database,
                outcome=scope.outcome,
                duration_s=time.perf_counter() - started,
                error=_class_of(error),
                condemned_by=None if scope.outcome in _KEPT else condemned_by,
            )
        )

    def hook_ran(
        self, block_id: int | None, hook: tuple[str, str], duration_s: float, error: BaseException | None
    ) -> None:
        """Tell that a function ran that waited for the end of a transaction: when it did, and its name."""
        phase, name = hook
        self.tell(events.HookRan(block_id, self.database, phase, name, duration_s, _class_of(error)))

    def condemned(self, block_id: int | None, by: str, error: BaseException | None, *, first: bool) -> None:
        """Tell that a block can only roll back from now on, or keep what messages call the reason."""
        if block_id is not None:
            self._condemned[block_id] = by
        if first:
            self.tell(events.BlockCondemned(block_id, self.database, by, _class_of(error)))

    def swallowed(self, place: str, error: BaseException) -> None:
        """Tell of an error that is not raised, and where it came from."""
        if self.active:
            self.tell(events.ErrorSwallowed(self.database, place, type(error).__name__))

    def tell(self, what: Event) -> None:
        """Tell all observers. One that fails changes nothing of what is observed."""
        for observer in tuple(self._observers):
            try:
                observer.notice(what)
            except (KeyboardInterrupt, SystemExit):
                raise  # they end the program, not what is observed
            except BaseException as error:  # noqa: BLE001  # told, not raised
                self._tell_failure(observer, error)

    def _tell_failure(self, observer: Observer, error: BaseException) -> None:
        """Tell of the first failure of an observer what hears of failed callbacks: the loop's handler."""
        if any(observer is known for known in self._failed):
            return
        self._failed.append(observer)
        message = f"An observer of database {self.database!r} failed; it is told of more, but this is not."
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            sys.excepthook(type(error), error, error.__traceback__)
            return
        loop.call_exception_handler({"message": message, "exception": error, "observer": observer})


def _class_of(error: BaseException | None) -> str | None:
    return None if error is None else type(error).__name__
