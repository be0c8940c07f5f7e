"""Requests of aiohttp keep what those of ASGI keep: one unit, COMMIT before the first byte."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Web
from unitwork import Database, DeclarationError, TransactionEndedError, TransactionRefusedError
from unitwork.integrations.aiohttp import setup

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def serving(web: Web) -> Web:
    """Serves applications; under another name than that of aiohttp's module."""
    return web


def application(handler: Handler, database: Any, **options: Any) -> web.Application:  # noqa: ANN401 - one or several
    """An application with one endpoint for everything."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    setup(app, database=database, **options)
    return app


@pytest.mark.parametrize("kind", ["stream", "response"])
async def test_response_that_the_handler_sends_is_committed_first(
    db: Database, serving: Web, observer: Observer, kind: str
) -> None:
    """When the first byte may arrive, the row is there and the connection is back."""
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        db.session.add(Account(name="ann"))
        response: web.StreamResponse
        if kind == "stream":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
        else:
            response = web.Response(text="first")
        await response.prepare(request)
        seen.extend([await observer.names(Account), db.pool_status().checked_out])
        with pytest.raises(TransactionEndedError):
            _ = db.session
        async with db.transaction():
            db.session.add(Audit(note="later"))
        return response

    client = await serving.client(application(handler, db))

    assert (await client.post("/")).status_code == 200
    assert seen == [["ann"], 0]
    assert await observer.notes(Audit) == ["later"]


async def test_body_that_is_generated_has_no_session(db: Database, serving: Web, observer: Observer) -> None:
    """It runs after the handler has returned, and so after the COMMIT."""
    held: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        held.append(db.pool_status().checked_out)
        yield ",".join(await observer.names(Account)).encode()

    async def handler(_request: web.Request) -> web.Response:
        db.session.add(Account(name="ann"))
        return web.Response(body=body())

    client = await serving.client(application(handler, db))

    assert (await client.post("/")).text == "ann"
    assert held == [0]


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (partial(web.HTTPFound, "/elsewhere"), ["ann"]),
        (web.HTTPNoContent, ["ann"]),
        (web.HTTPNotFound, []),
        (web.HTTPServiceUnavailable, []),
    ],
)
async def test_exception_that_is_a_response_counts_by_its_status(
    db: Database, serving: Web, observer: Observer, made: Callable[[], web.HTTPException], names: list[str]
) -> None:
    """A redirect is raised, too, and is a success."""
    raised = made()  # each is sent once

    async def handler(_request: web.Request) -> web.Response:
        db.session.add(Account(name="ann"))
        raise raised

    client = await serving.client(application(handler, db))

    assert (await client.post("/")).status_code == raised.status
    assert await observer.names(Account) == names


@pytest.mark.parametrize("returned", [None, {"id": 1}])
async def test_what_is_no_response_rolls_back(
    db: Database, serving: Web, observer: Observer, caplog: pytest.LogCaptureFixture, returned: object
) -> None:
    """A forgotten `return` is an error that says what to write; the client gets 500."""

    async def handler(_request: web.Request) -> object:
        db.session.add(Account(name="ann"))
        return returned

    client = await serving.client(application(cast("Handler", handler), db))

    assert (await client.post("/")).status_code == 500
    assert "Fix: return a `web.Response`." in caplog.text
    assert await observer.names(Account) == []


async def test_middleware_of_the_application_is_inside(
    db: Database, serving: Web, observer: Observer
) -> None:
    """What it writes belongs to the request, and the status that it makes of an exception decides."""

    @web.middleware
    async def forgiving(request: web.Request, handler: Handler) -> web.StreamResponse:
        db.session.add(Audit(note=request.path))
        try:
            return await handler(request)
        except LookupError:
            return web.Response(status=202)

    async def handler(request: web.Request) -> web.Response:
        await db.session.flush()
        raise LookupError if request.path == "/forgiven" else RuntimeError

    app = application(handler, db)
    app.middlewares.append(forgiving)
    client = await serving.client(app)

    answers = [(await client.post(path)).status_code for path in ("/forgiven", "/broken")]

    assert answers == [202, 500]
    assert await observer.notes(Audit) == ["/forgiven"]


def conflict(failure: Exception) -> int | None:
    """The rule of the tests below."""
    return 409 if isinstance(failure, IntegrityError) else None


@pytest.mark.parametrize("then", ["raise", "success", "same", "other"])
@pytest.mark.parametrize(("options", "status"), [({}, 500), ({"on_commit_error": conflict}, 409)])
async def test_commit_that_fails_when_the_answer_begins(  # noqa: PLR0913, PLR0917
    db: Database, serving: Web, observer: Observer, then: str, options: dict[str, Any], status: int
) -> None:
    """Whatever the handler makes of it, the client never sees a success."""
    await observer.run(TAKEN)

    async def handler(request: web.Request) -> web.StreamResponse:
        db.session.add(Account(name="ann"))
        response = web.StreamResponse()
        try:
            await response.prepare(request)
        except IntegrityError as error:
            if then == "raise":
                raise
            if then == "other":
                raise RuntimeError("of the handler's own") from error
        return response if then == "same" else web.Response(text="fine")

    client = await serving.client(application(handler, db, **options))

    answer = await client.post("/")

    assert answer.status_code == status
    assert "fine" not in answer.text
    assert db.pool_status().checked_out == 0


async def test_commit_that_fails_after_the_handler_is_answered_by_the_rule(
    db: Database, serving: Web, observer: Observer
) -> None:
    """As JSON; without a rule for it, aiohttp answers 500."""
    await observer.run(TAKEN)

    async def handler(_request: web.Request) -> web.Response:
        db.session.add(Account(name="ann"))
        return web.Response(text="fine")

    client = await serving.client(application(handler, db, on_commit_error=conflict))

    answer = await client.post("/")

    assert (answer.status_code, answer.json()) == (409, {"detail": "The request could not be stored."})


async def test_application_may_answer_a_failed_commit_itself(
    db: Database, serving: Web, observer: Observer
) -> None:
    """With an error."""
    await observer.run(TAKEN)

    async def handler(request: web.Request) -> web.StreamResponse:
        db.session.add(Account(name="ann"))
        try:
            await web.Response(text="fine").prepare(request)
        except IntegrityError:
            return web.Response(status=418, text="mine")
        return web.Response(text="never")

    client = await serving.client(application(handler, db))

    answer = await client.post("/")

    assert (answer.status_code, answer.text) == (418, "mine")


async def test_websocket_holds_nothing(db: Database, serving: Web, observer: Observer) -> None:
    """The unit ends when the connection is accepted; each message may have a block."""
    refused: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        db.session.add(Audit(note="accepted"))
        channel = web.WebSocketResponse()
        await channel.prepare(request)
        async for message in channel:
            try:
                _ = db.session
            except TransactionEndedError as error:
                refused.append(str(error))
            async with db.transaction():
                db.session.add(Audit(note=str(message.data)))
            await channel.send_str(str(db.pool_status().checked_out))
        return channel

    host, port = (await serving.serve(application(handler, db))).address
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://{host}:{port}/channel") as channel,
    ):
        held = []
        for note in ("one", "two"):
            await channel.send_str(note)
            held.append(await channel.receive_str())

    assert held == ["0", "0"]
    assert "the request GET /channel" in refused[0]
    assert await observer.notes(Audit) == ["accepted", "one", "two"]


async def test_failed_work_after_the_commit_is_logged(
    db: Database, serving: Web, observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is stored, so the answer is what it is."""

    async def handler(_request: web.Request) -> web.Response:
        async with db.transaction():
            db.session.add(Account(name="ann"))
            db.on_commit(lambda: 1 / 0)
        return web.Response(text="stored")

    client = await serving.client(application(handler, db))
    with caplog.at_level(logging.ERROR, "unitwork"):
        answer = await client.post("/")

    assert (answer.status_code, answer.text) == (200, "stored")
    assert await observer.names(Account) == ["ann"]
    assert "functions registered with `on_commit` failed" in caplog.text


