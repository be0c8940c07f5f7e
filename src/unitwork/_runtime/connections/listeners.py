"""This module knows who listens to what a faster lane would pass by."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from unitwork._logic.routing import LaneRefusal
from unitwork._sqlalchemy.lazy import LazyConnection
from unitwork._sqlalchemy.private import add_listener, own_listeners, remove_listener

if TYPE_CHECKING:
    from collections.abc import Container, Sized

    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.interfaces import ExceptionContext
    from sqlalchemy.pool import Pool

R = TypeVar("R")

_TRANSLATE = "schema_translate_map"
_LOGGED = LaneRefusal("statements are logged")
_ROUTED = LaneRefusal("its sessions choose an engine by themselves")
_ENGINE_OPTIONS = LaneRefusal("the engine has execution options")
ROUTES = "unitwork_routes"
"""What a class of sessions has of ours that says whether it chooses an engine for a statement by itself."""
_DISPOSED = "engine_disposed"
"""An event of one engine alone."""
LOGGED_AT = 20
"""The level that SQLAlchemy logs statements with; this package itself logs nothing."""

HARMLESS: Counter[str] = Counter()
"""How many of the listeners to each event of `Session` are our own."""

HARMLESS_ON: weakref.WeakKeyDictionary[Session, Counter[str]] = weakref.WeakKeyDictionary()
"""The same, for those of one session alone."""

HIDES: list[Callable[[Any], Any]] = []
"""What such listeners of ours do to a SELECT, so that rows are hidden: what passes them by does it, too."""


class _Events:
    """Some events of one kind of target."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.collections = attrgetter(*names)

    def heard(self, target: Any, ours: Counter[str]) -> str | None:  # noqa: ANN401  # of any kind
        """Return the first event that somebody listens to, besides us."""
        if not any(self.collections(target.dispatch)):
            return None
        return next((name for name, count in self.counts(target) if count > ours[name]), None)

    def counts(self, target: Any) -> list[tuple[str, int]]:  # noqa: ANN401  # as above
        """Return how many listen to each."""
        return [(name, len(getattr(target.dispatch, name))) for name in self.names]


class Watched(NamedTuple):
    """What somebody may listen to."""

    target: Any
    events: _Events
    ours: Counter[str]
    """How many of the listeners to each event are our own."""
    is_used: bool = True
    """Else it has no listeners but those of its class: it is there to tell of them."""


class Audience:
    """Who listens to some events of targets that live long, besides us.

    Asked with every read, so it looks again only when something has changed: a collection of
    listeners was replaced by another one, or has more listeners or fewer.
    """

    def __init__(self, *watched: Watched) -> None:
        self._watched = watched
        self._known: list[tuple[Any, attrgetter[Any], tuple[Any, ...]]] = []
        self._unheard: list[Sized] = []
        self._listeners: list[Sized] = []
        self._count = -1
        self._found: str | None = None

    def event(self) -> str | None:
        """Return the first event that somebody listens to; None if nobody does."""
        for dispatch, collections, known in self._known:
            if collections(dispatch) != known:
                return self._look()
        if any(self._unheard) or sum(map(len, self._listeners)) != self._count:
            return self._look()
        return self._found

    def look_again(self) -> None:
        """Look anew the next time: the collections hold their listeners elsewhere now."""
        self._count = -1

    def _look(self) -> str | None:
        self._known = []
        each: list[Any] = []
        for target, events, _ours, is_used in self._watched:
            collections = events.collections(target.dispatch)
            each.extend(collections)
            if is_used:
                self._known.append((target.dispatch, events.collections, collections))
        # Those of the class, and those of this target; what is immutable never has more.
        parts = [part for one in each for part in (one.parent_listeners, one.listeners)]
        growing = {id(part): part for part in parts if not isinstance(part, tuple)}.values()
        self._unheard = [part for part in growing if not part]
        self._listeners = [part for part in growing if part]
        self._count = sum(map(len, self._listeners))
        found = (each.events.heard(each.target, each.ours) for each in self._watched)
        self._found = next((name for name in found if name is not None), None)
        return self._found


