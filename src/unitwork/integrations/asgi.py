"""This module opens a unit of work around each HTTP request of any ASGI application."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from typing_extensions import override

from unitwork._runtime import context
from unitwork.database import Database
from unitwork.integrations.answers import Answer, rule_of
from unitwork.integrations.units import several
from unitwork.integrations.web import (
    FIRST_ERROR_STATUS,
    FIRST_FINAL_STATUS,
    NOT_STORED,
    CommitRule,
    ErrorRule,
    RequestUnits,
    Rules,
    below_400,
)

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork._runtime.context import OpenScope
    from unitwork.integrations.answers import AnswerRule
    from unitwork.integrations.positions import ReadYourWrites

__all__ = ["Lifespan", "UnitOfWorkMiddleware", "below_400", "lifespan"]

# Mappings. Each framework has types of its own for them, which do not fit each other.
Scope: TypeAlias = Any
Message: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_Function = TypeVar("_Function", bound=Callable[..., Awaitable[None]])

_REQUESTS = "unitwork.requests"
_START = "http.response.start"
_BODY = json.dumps(NOT_STORED).encode()


class UnitOfWorkMiddleware:
    """Gives each HTTP request a unit of work, committed before the first byte of the response.

    A pure ASGI middleware: `app.add_middleware(UnitOfWorkMiddleware, database=db)` in Starlette and
    FastAPI, `UnitOfWorkMiddleware(app, database=db)` anywhere. The status decides: below 400
    commits, anything else and every exception rolls back. If COMMIT fails, the client gets an
    error and never a success. The connection is back in the pool before the body is sent, so a
    streaming body or a background task opens a transaction of its own. WebSocket and lifespan get
    nothing. A request that never touches the database sends and opens nothing.

    Args:
        app: The application inside.
        database: One Database, or several: each gets a unit of its own. They commit in this order;
            when one cannot, those after it roll back, and those before it stay committed.
        atomic: Each unit is one transaction, which begins with the first write, lock or block; else each
            block, and each write of a repository, commits by itself.
        commit_when: Says by the status whether to commit.
        on_commit_error: Says by the exception of a failed COMMIT which status the client gets,
            such as 409 or 503; None raises the exception, and the server answers 500. Without it, an
            application that has called `exception_handlers` answers as those do.
        read_your_writes: How a client carries what it has written to its next request, where there are
            replicas; see `unitwork.integrations.positions`.

    Raises:
        TransactionRefusedError: The middleware is installed twice for one Database. At the request.
        AfterCommitError: The work is stored, but functions registered with `on_commit` failed.
            When the response has been sent: it is what the client gets.

    Examples:
        >>> async def application(scope, receive, send): ...
        >>> app = UnitOfWorkMiddleware(application, database=db)
    """

    def __init__(  # noqa: PLR0913  # what a person says of requests
        self,
        app: Application,
        *,
        database: Database | Sequence[Database],
        atomic: bool = True,
        commit_when: CommitRule = below_400,
        on_commit_error: ErrorRule | None = None,
        read_your_writes: ReadYourWrites | None = None,
    ) -> None:
        self._app = app
        self._rules = Rules(several(database), atomic, commit_when, on_commit_error, read_your_writes)
        self._watches_answers = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._watches_answers:
            self._watches_answers = True
            _watch_answers(self._app)
        around: tuple[_Request, ...] = scope.get(_REQUESTS, ())
        self._refuse_twice(around)
        request = _Request(self._rules, scope, send, self.answers_of)
        # The scope itself is changed, not a copy: middleware outside may read what routers put there.
        scope[_REQUESTS] = (*around, request)
        try:
            request.begin()
            await self._app(scope, receive, request.send)
        except BaseException as error:
            if await request.fail(error):
                raise
        else:
            if not request.settled:
                await request.end(commit=False)
        finally:
            request.drop()
            scope[_REQUESTS] = around
        if request.failure is not None:
            raise request.failure

    def _refuse_twice(self, around: Sequence[_Request]) -> None:
        if not around:
            return
        inside = [database for each in around for database in each.rules.databases]
        self._rules.refuse_twice(inside, "UnitOfWorkMiddleware")

    def answers_of(self, scope: Scope) -> AnswerRule | None:
        """Return how a request's application answers a failed COMMIT, if it has said so."""
        return rule_of(scope.get("app"))


