"""COMMIT comes before the first byte of the response, whatever the application does."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.from_thread
import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from tests.fixtures.errors import ShopError
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange, Message
from unitwork import (
    AfterCommitError,
    Database,
    NoTransactionError,
    OptionError,
    TransactionEndedError,
    TransactionRefusedError,
    UnexpectedRollbackError,
)
from unitwork._runtime import context
from unitwork.integrations.asgi import UnitOfWorkMiddleware
from unitwork.observe import StatementLog

OK = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"fine"}
TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"

Endpoint = Callable[..., Any]


def route(endpoint: Endpoint, **options: Any) -> Route:
    """The one route of an application."""
    return Route("/", endpoint, **options)


def around(db: Database, **options: Any) -> Middleware:
    """The middleware, as Starlette installs it."""
    return Middleware(UnitOfWorkMiddleware, database=db, **options)


async def pass_through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """A middleware of the kind that runs the application inside in a task of its own."""
    return await call_next(request)


# -- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 302, 304])
async def test_commit_comes_before_the_response_starts(db: Database, observer: Observer, status: int) -> None:
    """When the first message goes out, the row is there and the connection is back."""
    seen: list[tuple[str, list[str], int]] = []

    async def app(_scope: Message, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        db.session.add(Audit(note="x"))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send(END)

    async def send(message: Message) -> None:
        seen.append((message["type"], await observer.notes(Audit), db.pool_status().checked_out))

    await UnitOfWorkMiddleware(app, database=db)(Exchange().scope, asyncio.Event().wait, send)

    assert seen == [("http.response.start", ["x"], 0), ("http.response.body", ["x"], 0)]


async def test_interim_response_ends_nothing(db: Database, observer: Observer) -> None:
    """A status below 200 is not yet the answer: the unit goes on."""

    async def app(_scope: Message, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        db.session.add(Audit(note="before"))
        await send({"type": "http.response.start", "status": 103, "headers": []})
        db.session.add(Audit(note="after"))
        await send(OK)
        await send(END)

    exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert exchange.statuses == [103, 200]
    assert await observer.notes(Audit) == ["after", "before"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_head_commits_as_get_does(db: Database, observer: Observer, method: str) -> None:
    """A response without a body is a response."""

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="x"))
        return Response("text")

    exchange = await Exchange(method=method).run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))

    assert exchange.statuses == [200]
    assert await observer.notes(Audit) == ["x"]


async def test_response_that_never_starts_rolls_back(db: Database, observer: Observer) -> None:
    """Nothing answered, nothing stored."""

    async def app(_scope: Message, _receive: Any, _send: Any) -> None:  # noqa: ANN401 - ASGI
        db.session.add(Audit(note="x"))
        await db.session.flush()

    exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert exchange.sent == []
    assert await observer.notes(Audit) == []


async def test_failure_after_the_response_started_undoes_nothing(db: Database, observer: Observer) -> None:
    """What was answered as stored is stored, also when the body breaks off."""

    async def app(_scope: Message, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        db.session.add(Audit(note="x"))
        await send(OK)
        raise ShopError("in the body")

    exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert isinstance(exchange.raised, ShopError)
    assert await observer.notes(Audit) == ["x"]


@pytest.mark.parametrize("atomic", [False, True])
async def test_request_that_asks_nothing_sends_nothing(db: Database, *, atomic: bool) -> None:
    """No connection is opened for a request that never touches the database."""

    async def endpoint(_request: Request) -> Response:
        tasks = len(asyncio.all_tasks())
        return JSONResponse([db.pool_status().checked_out, tasks])

    app = Starlette(routes=[route(endpoint)], middleware=[around(db, atomic=atomic)])
    with StatementLog(db) as log:
        exchange = await Exchange().run(app)

    status = db.pool_status()
    assert exchange.body == f"[0,{len(asyncio.all_tasks())}]".encode()
    assert (len(log), log.control, status.checked_out, status.idle) == (0, [], 0, 0)


# -- a COMMIT that fails ------------------------------------------------------------------------


def swallowing(db: Database, *then: Message) -> Endpoint:
    """An application that does not believe that the COMMIT failed, and sends these messages."""

    async def app(_scope: Message, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        db.session.add(Account(name="ann"))
        try:
            await send(OK)
        except IntegrityError:
            for message in then:
                await send(message)

    return app


@pytest.mark.parametrize("then", [(OK, END), (END,), ()])
async def test_application_cannot_answer_success_after_a_failed_commit(
    db: Database, observer: Observer, then: tuple[Message, ...]
) -> None:
    """Swallowing the error leads to no answer, and the error is raised to the server."""
    await observer.run(TAKEN)

    exchange = await Exchange().run(UnitOfWorkMiddleware(swallowing(db, *then), database=db))

    assert exchange.sent == []
    assert isinstance(exchange.raised, IntegrityError)


async def test_application_may_answer_the_failed_commit_by_itself(db: Database, observer: Observer) -> None:
    """An error answer of the application's own goes out."""
    await observer.run(TAKEN)
    conflict = {**OK, "status": 409}

    exchange = await Exchange().run(UnitOfWorkMiddleware(swallowing(db, conflict, END), database=db))

    assert (exchange.statuses, exchange.body, exchange.raised) == ([409], b"fine", None)


