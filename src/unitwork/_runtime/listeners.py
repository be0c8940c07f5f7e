"""This module knows who listens to what a faster lane would pass by."""

from __future__ import annotations

import weakref
from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, FromClause
    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session

_TRANSLATE = "schema_translate_map"
_INFO = 20
"""The level that SQLAlchemy logs statements with; this package itself logs nothing."""

HARMLESS: Counter[str] = Counter()
"""How many of the listeners to each event of `Session` are our own."""

HIDING: weakref.WeakSet[FromClause] = weakref.WeakSet()
"""Tables whose rows such a listener of ours may hide."""


class _Events:
    """Some events of one kind of target. Asked with every read, so all at once."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._listeners = attrgetter(*names)

    def counts(self, target: Any) -> list[tuple[str, int]]:  # noqa: ANN401  # of any kind
        """Return how many listen to each."""
        return [(name, len(getattr(target.dispatch, name))) for name in self.names]

    def heard(self, target: Any, ours: Counter[str]) -> str | None:  # noqa: ANN401  # as above
        """Return the first event that somebody listens to, besides us."""
        if not any(self._listeners(target.dispatch)):
            return None
        return next((name for name, count in self.counts(target) if count > ours[name]), None)


_SENT = _Events("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")
_ENGINE = _Events(*_SENT.names, "engine_connect", "begin", "commit", "rollback")
_DIALECT = _Events("do_execute", "do_execute_no_params", "do_setinputsizes")
_SESSION = _Events(
    "do_orm_execute",
    "after_begin",
    "after_transaction_create",
    "after_transaction_end",
    "before_commit",
    "after_commit",
    "after_rollback",
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
)


def session_listener(session: Session) -> str | None:
    """Say which event of this session somebody listens to, besides us; None if there is none."""
    name = _SESSION.heard(session, HARMLESS)
    return name and f"somebody listens to {name} of sessions"


def writing_listener(session: Session) -> str | None:
    """Say which event of a flush somebody listens to; None if there is none."""
    name = _FLUSH.heard(session, HARMLESS)
    return name and f"somebody listens to {name} of sessions"


class EngineListeners:
    """Which listeners of one engine are ours. Lives: as long as the engine.

    Made before ours are installed; `are_complete` is called when they all are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ours = Counter({name: -count for name, count in self._counts()})

    def are_complete(self) -> None:
        """Count what is installed by now as ours."""
        self._ours.update(dict(self._counts()))

    def _counts(self) -> list[tuple[str, int]]:
        return _ENGINE.counts(self._engine) + _DIALECT.counts(self._engine.dialect)

    def are_on(self, connection: Connection) -> bool:
        """Say whether somebody listens to this very connection, or has changed what it sends."""
        if _TRANSLATE in connection.get_execution_options():
            return True
        return _SENT.heard(connection, self._ours) is not None

    def foreign(self) -> str | None:
        """Return what would be passed by: the first event that somebody else listens to, or a log."""
        engine = self._engine
        name = _ENGINE.heard(engine, self._ours) or _DIALECT.heard(engine.dialect, self._ours)
        if name is not None:
            return f"somebody listens to {name} of the engine"
        if engine.echo or engine.logger.isEnabledFor(_INFO):
            return "statements are logged"
        if engine.get_execution_options():
            return "the engine has execution options"
        return None
