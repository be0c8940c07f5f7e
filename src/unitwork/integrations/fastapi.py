"""This module gives FastAPI endpoints their session as a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._runtime import context, live
from unitwork._runtime.source import Source
from unitwork.database import Database
from unitwork.errors import MissingExtraError, TransactionRefusedError
from unitwork.integrations.asgi import UnitOfWorkMiddleware, lifespan
from unitwork.unit_of_work import UnitOfWork

try:
    from fastapi import Depends
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.fastapi", "fastapi", "fastapi") from missing

__all__ = ["SessionDep", "UnitOfWorkMiddleware", "lifespan", "session_of"]


def _dependency(source: Callable[[], Source]) -> Any:  # noqa: ANN401  # what FastAPI's `Depends` returns
    async def session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
        here = source()
        if connection.scope["type"] == "websocket":
            raise TransactionRefusedError(
                here.name,
                f"A WebSocket would hold the session of database {here.name!r} as long as it is open.",
                "open `async with db.transaction():` for each message.",
            )
        scope = context.innermost(here)
        if scope is not None:
            yield scope.frame.session
            return
        async with UnitOfWork(here, "the session dependency of a request", atomic=True) as own:
            yield own

    # FastAPI's own default scope would commit after the response has been sent.
    return Depends(session, scope="function")


def session_of(database: Database) -> AsyncSession:
    """Return the dependency that gives an endpoint the session of one Database. A WebSocket is refused.

    Type checkers take it for that session, as it may also stand behind the equals sign of a parameter.

    Under `UnitOfWorkMiddleware` it is the session of the request. Without it the dependency opens
    a unit of work around the endpoint: it commits when the endpoint returns and before the
    response is sent, and rolls back when the endpoint raises, `HTTPException` included.

    Examples:
        >>> ReportSession = Annotated[AsyncSession, session_of(db)]
    """
    dependency: AsyncSession = _dependency(lambda: database.source)
    return dependency


SessionDep: TypeAlias = Annotated[AsyncSession, _dependency(live.current_or_default)]
"""The session of the innermost open unit of work, else of the only live Database called "default"."""