def conflict(failure: Exception) -> int | None:
    """The rule of the tests below."""
    return 409 if isinstance(failure, IntegrityError) else None


async def handled(_request: Request, _error: Exception) -> Response:
    """An exception handler that calls everything a success."""
    return Response("handled")


@pytest.mark.parametrize("handlers", [{}, {IntegrityError: handled}, {Exception: handled}])
@pytest.mark.parametrize("layers", ["alone", "inside", "outside"])
async def test_rule_chooses_the_status_of_a_failed_commit(
    db: Database, observer: Observer, handlers: dict[Any, Any], layers: str
) -> None:
    """`on_commit_error` answers, whatever handlers and middleware of the framework are around."""
    await observer.run(TAKEN)

    async def endpoint(_request: Request) -> Response:
        db.session.add(Account(name="ann"))
        return Response("stored")

    task_of_its_own = Middleware(BaseHTTPMiddleware, dispatch=pass_through)
    ours = around(db, on_commit_error=conflict)
    middleware = {"alone": [ours], "inside": [task_of_its_own, ours], "outside": [ours, task_of_its_own]}
    app = Starlette(routes=[route(endpoint)], middleware=middleware[layers], exception_handlers=handlers)

    exchange = await Exchange().run(app)

    assert (exchange.statuses, exchange.raised) == ([409], None)
    assert b"could not be stored" in exchange.body


@pytest.mark.parametrize("handlers", [{}, {IntegrityError: handled}])
async def test_failed_commit_without_a_rule_is_an_internal_error(
    db: Database, observer: Observer, handlers: dict[Any, Any]
) -> None:
    """The client gets 500, and the server logs the database's own error."""
    await observer.run(TAKEN)

    async def endpoint(_request: Request) -> Response:
        db.session.add(Account(name="ann"))
        return Response("stored")

    app = Starlette(routes=[route(endpoint)], middleware=[around(db)], exception_handlers=handlers)
    exchange = await Exchange().run(app)

    assert exchange.statuses == [500]
    assert isinstance(exchange.raised, IntegrityError)


async def test_rule_cannot_call_a_failed_commit_a_success(db: Database, observer: Observer) -> None:
    """A status below 400 from `on_commit_error` is refused, and says what is allowed."""
    await observer.run(TAKEN)
    app = UnitOfWorkMiddleware(swallowing(db), database=db, on_commit_error=lambda _failure: 204)

    exchange = await Exchange().run(app)

    assert exchange.sent == []
    assert isinstance(exchange.raised, OptionError)
    assert "400 or above" in str(exchange.raised)


async def test_swallowed_failure_inside_is_not_answered_as_success(db: Database, observer: Observer) -> None:
    """A handler that swallows a database error of its session cannot commit by answering."""

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="half"))
        try:
            db.session.add_all([Account(name="ann"), Account(name="ann")])
            await db.session.flush()
        except IntegrityError:
            pass
        return Response("fine")

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))

    assert exchange.statuses == [500]
    assert isinstance(exchange.raised, UnexpectedRollbackError)
    assert "the request GET /" in str(exchange.raised)
    assert await observer.notes(Audit) == []