_CURSOR = _Events("before_cursor_execute", "after_cursor_execute")
"""Which a lane can tell of what it sends, since it has all that they are called with."""
_EXECUTE = _Events("before_execute", "after_execute")
_ENGINE = _Events(*_EXECUTE.names, "engine_connect", "begin", "commit", "rollback")
_POOL = _Events("checkout", "checkin", "reset")
_DIALECT = _Events("do_execute", "do_execute_no_params", "do_setinputsizes")
_SAVEPOINT = _Events("savepoint", "release_savepoint", "rollback_savepoint")
_SESSION = _Events(
    "do_orm_execute",
    "after_begin",
    "after_transaction_create",
    "after_transaction_end",
    "before_commit",
    "after_commit",
    "after_rollback",
    "after_soft_rollback",
    "before_attach",
    "after_attach",
    "loaded_as_persistent",
    "persistent_to_detached",
)
_FLUSH = _Events(
    "before_flush",
    "after_flush",
    "after_flush_postexec",
    "transient_to_pending",
    "pending_to_persistent",
    "pending_to_transient",
    "persistent_to_transient",
)


class _OfClass(NamedTuple):
    """Who listens to one class of sessions."""

    unused: Session
    """A session that is never used: it tells who listens to all of its class."""
    reading: Audience
    flushing: Audience
    refusal: LaneRefusal | None
    """Why nothing of theirs passes them by, if it is not for a listener."""


def _heard_of(engine: Engine) -> tuple[Any, Any, Any]:
    """Return what is listened to by way of an engine."""
    return engine, engine.pool, engine.dialect


class SessionListeners:
    """Who listens to sessions. Lives: as long as its Database.

    Args:
        kind: Returns the class of the sessions that the Database opens.
    """

    def __init__(self, kind: Callable[[], type[Session]]) -> None:
        self._kind = kind
        self._classes: dict[type[Session], _OfClass] = {}

    def of_reads(self, session: Session | None = None) -> LaneRefusal | None:
        """Say which event of a read somebody listens to, here or in general, or why else it is the session's.

        None if there is no reason.
        """
        of_class = self._in_general if session is None else self._of(type(session))
        name = of_class.reading.event()
        if name is None and session is not None and "dispatch" in vars(session):
            name = self._own(session, _SESSION)
        return of_class.refusal if of_class.refusal is not None or name is None else _told(name)

    def of_flushes(self, session: Session | None = None) -> LaneRefusal | None:
        """Say which event of a flush somebody listens to, here or in general; None if there is none."""
        of_class = self._in_general if session is None else self._of(type(session))
        name = of_class.flushing.event()
        if name is None and session is not None and "dispatch" in vars(session):
            name = self._own(session, _FLUSH)
        return None if name is None else _told(name)

    def close(self, session: Session) -> None:
        """Close a session for good."""
        self.past(session, session.close)

    def past(self, session: Session, work: Callable[[], R]) -> R:
        """Let a session do something that waits for nothing, and would ask for listeners of its own.

        Where nobody has done so before, there are none, and those of its class are lent to it, which takes
        less time than to collect them anew.
        """
        own = vars(session)
        if "dispatch" in own:
            return work()
        own["dispatch"] = self._of(type(session)).unused.dispatch
        try:
            return work()
        finally:
            del own["dispatch"]

    @cached_property
    def _in_general(self) -> _OfClass:
        """Those of the class that the Database opens: there may be no session yet."""
        return self._of(self._kind())

    def _own(self, session: Session, events: _Events) -> str | None:
        """Return the first event that somebody listens to of this very session.

        It has collections of its own when somebody, SQLAlchemy itself included, has asked for them.
        """
        # Sessions of a class share those of the class, until they have some of their own.
        shared = self._of(type(session)).unused
        if events.collections(session.dispatch) == events.collections(shared.dispatch):
            return None
        ours = HARMLESS_ON.get(session)
        return events.heard(session, HARMLESS if ours is None else HARMLESS + ours)

    def _of(self, kind: type[Session]) -> _OfClass:
        """Return who listens to a class of sessions: the program's own has listeners that others have not."""
        found = self._classes.get(kind)
        if found is None:
            # Not set up, for which a class of somebody's own may need more.
            unused = kind.__new__(kind)
            reading, flushing = (
                Audience(Watched(unused, events, HARMLESS, is_used=False)) for events in (_SESSION, _FLUSH)
            )
            routes = getattr(kind, ROUTES, kind.get_bind is not Session.get_bind)
            found = self._classes[kind] = _OfClass(unused, reading, flushing, _ROUTED if routes else None)
        return found


def _told(name: str) -> LaneRefusal:
    return LaneRefusal("somebody listens to {} of sessions", name)


_of_engines: weakref.WeakKeyDictionary[Engine, Counter[str]] = weakref.WeakKeyDictionary()
"""How many of the listeners to each event of an engine are ours: of all Databases on it."""


