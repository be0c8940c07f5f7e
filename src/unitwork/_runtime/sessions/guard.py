"""This module asks at every statement and every end, also in `run_sync`, whether it is allowed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import RollbackToSavepointClause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import SessionTransaction

    from unitwork._runtime.sessions.session import TurnedSession

SHOWS_HIDDEN = "unitwork_shows_hidden"
"""The key in `Session.info` while rows are shown that are hidden otherwise."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


class GuardedSession(Session):
    """The synchronous session inside an ambient one. Lives: as long as that."""

    _ambient: weakref.ref[TurnedSession]

    def belongs_to(self, ambient: TurnedSession) -> None:
        """Remember the ambient session around this one; weakly, or only the collector could free them."""
        self._ambient = weakref.ref(ambient)

    @property
    def ambient(self) -> TurnedSession:
        """The ambient session around this one."""
        ambient = self._ambient()
        if ambient is None:
            raise RuntimeError("the ambient session is gone: hold it as long as its `sync_session`")
        return ambient

    def get_bind(self, *arguments: Any, **keywords: Any) -> Engine | Connection:
        """Return the connection of the open transaction; what is asked for first begins it."""
        target = super().get_bind(*arguments, **keywords)
        return self.ambient.bind_for(target)

    def begin(self, nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002  # SQLAlchemy's
        """As `Session.begin`: inside a block it has begun already."""
        self._begin_as_block()
        return super().begin(nested)

    def in_transaction(self) -> bool:
        """As `Session.in_transaction`: inside a block, from its beginning on."""
        self._begin_as_block()
        return super().in_transaction()

    def get_transaction(self) -> SessionTransaction | None:
        """As `Session.get_transaction`: inside a block, from its beginning on."""
        self._begin_as_block()
        return super().get_transaction()

    def _begin_as_block(self) -> None:
        ambient = self._ambient()
        if ambient is not None:
            ambient.begin_as_block()

    def flush(self, *arguments: Any, **keywords: Any) -> None:
        """Send pending changes, unless the block that runs is read-only."""
        self.ambient.check_changes()
        super().flush(*arguments, **keywords)

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """As `Session.add`, unless the block that runs is read-only."""
        self.ambient.check_new([instance])
        super().add(instance, _warn=_warn)

    def add_all(self, instances: Iterable[object]) -> None:
        """As `Session.add_all`, unless the block that runs is read-only."""
        known = list(instances)
        self.ambient.check_new(known)
        super().add_all(known)

    def get(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401  # any entity
        """As `Session.get`; an entity that hides itself is not found where it is held already either."""
        found = super().get(*arguments, **keywords)
        hides = found is not None and getattr(found, "__unitwork_hidden__", None)
        if SHOWS_HIDDEN in self.info:
            return found
        return None if hides and hides(keywords.get("execution_options")) else found

    def connection(self, *arguments: Any, **keywords: Any) -> Connection:
        """As `Session.connection`; what is sent and ended on it is asked for as well."""
        connection = super().connection(*arguments, **keywords)
        if not is_handed_out(connection):
            _ConnectionGuard(self.ambient).install(connection)
        return connection


def _sends(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, statement: object, *arguments: Any, **keywords: Any) -> object:
        with self.ambient.turn():
            self.ambient.check_statement(statement)
            return method(self, statement, *arguments, **keywords)

    return cast("_Method", run)


def _writes(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, *arguments: Any, **keywords: Any) -> object:
        self.ambient.check_write()
        # What they change or delete they must find, also if it hides itself.
        self.info[SHOWS_HIDDEN] = True
        try:
            return method(self, *arguments, **keywords)
        finally:
            self.info.pop(SHOWS_HIDDEN, None)

    return cast("_Method", run)


def _ends(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, *arguments: Any, **keywords: Any) -> object:
        self.ambient.check_end(method.__name__)
        return method(self, *arguments, **keywords)

    return cast("_Method", run)


for _guarded, _names in (
    (_sends, ("execute", "scalar", "scalars")),
    (_writes, ("delete", "delete_all", "merge", "merge_all")),
    (_ends, ("commit", "rollback", "close", "reset", "invalidate", "prepare")),
):
    for _name in _names:
        setattr(GuardedSession, _name, _guarded(getattr(Session, _name)))


class _ConnectionGuard:
    """Guards one connection that somebody asked for; the session itself ends it another way."""

    def __init__(self, ambient: TurnedSession) -> None:
        self._ambient = ambient

    def install(self, connection: Connection) -> None:
        """Put the guarded methods before the connection's own."""
        own = vars(connection)
        for name in ("execute", "scalar", "scalars", "exec_driver_sql"):
            own[name] = self._sending(getattr(connection, name))
        for name in ("commit", "rollback", "close", "invalidate", "detach"):
            own[name] = self._ending(getattr(connection, name))

    def _sending(self, method: Callable[..., Any]) -> Callable[..., Any]:
        ambient = self._ambient

        @wraps(method)
        def run(statement: object, *arguments: Any, **keywords: Any) -> object:
            if not isinstance(statement, RollbackToSavepointClause):
                ambient.check_statement(statement)
            return method(statement, *arguments, **keywords)

        return run

    def _ending(self, method: Callable[..., Any]) -> Callable[..., Any]:
        ambient = self._ambient

        @wraps(method)
        def run(*arguments: Any, **keywords: Any) -> object:
            # SQLAlchemy itself invalidates a connection with the error that broke it.
            if not (method.__name__ == "invalidate" and arguments):
                ambient.check_end(method.__name__)
            return method(*arguments, **keywords)

        return run


def is_handed_out(connection: Connection) -> bool:
    """Say whether somebody has asked a session for this connection."""
    return "execute" in vars(connection)


@cache
def guarded_class(kind: type[Session]) -> type[Session]:
    """Return a class that guards what this class of session does."""
    if kind is Session:
        return GuardedSession
    return type(f"Guarded{kind.__name__}", (GuardedSession, kind), {})