async def test_failed_work_after_the_commit_does_not_hide_the_answer(
    db: Database, observer: Observer
) -> None:
    """The work is stored, so the success goes out; the server hears of the failure afterwards."""

    def mail() -> None:
        raise ShopError("no mail")

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="x"))
        db.on_commit(mail)
        return Response("stored")

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))

    assert exchange.statuses == [200]
    assert isinstance(exchange.raised, AfterCommitError)
    assert await observer.notes(Audit) == ["x"]


@pytest.mark.parametrize("failing", ["on_rollback", "listener"])
async def test_failed_work_after_a_rollback_does_not_change_the_answer(
    db: Database, observer: Observer, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    """The status has decided, and goes out as it is; what failed after the rollback is logged once."""

    def fail(*_arguments: object) -> None:
        raise ShopError("not cleaned")

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="x"))
        await db.session.flush()
        if failing == "on_rollback":
            db.on_rollback(fail)
        else:
            event.listen(db.session.sync_session, "after_rollback", fail)
        return Response("no such thing", status_code=404)

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))

    assert (exchange.statuses, exchange.raised) == ([404], None)
    (record,) = [each for each in caplog.records if each.name == "unitwork"]
    assert record.exc_info is not None
    assert "not cleaned" in "".join(traceback.format_exception(record.exc_info[1]))
    assert db.pool_status().checked_out == 0
    assert await observer.notes(Audit) == []


# -- rules and several databases ----------------------------------------------------------------


async def test_rule_says_what_commits(db: Database, observer: Observer) -> None:
    """`commit_when` decides by the status alone."""

    async def endpoint(request: Request) -> Response:
        db.session.add(Audit(note=request.query_params["status"]))
        return Response(status_code=int(request.query_params["status"]))

    rule = around(db, commit_when=lambda status: status in (200, 404))
    app = Starlette(routes=[route(endpoint)], middleware=[rule])
    for status in (200, 201, 404, 409):
        exchange = Exchange()
        exchange.scope["query_string"] = f"status={status}".encode()
        await exchange.run(app)
        assert exchange.statuses == [status]

    assert await observer.notes(Audit) == ["200", "404"]


async def test_atomic_request_is_one_transaction(db: Database, observer: Observer) -> None:
    """With `atomic`, blocks inside join: an error answer undoes what they wrote as well."""

    async def endpoint(request: Request) -> Response:
        async with db.transaction():
            db.session.add(Audit(note=request.query_params["status"]))
        return Response(status_code=int(request.query_params["status"]))

    app = Starlette(routes=[route(endpoint)], middleware=[around(db, atomic=True)])
    for status in (200, 409):
        exchange = Exchange()
        exchange.scope["query_string"] = f"status={status}".encode()
        await exchange.run(app)

    assert await observer.notes(Audit) == ["200"]


async def test_commit_by_hand_keeps_what_there_is_so_far(db: Database, observer: Observer) -> None:
    """The request goes on with another transaction, which its status undoes."""

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="kept"))
        await db.commit()
        async with db.transaction():
            db.session.add(Audit(note="undone"))
        return Response(status_code=409)

    app = Starlette(routes=[route(endpoint)], middleware=[around(db)])

    assert (await Exchange().run(app)).statuses == [409]
    assert await observer.notes(Audit) == ["kept"]


@pytest.fixture
def second() -> Database:
    """Another Database, in memory; it is disposed of with the test that fills it."""
    return Database("sqlite+aiosqlite:///:memory:", name="second")


async def test_two_databases_commit_together(db: Database, second: Database, observer: Observer) -> None:
    """Each Database has its own unit; a failing COMMIT of the first rolls the second back."""
    await observer.run(TAKEN)

    async with second:
        await second.create_all(Audit)

        async def endpoint(request: Request) -> Response:
            name = request.query_params["name"]
            db.session.add(Account(name=name))
            second.session.add(Audit(note=name))
            return Response()

        app = Starlette(routes=[route(endpoint)], middleware=[around(db), around(second)])
        both = Starlette(routes=[route(endpoint)], middleware=[around([db, second])])  # type: ignore[arg-type]
        statuses: list[int] = []
        for name, application in (("ann", both), ("bob", both), ("cat", app)):
            exchange = Exchange()
            exchange.scope["query_string"] = f"name={name}".encode()
            statuses += (await exchange.run(application)).statuses
        async with second.transaction() as session:
            notes = sorted(await session.scalars(Audit.__table__.select().with_only_columns(Audit.note)))

    assert statuses == [500, 200, 200]
    assert await observer.names(Account) == ["ann", "bob", "cat"]
    assert notes == ["bob", "cat"]