def _returns_coroutines(function: _Function) -> _Function:
    """Mark a function as if it were written with `async def`, for those that ask before they call it."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return function


class _Request(RequestUnits):
    """The units of one request, which end before the first message of its response is sent on."""

    __slots__ = ("_answered", "_answers_of", "_marks", "_scope", "_send")

    def __init__(
        self, rules: Rules, scope: Scope, send: Send, answers_of: Callable[[Scope], AnswerRule | None]
    ) -> None:
        super().__init__(rules, f"the request {scope['method']} {scope['path']}", scope)
        self._send = send
        self._scope = scope
        self._answers_of = answers_of
        self._answered = False
        self._marks: list[OpenScope] = []

    @_returns_coroutines
    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; before the first of the response, commit or roll back."""
        if self.settled and self.refusal is None and self.header is None:
            return self._send(message)  # of many that a body may have
        return self._send_checked(message)

    async def _send_checked(self, message: Message) -> None:
        if not self.settled:
            if message["type"] == _START and message["status"] >= FIRST_FINAL_STATUS:
                await self.end_by(message["status"])
        elif self.refusal is not None:
            if self._answered or message["type"] != _START or message["status"] < FIRST_ERROR_STATUS:
                raise self.refusal
            # The application answers the failure by itself.
            self.answered_by_itself()
        if self.header is not None and message["type"] == _START:
            message = {**message, "headers": [*message.get("headers", ()), self.header]}
            self.header = None
        await self._send(message)

    async def answered_inside(self, message: Message) -> None:
        """The application has begun its answer, which middleware may keep: what its body does is outside.

        A body that comes piece by piece (it has no length) runs before anything is sent, and may use the
        database: so the units end now, by the application's own status.
        """
        if self.settled or message["status"] < FIRST_FINAL_STATUS:
            return
        if any(name.lower() == b"content-length" for name, _value in message.get("headers", ())):
            marks = (context.step_outside(unit.source, ended=unit) for unit in self._units)
            self._marks += [mark for mark in marks if mark is not None]
        else:
            await self.end_by(message["status"])

    @override
    async def settle(self, *, commit: bool) -> None:
        self._show_again()
        try:
            await super().settle(commit=commit)
        except Exception as failure:
            await self._answer(failure)
            raise

    @override
    def drop(self) -> None:
        self._show_again()
        super().drop()

    def _show_again(self) -> None:
        """Take away what has hidden the units from the code behind the beginning of the answer."""
        while self._marks:
            context.drop(self._marks.pop())

    async def _answer(self, failure: Exception) -> None:
        """Answer a failed COMMIT, if a rule says how."""
        try:
            status = self.rules.status_of(failure)
        except Exception as second:
            self.failure = second
            raise
        answer = None if status is None else Answer(status, "application/json", _BODY)
        # Asked now: of the application inside that has answered nothing was known before.
        rule = self._answers_of(self._scope) if self.rules.on_commit_error is None else None
        if rule is not None:
            answer = rule(failure)
        if answer is not None:
            self.failure = None
            self._answered = True
            await answer(None, None, self._send)


class _Innermost:
    """The application below all middleware, which tells when it begins its answer. Lives: as long as that."""

    def __init__(self, app: Application) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the application has
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        requests: tuple[_Request, ...] = scope.get(_REQUESTS, ()) if scope["type"] == "http" else ()
        if not requests:
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == _START:
                for request in requests:
                    await request.answered_inside(message)
            await send(message)

        await self._app(scope, receive, answer)


def _watch_answers(app: Any) -> None:  # noqa: ANN401  # any application
    """Find the applications below the middleware of Starlette and FastAPI, where that may keep answers.

    Such middleware (`BaseHTTPMiddleware`, gzip) passes the beginning of an answer on when its body has begun
    already; only the application knows when the body begins. Middleware keeps what is below it as `app`, and
    a router has more of both below its routes.
    """
    holder: Any = None
    place, between, inner = "", 0, app
    while True:
        if hasattr(inner, "build_middleware_stack"):
            if inner.middleware_stack is None:
                inner.middleware_stack = inner.build_middleware_stack()
            holder, place, inner = inner, "middleware_stack", inner.middleware_stack
        elif callable(vars(inner).get("app") if hasattr(inner, "__dict__") else None):
            between += type(inner).__module__ not in _TRANSPARENT
            holder, place, inner = inner, "app", inner.app
        else:
            break
    if between and holder is not None and not isinstance(inner, _Innermost):
        setattr(holder, place, _Innermost(inner))
    for route in getattr(inner, "routes", None) or ():
        if "app" in vars(route):
            _watch_answers(route)


_TRANSPARENT = frozenset(
    {
        "starlette.middleware.exceptions",
        "starlette.middleware.errors",
        "fastapi.middleware.asyncexitstack",
        "starlette.routing",
        "fastapi._body_limit",
        "fastapi.routing",
        "fastapi.telemetry._asgi",
    }
)
"""Middleware that passes each message on at once."""


class Lifespan:
    """What `lifespan()` returns. Lives: as long as the application."""

    def __init__(self, databases: tuple[Database, ...]) -> None:
        self._databases = databases

    def __call__(self, _app: object) -> Lifespan:
        """Be the lifespan of an application, as frameworks call it."""
        return self

    async def __aenter__(self) -> None:
        """Start. Nothing connects before the first statement."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for database in self._databases:
            await database.dispose()


def lifespan(*databases: Database) -> Lifespan:
    """Close the connections of these Databases when the application ends.

    For Starlette and FastAPI: `FastAPI(lifespan=lifespan(db))`. In a lifespan of your own, write
    `async with db:` around its `yield` instead.

    Examples:
        >>> running = lifespan(db)
    """
    return Lifespan(databases)
