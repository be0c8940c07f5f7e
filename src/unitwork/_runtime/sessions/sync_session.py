"""This module asks at every statement and every end, also in `run_sync`, whether it is allowed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import RollbackToSavepointClause
from sqlalchemy.util.concurrency import in_greenlet

from unitwork._logic.remembered import once_for_class
from unitwork._runtime.connections.listeners import ROUTES
from unitwork._runtime.sessions import permission
from unitwork._sqlalchemy.versions import WRITES_OF_SESSION, flush_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import InstanceState, SessionTransaction


SHOWS_HIDDEN = "unitwork_shows_hidden"
"""The key in `Session.info` while rows are shown that are hidden otherwise."""

_Method = TypeVar("_Method", bound=Callable[..., Any])


class SessionAround(permission.AskedSession, Protocol):
    """The ambient session around a synchronous one."""

    def begin_as_block(self) -> None:
        """Let the session inside know that a transaction is open."""
        ...

    def begin_for_connection(self, isolation: str | None) -> str | None:
        """Begin in a unit of work, for somebody who may write on the connection that he asks for.

        Return the isolation that is still to be asked for.
        """
        ...

    def bind_for(self, target: Engine | Connection) -> Engine | Connection:
        """Return what is used in place of an engine of this Database."""
        ...

    def sent_on_access(self, method: Callable[[], Any]) -> Any:  # noqa: ANN401  # a result
        """Send what is loaded on access, in this task's turn."""
        ...


