"""This module opens a unit of work around each HTTP request of any ASGI application."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from typing_extensions import override

from unitwork._runtime import context
from unitwork.database import Database
from unitwork.errors import AfterCommitError, OptionError, TransactionRefusedError
from unitwork.integrations.positions import Carried
from unitwork.integrations.units import Units, several

if TYPE_CHECKING:
    from types import TracebackType

    from unitwork._runtime.context import OpenScope
    from unitwork.integrations.positions import ReadYourWrites

__all__ = ["Lifespan", "UnitOfWorkMiddleware", "below_400", "lifespan"]

# Mappings. Each framework has types of its own for them, which do not fit each other.
Scope: TypeAlias = Any
Message: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
CommitRule: TypeAlias = Callable[[int], bool]
ErrorRule: TypeAlias = Callable[[Exception], int | None]

_Function = TypeVar("_Function", bound=Callable[..., Awaitable[None]])

_INSIDE = "unitwork.databases"
_REQUESTS = "unitwork.requests"
_START = "http.response.start"
_FIRST_FINAL_STATUS = 200
_FIRST_ERROR_STATUS = 400
_BODY = json.dumps({"detail": "The request could not be stored."}).encode()
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


def below_400(status: int) -> bool:
    """Commit what ended well: every status below 400."""
    return status < _FIRST_ERROR_STATUS


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
            such as 409 or 503; None raises the exception, and the server answers 500.
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
        self._rules = _Rules(several(database), atomic, commit_when, on_commit_error, read_your_writes)
        self._watches_answers = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._watches_answers:
            self._watches_answers = True
            _watch_answers(self._app)
        inside: tuple[Database, ...] = scope.get(_INSIDE, ())
        self._refuse_twice(inside)
        # The scope itself is changed, not a copy: middleware outside may read what routers put there.
        scope[_INSIDE] = (*inside, *self._rules.databases)
        request = _Request(self._rules, scope, send)
        around: tuple[_Request, ...] = scope.get(_REQUESTS, ())
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
            scope[_INSIDE] = inside
            scope[_REQUESTS] = around
        if request.failure is not None:
            raise request.failure

    def _refuse_twice(self, inside: tuple[Database, ...]) -> None:
        for database in self._rules.databases:
            if database in inside:
                raise TransactionRefusedError(
                    database.name,
                    f"UnitOfWorkMiddleware is installed twice for database {database.name!r}.",
                    "remove one of them; one installation may serve several Databases.",
                )


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one installation was told. Lives: as long as the application."""

    databases: tuple[Database, ...]
    atomic: bool
    commit_when: CommitRule
    on_commit_error: ErrorRule | None
    read_your_writes: ReadYourWrites | None


