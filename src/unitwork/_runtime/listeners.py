"""This module knows who listens to what a faster lane would pass by."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, FromClause
    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session

_SENT = ("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")
_ENGINE = (
    *_SENT,
    "engine_connect",
    "begin",
    "commit",
    "rollback",
)
_DIALECT = ("do_execute", "do_execute_no_params", "do_setinputsizes")
_SESSION = (
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
_WRITING = (
    "before_flush",
    "after_flush",
    "after_flush_postexec",
    "transient_to_pending",
    "pending_to_persistent",
    "pending_to_transient",
)
_TRANSLATE = "schema_translate_map"
_INFO = 20
"""The level that SQLAlchemy logs statements with; this package itself logs nothing."""

HARMLESS: Counter[str] = Counter()
"""How many of the listeners to each event of `Session` are our own."""

HIDING: weakref.WeakSet[FromClause] = weakref.WeakSet()
"""Tables whose rows such a listener of ours may hide."""


def session_listener(session: Session) -> str | None:
    """Say which event of this session somebody listens to, besides us; None if there is none."""
    return _listened(session, _SESSION)


def writing_listener(session: Session) -> str | None:
    """Say which event of a flush somebody listens to; None if there is none."""
    return _listened(session, _WRITING)


def _listened(session: Session, names: tuple[str, ...]) -> str | None:
    dispatch: Any = session.dispatch
    for name in names:
        listeners = getattr(dispatch, name)
        if listeners and len(listeners) > HARMLESS[name]:
            return f"somebody listens to {name} of sessions"
    return None


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
        engine: Any = self._engine.dispatch
        dialect: Any = self._engine.dialect.dispatch
        counts = [(name, len(getattr(engine, name))) for name in _ENGINE]
        return counts + [(name, len(getattr(dialect, name))) for name in _DIALECT]

    def are_on(self, connection: Connection) -> bool:
        """Say whether somebody listens to this very connection, or has changed what it sends."""
        if _TRANSLATE in connection.get_execution_options():
            return True
        listening: Any = connection.dispatch
        return any(len(getattr(listening, name)) > self._ours[name] for name in _SENT)

    def foreign(self) -> str | None:
        """Return what would be passed by: the first event that somebody else listens to, or a log."""
        engine = self._engine
        ours = self._ours
        for target, names in ((engine.dispatch, _ENGINE), (engine.dialect.dispatch, _DIALECT)):
            for name in names:
                listeners = getattr(target, name)
                if listeners and len(listeners) > ours[name]:
                    return f"somebody listens to {name} of the engine"
        if engine.echo or engine.logger.isEnabledFor(_INFO):
            return "statements are logged"
        if engine.get_execution_options():
            return "the engine has execution options"
        return None
