"""This module inserts and deletes entities in a session, whosever it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.util import greenlet_spawn

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.access.identities import held_in
from unitwork._runtime.sessions.session import AmbientSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from unitwork._runtime.lanes.inserts import InsertCall
    from unitwork._runtime.sessions.turns import Place

_ANOTHER_SESSION = LaneRefusal("the session is none of a block, or deletes in a way of its own")


def flush_new(
    session: AsyncSession,
    entities: Sequence[object],
    *,
    place: Place | None = None,
    before: InsertCall | LaneRefusal | None = None,
) -> Awaitable[None]:
    """Insert new entities in the session, in one turn.

    Args:
        session: Any session.
        entities: Those to be inserted.
        place: Where the calling code is on an ambient session, if that is known.
        before: What has tried to insert the only one: if it got so far, Python has filled in what it does.
    """
    if isinstance(session, AmbientSession):
        return session.in_turn(partial(_flush_new, entities, before), place)
    return _flush_new_in_any(session, entities)


async def _flush_new_in_any(session: AsyncSession, entities: Sequence[object]) -> None:
    session.add_all(entities)
    await session.flush()


async def _flush_new(
    entities: Sequence[object], before: InsertCall | LaneRefusal | None, session: AmbientSession
) -> None:
    lane = session.source.lanes.fused
    if len(entities) == 1:
        tried = None if isinstance(before, LaneRefusal) else before
        refusal = await lane.insert("add", entities[0], session, tried)
    else:
        refusal = await lane.insert_all(entities, session)
    if refusal is None:
        return
    session.sync_session.add_all(entities)
    if not session.flushes_as_known() or await session.source.lanes.fused.flush(session) is not None:
        await greenlet_spawn(session.sync_session.flush)


async def flush_deleted(entity: object, session: AsyncSession) -> None:
    """Delete what a session holds for the row of an entity."""
    held = held_in(session, entity)
    refusal: LaneRefusal | None = _ANOTHER_SESSION
    if isinstance(session, AmbientSession) and session.deletes_as_known():
        refusal = await session.in_turn(partial(session.source.lanes.fused.delete, held))
    if refusal is not None:
        await session.delete(held)
        await session.flush()