async def test_second_rollback_that_fails_is_told_by_the_first_failure(
    db: Database, second: Database, observer: Observer
) -> None:
    """The first cannot commit; what fails in the end of the second is a note on that."""

    def fail() -> None:
        raise ShopError("not cleaned")

    def refuse() -> None:
        raise ShopError("not now")

    async with second:
        await second.create_all(Audit)

        async def endpoint(_request: Request) -> Response:
            db.session.add(Audit(note="x"))
            db.before_commit(refuse)
            second.session.add(Audit(note="y"))
            await second.session.flush()
            second.on_rollback(fail)
            return Response("stored")

        middleware = Middleware(UnitOfWorkMiddleware, database=[db, second])
        exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[middleware]))

    assert str(exchange.raised) == "not now"
    assert exchange.raised is not None
    assert "not cleaned" in "\n".join(exchange.raised.__notes__)
    assert await observer.notes(Audit) == []


# -- where it is installed ----------------------------------------------------------------------


async def test_installed_twice_is_refused(db: Database) -> None:
    """Two units for one request would hide each other: the second installation says so."""
    app = UnitOfWorkMiddleware(Starlette(middleware=[around(db)]), database=db)

    exchange = await Exchange().run(app)

    assert exchange.statuses == [500]
    assert isinstance(exchange.raised, TransactionRefusedError)
    assert "installed twice" in str(exchange.raised)
    assert "Fix: remove one of them" in str(exchange.raised)


async def test_application_is_served_again_after_a_refusal(db: Database) -> None:
    """What one request has left in its scope does not hinder the same scope later."""

    async def app(_scope: Message, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await send(OK)

    exchange = Exchange()
    middleware = UnitOfWorkMiddleware(app, database=db)
    await exchange.run(middleware)
    await exchange.run(middleware)

    assert (exchange.statuses, exchange.raised) == ([200, 200], None)


async def test_mounted_application_shares_the_unit(db: Database, observer: Observer) -> None:
    """A mounted application, and middleware with tasks of its own, find the session of the request."""

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="mounted"))
        return Response()

    mounted = Starlette(
        routes=[route(endpoint)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_through)]
    )
    app = Starlette(routes=[Mount("/sub", mounted)], middleware=[around(db)])

    exchange = await Exchange("/sub/").run(app)

    assert exchange.statuses == [200]
    assert await observer.notes(Audit) == ["mounted"]


async def test_middleware_outside_sees_the_route(db: Database) -> None:
    """What routers put into the scope reaches middleware outside, as tracing needs it."""

    async def endpoint(_request: Request) -> Response:
        return Response()

    exchange = await Exchange().run(UnitOfWorkMiddleware(Starlette(routes=[route(endpoint)]), database=db))

    assert exchange.scope["endpoint"] is endpoint


async def test_sync_endpoint_reaches_its_unit_through_the_loop(db: Database, observer: Observer) -> None:
    """In a thread the session is refused with a fix; functions run on the loop find it."""
    errors: list[str] = []

    async def add() -> None:
        db.session.add(Audit(note="from a thread"))
        await db.session.flush()

    def endpoint(_request: Request) -> Response:
        try:
            _ = db.session
        except TransactionRefusedError as error:
            errors.append(str(error))
        anyio.from_thread.run(add)
        return Response()

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))

    assert exchange.statuses == [200]
    assert "thread" in errors[0]
    assert "Fix:" in errors[0]
    assert await observer.notes(Audit) == ["from a thread"]