async def test_applications_below_are_served(db: Database, serving: Web, observer: Observer) -> None:
    """One installation is enough; a second one for the same Database is refused at the request."""

    async def handler(_request: web.Request) -> web.Response:
        db.session.add(Account(name="ann"))
        return web.Response()

    for twice in (False, True):
        below, above = web.Application(), web.Application()
        below.router.add_post("/", handler)
        if twice:
            setup(below, database=db)
        above.add_subapp("/below", below)
        setup(above, database=db)
        errors = caught(above)
        client = await serving.client(above)

        answer = await client.post("/below/")

        assert answer.status_code == (500 if twice else 200)
        assert [type(error) for error in errors] == ([TransactionRefusedError] if twice else [])
    assert "installed twice for database 'default'" in str(errors[0])
    assert await observer.names(Account) == ["ann"]


async def test_stream_of_an_application_below_is_committed_first(
    db: Database, serving: Web, observer: Observer
) -> None:
    """What the application above is told of the answer is enough."""
    seen: list[list[str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        db.session.add(Account(name="ann"))
        response = web.StreamResponse()
        await response.prepare(request)
        seen.append(await observer.names(Account))
        return response

    below, above = web.Application(), web.Application()
    below.router.add_post("/", handler)
    above.add_subapp("/below", below)
    setup(above, database=db)
    client = await serving.client(above)

    assert (await client.post("/below/")).status_code == 200
    assert seen == [["ann"]]


def test_application_that_runs_is_set_up_too_late(db: Database) -> None:
    """Nobody would be asked to close the connections."""
    app, below = web.Application(), web.Application()
    app.add_subapp("/below", below)

    with pytest.raises(DeclarationError, match="call it before `add_subapp`"):
        setup(below, database=db)


def caught(app: web.Application) -> list[Exception]:
    """What leaves an application, as middleware outside of all sees it."""
    errors: list[Exception] = []

    @web.middleware
    async def catching(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            errors.append(error)
            raise

    app.middlewares.insert(0, catching)
    return errors


@pytest.mark.parametrize(("path", "stored"), [("/", 1), ("/refused", 0)])
async def test_two_databases_end_together(
    db: Database, serving: Web, observer: Observer, path: str, stored: int
) -> None:
    """Each has a unit of its own; an error answer leaves nothing in either."""
    async with Database("sqlite+aiosqlite:///:memory:", name="second") as second:
        await second.create_all(Audit)

        async def handler(request: web.Request) -> web.Response:
            db.session.add(Account(name="ann"))
            second.session.add(Audit(note="ann"))
            return web.Response(status=409 if request.path == "/refused" else 200)

        client = await serving.client(application(handler, [db, second]))
        await client.post(path)

        async with second.transaction() as session:
            assert len((await session.scalars(select(Audit))).all()) == stored
    assert len(await observer.names(Account)) == stored


@pytest.mark.parametrize("atomic", [True, False])
async def test_blocks_join_the_request_or_commit_by_themselves(
    db: Database, serving: Web, observer: Observer, *, atomic: bool
) -> None:
    """As the application says."""

    async def handler(_request: web.Request) -> web.Response:
        async with db.transaction():
            db.session.add(Account(name="ann"))
        raise web.HTTPConflict

    client = await serving.client(application(handler, db, atomic=atomic))

    assert (await client.post("/")).status_code == 409
    assert await observer.names(Account) == ([] if atomic else ["ann"])


async def test_application_closes_the_connections_at_its_end(db: Database) -> None:
    """After what its own clean-up has asked."""
    seen: list[int] = []

    async def at_the_end(_app: web.Application) -> AsyncIterator[None]:
        yield
        async with db.transaction() as session:
            await session.connection()
        seen.append(db.pool_status().idle)

    app = web.Application()
    app.cleanup_ctx.append(at_the_end)
    setup(app, database=db)
    runner = web.AppRunner(app)
    await runner.setup()
    await runner.cleanup()

    assert seen == [1]
    assert db.pool_status().idle == 0


async def test_cancelled_request_leaves_nothing(db: Database, serving: Web, observer: Observer) -> None:
    """As when the handler gives up: a time limit of its own."""

    async def handler(_request: web.Request) -> web.Response:
        async with asyncio.timeout(0.05):
            db.session.add(Account(name="ann"))
            await db.session.flush()
            await asyncio.sleep(60)
        return web.Response()

    client = await serving.client(application(handler, db))

    assert (await client.post("/")).status_code == 504
    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0


async def test_client_that_leaves_undoes_a_cancelled_request(
    db: Database, serving: Web, observer: Observer
) -> None:
    """The server cancels the handler: nothing is stored, and the connection is back."""
    asking, over = asyncio.Event(), asyncio.Event()

    async def patient(_request: web.Request) -> web.Response:
        db.session.add(Account(name="ann"))
        await db.session.flush()
        asking.set()
        await asyncio.sleep(60)
        return web.Response()

    app = application(patient, db)

    @web.middleware
    async def outside(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            over.set()

    app.middlewares.insert(0, outside)
    server = await serving.serve(app)
    _reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(15):
        await asking.wait()
        writer.transport.abort()
        await over.wait()

    assert await observer.names(Account) == []
    assert db.pool_status().checked_out == 0
