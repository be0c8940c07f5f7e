"""This module gives FastAPI endpoints their session as a dependency."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from unitwork._runtime import context, live
from unitwork._runtime.source import Source
from unitwork.database import Database
from unitwork.errors import MissingExtraError, TransactionRefusedError
from unitwork.integrations.answers import answer_errors, as_json
from unitwork.integrations.asgi import UnitOfWorkMiddleware, lifespan
from unitwork.unit_of_work import UnitOfWork

try:
    from fastapi import Depends, FastAPI
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.fastapi", "fastapi", "fastapi") from missing

__all__ = ["SessionDep", "UnitOfWorkMiddleware", "exception_handlers", "lifespan", "session_of"]

_BEFORE_THE_ANSWER = "fastapi_function_astack"
"""Where FastAPI keeps what is to end when an endpoint has returned, before its response is sent."""


def _dependency(source: Callable[[], Source]) -> Any:  # noqa: ANN401  # what FastAPI's `Depends` returns
    # Not a generator: one that ends before the response could not be used by one that ends after it.
    async def session(connection: HTTPConnection) -> AsyncSession:
        here = source()
        if connection.scope["type"] == "websocket":
            raise TransactionRefusedError(
                here.name,
                f"A WebSocket would hold the session of database {here.name!r} as long as it is open.",
                "open `async with db.transaction():` for each message.",
            )
        scope = context.innermost(here)
        if scope is not None:
            ambient: AsyncSession = scope.frame.session
            return ambient
        ends: AsyncExitStack | None = connection.scope.get(_BEFORE_THE_ANSWER)
        if ends is None:
            raise TransactionRefusedError(
                here.name,
                f"This FastAPI could commit the session of database {here.name!r} after the response alone.",
                "add `UnitOfWorkMiddleware`, or use FastAPI 0.121 or newer.",
            )
        unit = UnitOfWork(here, "the session dependency of a request", atomic=True)
        return await ends.enter_async_context(unit)

    return Depends(session)


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


def exception_handlers(app: FastAPI) -> None:
    """Answer errors that are the client's affair: `NoRowError` with 404, `IntegrityError` with 409.

    `StaleRowError` is answered with 409, too. So is a COMMIT that fails with one of them, unless
    `UnitOfWorkMiddleware` has an `on_commit_error` of its own. The client gets what FastAPI answers to an
    `HTTPException` of that status, and nothing of the error; the OpenAPI document stays as it is.
    Handlers that the application has for these classes go first. A WebSocket is no request: there the
    error is raised as before.

    Args:
        app: The application, before it has started.

    Raises:
        DeclarationError: It has started already.

    Examples:
        >>> from fastapi import FastAPI
        >>> app = FastAPI()
        >>> exception_handlers(app)
    """
    answer_errors(app, as_json)


SessionDep: TypeAlias = Annotated[AsyncSession, _dependency(live.current_or_default)]
"""The session of the innermost open unit of work, else of the only live Database called "default"."""