class EngineListeners:
    """Which listeners of one engine are ours. Lives: as long as the engine.

    Made before ours are installed; `are_complete` is called when they all are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ours = _of_engines.setdefault(engine, Counter())
        self._others = {name: count - self._ours[name] for name, count in self._counts()}
        connection = self._unused = Connection.__new__(Connection)
        """Never used: it tells who listens to the class of all connections."""
        self._sending = Audience(
            Watched(engine, _ENGINE, self._ours),
            Watched(engine.dialect, _DIALECT, self._ours),
            Watched(connection, _ENGINE, Counter(), is_used=False),
            # Those of cursors last: it is the first that is found.
            Watched(engine, _CURSOR, self._ours),
            Watched(connection, _CURSOR, Counter(), is_used=False),
        )
        self.of_failures: Callable[[ExceptionContext], None] | None = None
        """What tells observers of a statement that has failed, before what that leads to."""
        self._known: dict[int, object] = {}
        """Those that no program has let listen to this very engine, by their identity."""
        self.of_cursors = False
        """Whether anybody else hears what cursors send, as of the last time that `foreign` was asked."""

    def add(self, name: str, listener: Callable[..., object]) -> None:
        """Listen to an event of the engine, as with `retval=True`; the lanes count that as ours."""
        self._ours[name] += 1
        self._known[id(listener)] = listener
        add_listener(self._engine, name, listener)
        self._sending.look_again()

    def remove(self, name: str, listener: Callable[..., object]) -> None:
        """Listen to it no more."""
        remove_listener(self._engine, name, listener)
        self._ours[name] -= 1
        self._sending.look_again()

    def are_complete(self) -> None:
        """Count what is installed by now as ours."""
        for name, count in self._counts():
            self._ours[name] = count - self._others[name]

    def know_all(self) -> None:
        """Take note that all listeners by now are none of a program's own."""
        known = [listener for target in _heard_of(self._engine) for _name, listener in own_listeners(target)]
        self._known = {id(listener): listener for listener in known}

    def hand_on(self, other: EngineListeners, names: Container[str] | None = None) -> None:
        """Let the program's own listeners hear of another engine of the same Database, too.

        Args:
            other: Those of that engine.
            names: The events that matter there; None for all.
        """
        for target, copy in zip(_heard_of(self._engine), _heard_of(other._engine), strict=True):
            heard = {(name, id(listener)) for name, listener in own_listeners(copy)}
            for name, listener in own_listeners(target):
                is_new = id(listener) not in self._known and (name, id(listener)) not in heard
                if is_new and (name in names if names is not None else name != _DISPOSED):
                    add_listener(copy, name, listener)
                    other._known[id(listener)] = listener  # it goes no further

    def _counts(self) -> list[tuple[str, int]]:
        engine = self._engine
        counts = _ENGINE.counts(engine) + _CURSOR.counts(engine)
        return counts + _DIALECT.counts(engine.dialect) + _POOL.counts(engine.pool)

    def are_on(self, connection: Connection) -> bool:
        """Say whether somebody listens to this very connection, or has changed what it sends."""
        if isinstance(connection, LazyConnection):
            return False  # nobody has had it yet
        if _TRANSLATE in connection.get_execution_options():
            return True
        return _EXECUTE.heard(connection, self._ours) is not None

    def of_cursors_on(self, connection: Connection) -> bool:
        """Say whether anybody else hears what the cursors of this very connection send."""
        if isinstance(connection, LazyConnection):
            return False  # as above
        return _CURSOR.heard(connection, self._ours) is not None

    def of_savepoints(self) -> bool:
        """Say whether anybody else hears what is sent for a savepoint; `foreign` was asked just before."""
        targets = (self._engine, self._unused)
        return self.of_cursors or any(any(_SAVEPOINT.collections(target.dispatch)) for target in targets)

    def of_pool(self, pool: Pool) -> Audience:
        """Return who else listens to connections of a pool of this engine being checked out or in."""
        return Audience(Watched(pool, _POOL, self._ours))

    def of_ends(self, pool: Pool) -> Audience:
        """Return who else listens to what begins and ends on connections of a pool of this engine."""
        return Audience(
            Watched(pool, _POOL, self._ours),
            Watched(self._engine, _ENGINE, self._ours),
            Watched(self._unused, _ENGINE, Counter(), is_used=False),
        )

    def foreign(self) -> LaneRefusal | None:
        """Return what would be passed by: the first event that somebody else listens to, or a log."""
        engine = self._engine
        name = self._sending.event()
        self.of_cursors = name in _CURSOR.names
        if name is not None and not self.of_cursors:
            return LaneRefusal("somebody listens to {} of the engine", name)
        if engine.logger.isEnabledFor(LOGGED_AT):
            return _LOGGED
        return _ENGINE_OPTIONS if engine.get_execution_options() else None
