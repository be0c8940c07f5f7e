"""This module executes the statement of a declared query in a session that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from unitwork._logic.in_lists import with_short_lists
from unitwork._runtime.sessions.session import AmbientSession
from unitwork._sqlalchemy.versions import flushed_before

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Result

    from unitwork._runtime.lanes.calls import Call
    from unitwork._runtime.lanes.results import ResultReader


async def items_of(reader: ResultReader, call: Call, session: AsyncSession) -> Sequence[Any]:
    """Execute a read, and return its items."""
    return reader.items(await executed(call, session))


async def collected(reader: ResultReader, call: Call, session: AsyncSession) -> object:
    """Execute a statement that may write, and return what the reader promises."""
    return reader.collect(await executed(call, session), call.statement)


async def executed(call: Call, session: AsyncSession, **options: object) -> Result[Any]:
    """Execute a statement, and return its result."""
    statement, parameters = await ready(call, session)
    result: Result[Any] = await session.execute(statement, parameters, execution_options=options)
    return result


async def ready(call: Call, session: AsyncSession) -> tuple[Any, Mapping[str, Any] | None]:
    """Return a statement and its parameters as this session's database can take them, now.

    What waits in the session is sent before.
    """
    bind: Any = session.bind if isinstance(session.bind, AsyncEngine) else session.get_bind()
    statement, parameters = with_short_lists(call.statement, call.parameters, bind.dialect)
    if not isinstance(session, AmbientSession):  # which does so itself
        await flushed_before(session, statement)
    return statement, parameters
