"""This module inserts new entities in a session, whosever it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.util import greenlet_spawn

from unitwork._logic.routing import LaneRefusal
from unitwork._runtime.sessions.session import AmbientSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from unitwork._runtime.lanes.inserts import InsertCall


async def flush_new(
    session: AsyncSession, *entities: object, before: InsertCall | LaneRefusal | None = None
) -> None:
    """Insert new entities in the session, in one turn.

    Args:
        session: Any session.
        entities: Those to be inserted.
        before: What has tried to insert the only one: if it got so far, Python has filled in what it does.
    """
    if isinstance(session, AmbientSession):
        await session.in_turn(partial(_flush_new, entities, before))
    else:
        session.add_all(entities)
        await session.flush()


async def _flush_new(
    entities: Sequence[object], before: InsertCall | LaneRefusal | None, session: AmbientSession
) -> None:
    if len(entities) == 1:
        tried = None if isinstance(before, LaneRefusal) else before
        if await session.source.lanes.fused.insert("add", entities[0], session, tried) is None:
            return
    session.sync_session.add_all(entities)
    if not session.flushes_as_known() or await session.source.lanes.fused.flush(session) is not None:
        await greenlet_spawn(session.sync_session.flush)