def _returns_coroutines(function: _Function) -> _Function:
    """Mark a function as if it were written with `async def`, for those that ask before they call it."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return function


class _Request(Units):
    """The units of one request, which end when its status is known. Lives: as long as the request."""

    __slots__ = (
        "_answered",
        "_carried",
        "_header",
        "_marks",
        "_refusal",
        "_rules",
        "_send",
        "failure",
        "settled",
    )

    def __init__(self, rules: _Rules, scope: Scope, send: Send) -> None:
        name = f"the request {scope['method']} {scope['path']}"
        super().__init__(rules.databases, name, atomic=rules.atomic)
        self._rules = rules
        self._send = send
        self._answered = False
        self._carried: Carried | None = None
        if rules.read_your_writes is not None:
            self._carried = Carried(rules.read_your_writes, rules.databases, scope)
        self._header: tuple[bytes, bytes] | None = None
        """What the client is to be told in the response."""
        self._marks: list[OpenScope] = []
        self.settled = False
        """Whether the units have ended, or are about to."""
        self._refusal: Exception | None = None
        """Why no success may be answered."""
        self.failure: Exception | None = None
        """What is still to be raised, if the application does not do it."""

    @_returns_coroutines
    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; before the first of the response, commit or roll back."""
        if self.settled and self._refusal is None and self._header is None:
            return self._send(message)  # of many that a body may have
        return self._send_checked(message)

    async def _send_checked(self, message: Message) -> None:
        if not self.settled:
            if message["type"] == _START and message["status"] >= _FIRST_FINAL_STATUS:
                await self._end_by(message["status"])
        elif self._refusal is not None:
            if self._answered or message["type"] != _START or message["status"] < _FIRST_ERROR_STATUS:
                raise self._refusal
            # The application answers the failure by itself.
            self._refusal = self.failure = None
        if self._header is not None and message["type"] == _START:
            message = {**message, "headers": [*message.get("headers", ()), self._header]}
            self._header = None
        await self._send(message)

    async def answered_inside(self, message: Message) -> None:
        """The application has begun its answer, which middleware may keep: what its body does is outside.

        A body that comes piece by piece (it has no length) runs before anything is sent, and may use the
        database: so the units end now, by the application's own status.
        """
        if self.settled or message["status"] < _FIRST_FINAL_STATUS:
            return
        if any(name.lower() == b"content-length" for name, _value in message.get("headers", ())):
            marks = (context.step_outside(unit.source, ended=unit) for unit in self._units)
            self._marks += [mark for mark in marks if mark is not None]
        else:
            await self._end_by(message["status"])

    async def _end_by(self, status: int) -> None:
        """Commit or roll back, as the status says."""
        self.settled = True
        if not self.end_asleep():
            await self._settle(commit=self._rules.commit_when(status))

    async def _settle(self, *, commit: bool) -> None:
        while self._marks:
            context.drop(self._marks.pop())
        try:
            await self.end(commit=commit)
        except AfterCommitError as failure:
            await self._tell_position()
            # The work is stored, and so the answer is true: it goes out, the error is raised after it.
            self.failure = failure
        except CancelledError:
            self._refusal = _cancelled(self._rules.databases)
            raise
        except Exception as failure:
            self._refusal = self.failure = failure
            await self._answer(failure)
            raise
        else:
            await self._tell_position()

    async def _tell_position(self) -> None:
        if self._carried is not None:
            self._header = await self._carried.header()

    @override
    def drop(self) -> None:
        super().drop()
        if self._carried is not None:
            self._carried.drop()

    async def fail(self, error: BaseException) -> bool:
        """An exception leaves: roll back what no response has ended; say whether to raise it."""
        if not self.settled:
            self.settled = True
            await self.leave(error)
        if self._refusal is not None and isinstance(error, Exception):
            # What follows from a failed COMMIT is that failure, or is answered already.
            return False
        if self.failure is not None:
            error.add_note(str(self.failure))
        return True

    async def _answer(self, failure: Exception) -> None:
        """Answer a failed COMMIT, if a rule says how."""
        rule = self._rules.on_commit_error
        try:
            status = _error_status(rule, failure) if rule is not None else None
        except Exception as second:
            self.failure = second
            raise
        if status is not None:
            self.failure = None
            self._answered = True
            head = {"type": _START, "status": status, "headers": _HEADERS}
            await self._send(head)
            await self._send({"type": "http.response.body", "body": _BODY})


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
        "fastapi.routing",
    }
)
"""Middleware that passes each message on at once."""


def _error_status(rule: ErrorRule, failure: Exception) -> int | None:
    status = rule(failure)
    if status is not None and status < _FIRST_ERROR_STATUS:
        raise OptionError("on_commit_error", status, ["a status of 400 or above", "None"]) from failure
    return status


def _cancelled(databases: tuple[Database, ...]) -> TransactionRefusedError:
    return TransactionRefusedError(
        databases[0].name,
        "The request was cancelled while its work was being stored, so no success can be answered.",
        "answer with a status of 400 or above, or let the cancellation pass.",
    )


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
