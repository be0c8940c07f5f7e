"""This module opens a unit of work around each request of an aiohttp application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from unitwork.database import Database
from unitwork.errors import AfterCommitError, DeclarationError, MissingExtraError
from unitwork.integrations.positions import ReadYourWrites
from unitwork.integrations.units import several
from unitwork.integrations.web import (
    FIRST_ERROR_STATUS,
    NOT_STORED,
    CommitRule,
    ErrorRule,
    RequestUnits,
    Rules,
    below_400,
)

try:
    from aiohttp import web
except ModuleNotFoundError as missing:
    raise MissingExtraError("unitwork.integrations.aiohttp", "aiohttp", "aiohttp") from missing

__all__ = ["setup"]

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("unitwork")
# Newer versions warn of keys that are text.
_REQUESTS: Any = web.RequestKey("unitwork", tuple) if hasattr(web, "RequestKey") else "unitwork"


def setup(  # noqa: PLR0913  # what a person says of requests
    app: web.Application,
    *,
    database: Database | Sequence[Database],
    atomic: bool = True,
    commit_when: CommitRule = below_400,
    on_commit_error: ErrorRule | None = None,
    read_your_writes: ReadYourWrites | None = None,
) -> None:
    """Give each request of an application a unit of work, committed before the first byte of the response.

    The status decides, also that of a `web.HTTPException` that is raised: below 400 commits, anything else
    and every other exception rolls back. If COMMIT fails, the client gets an error and never a success.
    A response that the handler prepares itself (a stream, a WebSocket) ends the unit when it is prepared;
    what follows holds no connection, and opens transactions of its own. Of a `web.FileResponse` the status
    counts that the handler has returned it with: whether there is such a file is found out later. A request
    that never touches the database sends and opens nothing. When the application ends, the connections are
    closed.

    Call it before the application starts. Its middleware comes first, so that what other middleware does
    belongs to the unit of work as well; applications that are added to this one are served, too.

    Args:
        app: The application.
        database: One Database, or several: each gets a unit of its own. They commit in this order;
            when one cannot, those after it roll back, and those before it stay committed.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.
        commit_when: Says by the status whether to commit.
        on_commit_error: Says by the exception of a failed COMMIT which status the client gets,
            such as 409 or 503; None raises the exception, and aiohttp answers 500.
        read_your_writes: How a client carries what it has written to its next request, where there are
            replicas; see `unitwork.integrations.positions`.

    Raises:
        DeclarationError: The application has started.
        TransactionRefusedError: It is set up twice for one Database. At the request.

    Database:
        Functions registered with `on_commit` that fail are logged: the work is stored, and so the answer
        goes out as it is.

    Examples:
        >>> from aiohttp import web
        >>> app = web.Application()
        >>> setup(app, database=db)
    """
    databases = several(database)
    if app.pre_frozen:
        problem = "the application runs already, or was added to another one"
        raise DeclarationError(
            "setup()", problem, "call it before `add_subapp`, and before the application runs."
        )
    around = _Middleware(Rules(databases, atomic, commit_when, on_commit_error, read_your_writes))
    app.middlewares.insert(0, web.middleware(around))
    app.on_response_prepare.append(around.answer_begins)
    # First as well: what others do at the end may still use the database.
    app.cleanup_ctx.insert(0, _closing(databases))


def _closing(databases: tuple[Database, ...]) -> Callable[[web.Application], AsyncIterator[None]]:
    async def close(_app: web.Application) -> AsyncIterator[None]:
        yield
        for database in databases:
            await database.dispose()

    return close


class _Request(RequestUnits):
    """The units of one request. Lives: as long as the request."""

    __slots__ = ()

    def __init__(self, rules: Rules, request: web.Request) -> None:
        headers = [(name.lower(), value) for name, value in request.raw_headers]
        scope = {"headers": headers, "scheme": request.scheme}
        super().__init__(rules, f"the request {request.method} {request.path}", scope)

    async def answer(self, response: web.StreamResponse) -> None:
        """Commit or roll back by the status of a response, and let it tell what the client has to know."""
        await self.end_by(response.status)
        if self.header is not None:
            name, value = self.header
            response.headers.add(name.decode(), value.decode())
            self.header = None

    def refuse(self, response: web.StreamResponse) -> None:
        """Refuse a success, and what has begun as one, after a COMMIT that failed.

        Raises:
            Exception: That of the COMMIT.
        """
        if self.refusal is not None:
            if response.status < FIRST_ERROR_STATUS:
                raise self.refusal
            self.answered_by_itself()


class _Middleware:
    """One installation. Lives: as long as the application."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request; called by aiohttp."""
        around: tuple[_Request, ...] = request.get(_REQUESTS, ())
        inside = [database for each in around for database in each.rules.databases]
        self._rules.refuse_twice(inside, "unitwork.integrations.aiohttp")
        units = _Request(self._rules, request)
        request[_REQUESTS] = (*around, units)
        try:
            units.begin()
            return await self._answered(units, request, handler)
        except BaseException as error:
            await units.fail(error)
            if units.refusal is None or not isinstance(error, Exception):
                raise
            return self._told(units.refusal)
        finally:
            units.drop()
            request[_REQUESTS] = around
            if isinstance(units.failure, AfterCommitError):
                _log.error(
                    "Committed, but functions registered with `on_commit` failed.", exc_info=units.failure
                )

    async def _answered(self, units: _Request, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the application answer, and end the units by the status, unless the answer has begun."""
        try:
            response = await handler(request)
        except web.HTTPException as response_raised:
            await self._ended(units, response_raised)
            raise
        if not isinstance(response, web.StreamResponse):  # pyright: ignore[reportUnnecessaryIsInstance]  # a forgotten return
            problem = f"the handler has returned {type(response).__name__}, which is no response"
            raise DeclarationError(f"{request.method} {request.path}", problem, "return a `web.Response`.")
        await self._ended(units, response)
        return response

    @staticmethod
    async def _ended(units: _Request, response: web.StreamResponse) -> None:
        if units.settled:
            units.refuse(response)
        else:
            await units.answer(response)

    def _told(self, failure: Exception) -> web.StreamResponse:
        """Return the response to a failed COMMIT, or raise it."""
        status = self._rules.status_of(failure)
        if status is None:
            raise failure
        return web.json_response(NOT_STORED, status=status)

    async def answer_begins(self, request: web.Request, response: web.StreamResponse) -> None:
        """The first bytes of an answer are about to be sent; called by aiohttp.

        Of most answers all is known by then: their handlers have returned. Others are sent by their handlers.
        """
        for units in request.get(_REQUESTS, ()):
            if units.rules is self._rules:
                await self._ended(units, response)
