"""This module reads anew what a session holds, for a block that relies on what it reads."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Mapper, Session

    from unitwork._runtime.sessions.session import AmbientSession

_AT_ONCE = 200
"""Keys in one statement."""


async def reload(session: AmbientSession) -> None:
    """Send what waits to be sent, then read all entities of the session anew, in the open transaction.

    What was read in an earlier transaction may have changed since, and what an attempt changed that was
    rolled back is not known any more.
    """
    held = session.held
    if held is None or not len(held.identity_map):
        return
    if session.has_changes():
        await session.flush()
    await session.in_turn(_reload)


async def _reload(session: AmbientSession) -> None:
    await greenlet_spawn(_reload_now, session.sync_session)


def _reload_now(held: Session) -> None:
    groups: dict[Mapper[Any], list[Any]] = {}
    for entity in list(held.identity_map.values()):
        groups.setdefault(instance_state(entity).mapper, []).append(entity)
    for mapper, entities in groups.items():
        if mapper.inherits is not None or mapper.polymorphic_on is not None:
            for entity in entities:
                _refresh(held, entity)
            continue
        for some in _chunks(entities):
            _reload_plain(held, mapper, some)


def _reload_plain(held: Session, mapper: Mapper[Any], entities: list[Any]) -> None:
    """Read entities of a class without inheritance, many with one statement."""
    keys = [instance_state(entity).identity for entity in entities]
    columns = mapper.primary_key
    if len(columns) == 1:
        chosen: Any = columns[0].in_([key[0] for key in keys if key is not None])
    else:
        chosen = or_(*(and_(*map(_equal, columns, key)) for key in keys if key is not None))
    statement = select(mapper.class_).where(chosen).execution_options(populate_existing=True)
    found = {id(entity) for entity in held.scalars(statement).unique()}
    for entity in entities:
        if id(entity) not in found and entity in held:
            held.expire(entity)


def _equal(column: Any, value: object) -> Any:  # noqa: ANN401  # SQL expressions
    return column == value


def _refresh(held: Session, entity: object) -> None:
    try:
        held.refresh(entity)
    except InvalidRequestError:
        held.expire(entity)  # its row is gone


def _chunks(entities: list[Any]) -> Iterator[list[Any]]:
    rest = iter(entities)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
