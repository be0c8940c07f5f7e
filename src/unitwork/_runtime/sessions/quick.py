"""This module prepares what a session is asked for, for the fused lane, where that can take it."""

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
    """Prepare a statement for the fused lane; None if it needs the session itself."""
    if not isinstance(statement, Select):
        return None
    if not _is_in_block(session):
        session.source.watch.outside_of_blocks()
        return None
    read = session.source.lanes.statements.read_of(statement)
    return read if session.source.watch.is_taken(read) else None


def read_by_key(session: ReadingSession, entity: Any, ident: Any) -> ReadCall | None:  # noqa: ANN401  # as SQLAlchemy
    """Prepare to ask for one entity; None if it needs the session itself."""
    if not isinstance(entity, type) or not hasattr(entity, "__mapper__"):
        return None
    if not _is_in_block(session):
        session.source.watch.outside_of_blocks()
        return None
    lookup = KeyLookup.of(entity)
    values = lookup.values(ident)
    if values is None or None in values.values():
        return None
    reader, identity = lookup.reader("a statement of the session"), lookup.identity(values)
    read = session.source.lanes.statements.read(reader, lookup.call(values), identity)
    return read if session.source.watch.is_taken(read) else None


def _is_in_block(session: ReadingSession) -> bool:
    """Say whether a transaction is open: elsewhere SQLAlchemy must know that its session is used."""
    frame = session.turns.top.root
    return not (frame.settles or frame.ended)