async def test_websocket_and_lifespan_hold_nothing(db: Database) -> None:
    """A WebSocket has no session of its own accord; it opens a block for each message."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(NoTransactionError):
            _ = db.session
        async with db.transaction():
            db.session.add(Audit(note="message"))
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/", endpoint)], middleware=[around(db)])
    exchange = await Exchange(kind="websocket").run(app)

    assert exchange.raised is None
    assert [message["type"] for message in exchange.sent] == ["websocket.accept", "websocket.close"]


# -- what comes after the end -------------------------------------------------------------------


async def test_task_that_outlives_its_request_is_told_so(db: Database, observer: Observer) -> None:
    """A task that was started by a request and comes later gets an error, or a block of its own."""
    gate = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def late() -> None:
        await gate.wait()
        with pytest.raises(TransactionEndedError):
            _ = db.session
        async with db.transaction():
            db.session.add(Audit(note="late"))

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="request"))
        tasks.append(asyncio.create_task(late()))
        return Response()

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))
    gate.set()
    await tasks[0]

    assert exchange.statuses == [200]
    assert await observer.notes(Audit) == ["late", "request"]


async def test_request_does_not_commit_while_a_task_is_inside(db: Database, observer: Observer) -> None:
    """A block that another task has joined and not left makes the request fail, by name."""
    inside = asyncio.Event()
    gate = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    @db.transactional
    async def write_slowly() -> None:
        db.session.add(Audit(note="half"))
        inside.set()
        await gate.wait()

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="request"))
        tasks.append(asyncio.create_task(write_slowly()))
        await inside.wait()
        return Response()

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))
    gate.set()
    with pytest.raises(TransactionEndedError):
        await tasks[0]

    assert exchange.statuses == [500]
    assert "write_slowly" in str(exchange.raised)
    assert await observer.notes(Audit) == []


async def test_stream_leaves_nothing_in_the_context_of_its_caller(db: Database, observer: Observer) -> None:
    """The response may start in a task of its own: the session is gone for the caller all the same."""

    async def body() -> AsyncIterator[bytes]:
        yield b"streamed"

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="x"))
        return StreamingResponse(body())

    exchange = await Exchange().run(Starlette(routes=[route(endpoint)], middleware=[around(db)]))

    assert exchange.body == b"streamed"
    assert await observer.notes(Audit) == ["x"]
    with pytest.raises(NoTransactionError):
        _ = db.session


async def test_block_that_is_open_across_the_response_is_refused(db: Database, observer: Observer) -> None:
    """A block that would end after the response cannot: the request fails and says which block."""

    async def app(_scope: Message, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        async with db.transaction():
            db.session.add(Audit(note="x"))
            await send(OK)

    exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=db))

    assert exchange.sent == []
    assert isinstance(exchange.raised, UnexpectedRollbackError)
    assert "test_asgi_middleware.py" in str(exchange.raised)
    assert await observer.notes(Audit) == []
    with pytest.raises(NoTransactionError):
        _ = db.session


@pytest.mark.parametrize("turns", range(0, 60, 6))
async def test_cancelled_request_leaves_nothing_half_done(
    db: Database, observer: Observer, turns: int
) -> None:
    """Wherever a cancellation strikes, both rows are there or none, and the connection is back."""

    async def endpoint(_request: Request) -> Response:
        db.session.add(Audit(note="x"))
        await db.session.flush()
        db.session.add(Account(name="x"))
        return Response()

    exchange = Exchange()
    app = Starlette(routes=[route(endpoint)], middleware=[around(db)])
    task = asyncio.create_task(exchange.run(app))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    stored = (await observer.notes(Audit), await observer.names(Account))
    assert stored in (([], []), (["x"], ["x"]))
    assert exchange.statuses in ([], [200])
    assert not exchange.statuses or stored[0]


class PassingOn:
    """Middleware of a program's own, which might keep answers for all that is known of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application below answer."""
        await self.app(scope, receive, send)


async def test_requests_of_one_task_leave_nothing_in_its_context(db: Database) -> None:
    """Also below middleware that keeps answers, which hides the unit from the body of the answer."""

    async def endpoint(_request: Request) -> Response:
        return Response("nothing asked")

    app = Starlette(routes=[route(endpoint)], middleware=[around(db), Middleware(PassingOn)])
    statuses = [(await Exchange().run(app)).statuses for _ in range(2)]

    assert statuses == [[200], [200]]
    assert context.open_scopes() == ()
