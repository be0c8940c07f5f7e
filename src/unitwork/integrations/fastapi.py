"""This module gives FastAPI endpoints their session as a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from inspect import signature
from typing import Annotated, Any, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._runtime import context, live
from unitwork._runtime.source import Source
from unitwork.database import Database
from unitwork.errors import MissingExtraError, TransactionRefusedError
from unitwork.integrations.asgi import UnitOfWorkMiddleware, lifespan
from unitwork.unit_of_work import UnitOfWork

try:
    from fastapi import Depends, __version__
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.fastapi", "fastapi", "fastapi") from missing

__all__ = ["SessionDep", "UnitOfWorkMiddleware", "lifespan", "session_of"]

_VERSION = tuple(map(int, __version__.split(".")[:2]))
# FastAPI's own default scope would commit after the response has been sent.
_SCOPE: dict[str, Any] = {"scope": "function"} if "scope" in signature(Depends).parameters else {}
_ENDS_IN_TIME = bool(_SCOPE) or (0, 106) <= _VERSION < (0, 118)
"""Whether a dependency ends before the response is sent; in some versions it cannot be asked to."""


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
        if not _ENDS_IN_TIME:
            raise TransactionRefusedError(
                here.name,
                f"FastAPI {__version__} commits the session of database {here.name!r} after the response.",
                "add `UnitOfWorkMiddleware`, or use FastAPI 0.121 or newer.",
            )
        async with UnitOfWork(here, "the session dependency of a request", atomic=True) as own:
            yield own

    return Depends(session, **_SCOPE)


def session_of(database: Database) -> Any:  # noqa: ANN401  # what FastAPI's `Depends` returns
    """Return the dependency that gives an endpoint the session of one Database. A WebSocket is refused.

    Under `UnitOfWorkMiddleware` it is the session of the request. Without it the dependency opens
    a unit of work around the endpoint: it commits when the endpoint returns and before the
    response is sent, and rolls back when the endpoint raises, `HTTPException` included.

    Example:
        >>> ReportSession = Annotated[AsyncSession, session_of(db)]
    """
    return _dependency(lambda: database.source)


SessionDep: TypeAlias = Annotated[AsyncSession, _dependency(live.current_or_default)]
"""The session of the innermost open unit of work, else of the only live Database called "default"."""
