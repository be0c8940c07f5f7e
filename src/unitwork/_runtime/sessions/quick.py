"""This module prepares what a session is asked for, for the faster lanes, where one can take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Select

from unitwork._runtime.lanes.calls import KeyLookup

if TYPE_CHECKING:
    from unitwork._runtime.lanes.reads import ReadCall
    from unitwork._runtime.sessions.turns import Turns
    from unitwork._runtime.source import Source


class ReadingSession(Protocol):
    """A session that is asked for something."""

    source: Source
    turns: Turns


def read_of(session: ReadingSession, statement: object) -> ReadCall | None:
    """Prepare a statement for a faster lane; None if it needs the session itself."""
    if not isinstance(statement, Select):
        return None
    if not _has_faster_lane(session):
        session.source.watch.outside_of_blocks()
        return None
    read = session.source.lanes.statements.read_of(statement)
    return read if session.source.watch.is_taken(read) else None


def read_by_key(session: ReadingSession, entity: Any, ident: Any) -> ReadCall | None:  # noqa: ANN401  # as SQLAlchemy
    """Prepare to ask for one entity; None if it needs the session itself."""
    if not isinstance(entity, type) or not hasattr(entity, "__mapper__"):
        return None
    if not _has_faster_lane(session):
        session.source.watch.outside_of_blocks()
        return None
    lookup = KeyLookup.of(entity)
    values = lookup.values(ident)
    if values is None or None in values.values():
        return None
    reader, identity = lookup.reader("a statement of the session"), lookup.identity(values)
    read = session.source.lanes.statements.read(reader, lookup.call(values), identity)
    return read if session.source.watch.is_taken(read) else None


def _has_faster_lane(session: ReadingSession) -> bool:
    """Say whether a transaction is open, or a unit of work is at rest that has one server.

    Elsewhere SQLAlchemy must know that its session is used.
    """
    frame = session.turns.top.root
    if frame.ended:
        return False
    return not frame.settles or (frame.idles and session.source.servers is None)