class GuardedSession(Session):
    """The synchronous session inside an ambient one. Lives: as long as that."""

    unitwork_routes = False

    _ambient: weakref.ref[SessionAround]

    def belongs_to(self, ambient: SessionAround) -> None:
        """Remember the ambient session around this one; weakly, or only the collector could free them."""
        self._ambient = weakref.ref(ambient)

    def stays_with(self, ambient: SessionAround) -> None:
        """Remember it again, if the collector has made this one forget it."""
        if self._ambient() is None:
            self.belongs_to(ambient)

    @property
    def ambient(self) -> SessionAround:
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
        if self.in_nested_transaction() and in_greenlet():
            # What is sent on its connection belongs to the savepoint all the same.
            Session.connection(self)
        return super().get_transaction()

    def _begin_as_block(self) -> None:
        ambient = self._ambient()
        if ambient is not None:
            ambient.begin_as_block()

    def flush(self, *arguments: Any, **keywords: Any) -> None:
        """Send pending changes, where that is allowed; in a unit of work it begins the transaction."""
        ambient = self.ambient
        if permission.to_flush(ambient):
            self._begin_as_block()
            ambient.flushing = True
            try:
                super().flush(*arguments, **keywords)
            finally:
                ambient.flushing = False

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """As `Session.add`, unless the block that runs is read-only."""
        if not self.ambient.adding:
            permission.to_add(self.ambient, [instance])
        super().add(instance, _warn=_warn)

    def add_all(self, instances: Iterable[object]) -> None:
        """As `Session.add_all`, unless the block that runs is read-only."""
        known = list(instances)
        permission.to_add(self.ambient, known)
        super().add_all(known)

    def _save_or_update_state(self, state: InstanceState[Any]) -> None:
        """As SQLAlchemy's own, which what is added and what a relationship adds go through."""
        permission.to_cascade(self.ambient, state)
        super()._save_or_update_state(state)

    def get(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401  # any entity
        """As `Session.get`; an entity that hides itself is not found where it is held already either."""
        found = super().get(*arguments, **keywords)
        hides = found is not None and getattr(found, "__unitwork_hidden__", None)
        if SHOWS_HIDDEN in self.info:
            return found
        return None if hides and hides(keywords.get("execution_options")) else found

    def connection(
        self,
        bind_arguments: Any = None,  # noqa: ANN401  # as SQLAlchemy's
        execution_options: Mapping[str, Any] | None = None,
    ) -> Connection:
        """As `Session.connection`; what is sent and ended on it is asked for as well.

        In a unit of work it begins the transaction, with the isolation that the options ask for.
        """
        rest = dict(execution_options or {})
        isolation = self.ambient.begin_for_connection(rest.pop("isolation_level", None))
        if isolation is not None:
            rest["isolation_level"] = isolation
        connection = super().connection(bind_arguments, execution_options=rest or None)
        if not is_handed_out(connection):
            guard_connection(self.ambient, connection)
        return connection


def _sends(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, statement: object, *arguments: Any, **keywords: Any) -> object:
        def send() -> object:
            permission.to_send(self.ambient, statement)
            flush_before(self, statement)
            return method(self, statement, *arguments, **keywords)

        return self.ambient.sent_on_access(send)

    return cast("_Method", run)


def _writes(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, *arguments: Any, **keywords: Any) -> object:
        ambient = self.ambient
        permission.to_change(ambient)
        # What they change or delete they must find, also if it hides itself.
        self.info[SHOWS_HIDDEN] = True
        try:
            return method(self, *arguments, **keywords)
        finally:
            self.info.pop(SHOWS_HIDDEN, None)

    return cast("_Method", run)


def _flushes(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, *arguments: Any, **keywords: Any) -> object:
        ambient = self.ambient
        permission.to_change(ambient)
        ambient.flushing = True
        try:
            return method(self, *arguments, **keywords)
        finally:
            ambient.flushing = False

    return cast("_Method", run)


def _ends(method: _Method) -> _Method:
    @wraps(method)
    def run(self: GuardedSession, *arguments: Any, **keywords: Any) -> object:
        permission.to_end(self.ambient, method.__name__)
        return method(self, *arguments, **keywords)

    return cast("_Method", run)


for _guarded, _names in (
    (_sends, ("execute", "scalar", "scalars")),
    (_writes, WRITES_OF_SESSION),
    (_flushes, ("bulk_save_objects", "bulk_insert_mappings", "bulk_update_mappings")),
    (_ends, ("commit", "rollback", "close", "reset", "invalidate", "prepare")),
):
    for _name in _names:
        setattr(GuardedSession, _name, _guarded(getattr(Session, _name)))


_SEND = ("execute", "scalar", "scalars", "exec_driver_sql")
_END = ("commit", "rollback", "close", "invalidate", "detach")


def guard_connection(ambient: SessionAround, connection: Connection) -> None:
    """Ask the ambient session before what somebody sends or ends on this connection.

    The session itself ends it another way.
    """
    own = vars(connection)
    for name in _SEND:
        own[name] = _asked_to_send(ambient, getattr(connection, name))
    for name in _END:
        own[name] = _asked_to_end(ambient, getattr(connection, name))


def unguard_connection(connection: Connection) -> None:
    """Ask no more."""
    for name in (*_SEND, *_END):
        vars(connection).pop(name, None)


def _asked_to_send(ambient: SessionAround, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(statement: object, *arguments: Any, **keywords: Any) -> object:
        def send() -> object:
            if not isinstance(statement, RollbackToSavepointClause):
                permission.to_send(ambient, statement)
            return method(statement, *arguments, **keywords)

        return ambient.sent_on_access(send)

    return run


def _asked_to_end(ambient: SessionAround, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(*arguments: Any, **keywords: Any) -> object:
        # SQLAlchemy itself invalidates a connection with the error that broke it.
        if not (method.__name__ == "invalidate" and arguments):
            permission.to_end(ambient, method.__name__)
        return method(*arguments, **keywords)

    return run


def is_handed_out(connection: Connection) -> bool:
    """Say whether somebody has asked a session for this connection."""
    return "execute" in vars(connection)


@once_for_class
def guarded_class(kind: type[Session]) -> type[Session]:
    """Return a class that guards what this class of session does."""
    if kind is Session:
        return GuardedSession

    def get_bind(self: GuardedSession, *arguments: Any, **keywords: Any) -> Engine | Connection:
        return self.ambient.bind_for(kind.get_bind(self, *arguments, **keywords))

    # What it overrides goes on to what it calls as `super()`; but one that chooses an engine calls nobody.
    bases: Any = (kind, GuardedSession)
    routes = kind.get_bind is not Session.get_bind
    return type(f"Guarded{kind.__name__}", bases, {"get_bind": get_bind, ROUTES: routes})
