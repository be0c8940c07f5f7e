"""This module prepares what a session is asked for, for the fused lane, where that can take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Select

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.lanes.calls import KeyLookup

if TYPE_CHECKING:
    from unitwork._runtime.lanes.reads import ReadCall
    from unitwork._runtime.sessions.turns import Turns
    from unitwork._runtime.source import Source


_OUTSIDE = LaneRefusal("the session is asked outside of a block")


class ReadingSession(Protocol):
    """A session that is asked for something."""

    source: Source
    turns: Turns


def read_of(session: ReadingSession, statement: object) -> ReadCall | None:
    """Prepare a statement for the fused lane; None if it needs the session itself."""
    if not isinstance(statement, Select):
        return None
    if not _is_in_block(session):
        return _taken(session, _OUTSIDE)
    return _taken(session, session.source.lanes.statements.read_of(statement))


def read_by_key(session: ReadingSession, entity: Any, ident: Any) -> ReadCall | None:  # noqa: ANN401  # as SQLAlchemy
    """Prepare to ask for one entity; None if it needs the session itself."""
    if not isinstance(entity, type) or not hasattr(entity, "__mapper__"):
        return None
    if not _is_in_block(session):
        return _taken(session, _OUTSIDE)
    lookup = KeyLookup.of(entity)
    values = lookup.values(ident)
    if values is None or None in values.values():
        return None
    reader, identity = lookup.reader("a statement of the session"), lookup.identity(values)
    return _taken(session, session.source.lanes.statements.read(reader, lookup.call(values), identity))


def _taken(session: ReadingSession, read: ReadCall | LaneRefusal) -> ReadCall | None:
    refusal = read if isinstance(read, LaneRefusal) else None
    session.source.watch.no_faster(refusal)
    return None if isinstance(read, LaneRefusal) else read


def _is_in_block(session: ReadingSession) -> bool:
    """Say whether a transaction is open: elsewhere SQLAlchemy must know that its session is used."""
    frame = session.turns.top.root
    return not (frame.settles or frame.ended)
