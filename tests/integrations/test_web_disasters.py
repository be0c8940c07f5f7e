"""What goes wrong between a client, a server and a database never makes answers and rows disagree."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from quart import Quart, abort
from sqlalchemy import URL, text

from tests.fixtures.dialogue import Dialogue
from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.saboteur import Saboteur
from tests.fixtures.web import AiohttpServer, Exchange, Server, Web
from unitwork import Database
from unitwork.integrations.asgi import UnitOfWorkMiddleware

PATIENCE_S = 15


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait for what happens on the other side of a socket; it has no event."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


def shop(db: Database, **options: Any) -> FastAPI:
    """An application that has no endpoints yet."""
    app = FastAPI()
    app.add_middleware(UnitOfWorkMiddleware, database=db, **options)
    return app


async def leave_after_asking(server: Server | AiohttpServer, path: str, leaving: asyncio.Event) -> None:
    """Be a client that asks, and goes away without waiting for the answer."""
    _reader, writer = await asyncio.open_connection(*server.address)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n".encode())
    await leaving.wait()
    writer.transport.abort()
    await asyncio.sleep(0)


# -- COMMIT fails -------------------------------------------------------------------------------

CHILD = (
    "CREATE TABLE child (id INTEGER PRIMARY KEY,"
    " account_id INTEGER REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)"
)


@pytest.mark.only("sqlite", "postgresql", reason="MariaDB checks foreign keys with each statement")
@pytest.mark.parametrize(("options", "status"), [({}, 500), ({"on_commit_error": lambda _error: 409}, 409)])
async def test_foreign_key_that_fails_at_commit(
    db: Database, web: Web, observer: Observer, options: dict[str, Any], status: int
) -> None:
    """A deferred constraint is checked by COMMIT alone; the client still gets an error and no row stays."""
    await observer.run(CHILD)
    app = shop(db, **options)

    @app.post("/{account_id}")
    async def create(account_id: int) -> None:
        db.session.add(Audit(note=str(account_id)))
        await db.session.execute(text(f"INSERT INTO child (id, account_id) VALUES (1, {account_id})"))

    client = await web.client(app)
    answer = await client.post("/7")

    assert answer.status_code == status
    assert await observer.notes(Audit) == []
    assert await observer.scalar("SELECT count(*) FROM child") == 0
    assert db.pool_status().checked_out == 0
    await observer.run("INSERT INTO account (id, name, balance) VALUES (7, 'ann', 0)")
    assert (await client.post("/7")).status_code == 200


@pytest.mark.only("postgresql", "mariadb", reason="SQLite has no server that could end a connection")
async def test_connection_that_is_lost_before_commit(
    db: Database, web: Web, observer: Observer, saboteur: Saboteur
) -> None:
    """A server that is gone when COMMIT is sent leads to an error answer, and the next request works."""
    app = shop(db)

    @app.post("/")
    async def create(*, lost: bool) -> None:
        db.session.add(Audit(note=f"lost {lost}"))
        await db.session.flush()
        if lost:
            await saboteur.end_connection_of(db.session)

    client = await web.client(app)
    lost = await client.post("/", params={"lost": True})
    after = await client.post("/", params={"lost": False})

    assert (lost.status_code, after.status_code) == (500, 200)
    assert await observer.notes(Audit) == ["lost False"]
    assert db.pool_status().checked_out == 0


# -- clients that go away -----------------------------------------------------------------------


async def test_client_that_leaves_during_a_query(
    db: Database, web: Web, observer: Observer, dialogue: Dialogue
) -> None:
    """A framework that cancels the handler of a client that has left leaves no row and no connection."""
    app = Quart("shop")
    app.asgi_app = UnitOfWorkMiddleware(app.asgi_app, database=db)  # type: ignore[method-assign]  # Quart's way
    asking = asyncio.Event()
    ended = asyncio.Event()

    @app.post("/")
    async def wait() -> str:
        db.session.add(Audit(note="x"))
        await db.session.flush()
        asking.set()
        try:
            await db.session.execute(text(dialogue.slow))
        finally:
            ended.set()
        return ""

    server = await web.serve(app)
    await leave_after_asking(server, "/", asking)
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()

    async def given_back() -> bool:
        return db.pool_status().checked_out == 0

    await until(given_back)
    assert await observer.notes(Audit) == []


async def test_client_that_leaves_does_not_undo_what_goes_on(
    db: Database, web: Web, observer: Observer
) -> None:
    """A framework that lets the handler of a client that has left go on stores what it does."""
    app = shop(db)
    asking, gone = asyncio.Event(), asyncio.Event()

    @app.post("/")
    async def create(request: Request) -> None:
        db.session.add(Audit(note="x"))
        await db.session.flush()
        asking.set()
        while not await request.is_disconnected():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)
        gone.set()

    server = await web.serve(app)
    await leave_after_asking(server, "/", asking)
    async with asyncio.timeout(PATIENCE_S):
        await gone.wait()

    async def stored() -> list[str]:
        return await observer.notes(Audit)

    await until(stored)
    assert await observer.notes(Audit) == ["x"]
    assert db.pool_status().checked_out == 0


# -- slow bodies --------------------------------------------------------------------------------


async def test_slow_body_does_not_keep_the_only_connection(database_url: URL, web: Web) -> None:
    """While a body streams for as long as the client likes, a pool of one serves other requests."""
    async with Database(database_url, name="small", pool_size=1, max_overflow=0, pool_timeout=5) as small:
        app = shop(small)
        go_on = asyncio.Event()

        async def body(first: str) -> AsyncIterator[str]:
            yield first
            await go_on.wait()
            async with small.transaction() as session:
                yield str(await session.scalar(text("SELECT count(*) FROM audit")))

        @app.get("/")
        async def stream() -> StreamingResponse:
            return StreamingResponse(
                body(str(await small.session.scalar(text("SELECT count(*) FROM audit"))))
            )

        @app.post("/")
        async def create() -> None:
            small.session.add(Audit(note="meanwhile"))

        client = await web.client(app)
        async with client.stream("GET", "/") as answer:
            parts = answer.aiter_text()
            first = await anext(parts)
            meanwhile = [(await client.post("/")).status_code for _ in range(3)]
            go_on.set()
            rest = "".join([part async for part in parts])

        assert (first, meanwhile, rest) == ("0", [200, 200, 200], "3")
        assert small.pool_status().checked_out == 0


# -- many requests ------------------------------------------------------------------------------

REQUESTS = 1_000
AT_ONCE = 12


@pytest.mark.timeout(60)
async def test_answers_and_rows_agree_for_every_request(db: Database, web: Web, observer: Observer) -> None:
    """Of 1,000 requests a third fail and a third are given up by their clients: none is half stored."""
    app = Quart("shop")
    app.asgi_app = UnitOfWorkMiddleware(app.asgi_app, database=db)  # type: ignore[method-assign]  # Quart's way

    @app.post("/<name>/<kind>")
    async def create(name: str, kind: str) -> str:
        db.session.add(Account(name=name))
        await db.session.flush()
        db.session.add(Audit(note=name))
        if kind == "broken":
            await db.session.execute(text("nonsense"))
        if kind == "refused":
            abort(409)
        return ""

    client = await web.client(app)
    asked = random.Random(1)  # noqa: S311 - to be repeated
    kinds = ["stored", "refused", "broken", "given up", "given up", "stored"]
    answers: dict[str, int | None] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str, kind: str, patience_s: float) -> None:
        async with gate:
            answers[name] = None
            try:
                async with asyncio.timeout(patience_s if kind == "given up" else None):
                    answers[name] = (await client.post(f"/{name}/{kind}")).status_code
            except TimeoutError:
                pass

    await asyncio.gather(*(ask(str(n), kinds[n % 6], asked.random() * 0.02) for n in range(REQUESTS)))

    async def given_back() -> bool:
        return db.pool_status().checked_out == 0

    await until(given_back)
    rows = set(await observer.names(Account))
    assert rows == set(await observer.notes(Audit)), "stored by half"
    answered = {name for name, status in answers.items() if status == 200}
    failed = {name for name, status in answers.items() if status in (409, 500)}
    assert not set(answers.values()) - {200, 409, 500, None}
    assert answered <= rows
    assert not failed & rows
    assert len(failed) == len([n for n in range(REQUESTS) if kinds[n % 6] in ("refused", "broken")])


@pytest.mark.timeout(60)
async def test_answers_and_rows_agree_wherever_a_request_is_cancelled(
    db: Database, observer: Observer
) -> None:
    """Cancelled at any of its turns, a request has stored all or nothing, and all if it has answered."""
    app = shop(db)

    @app.post("/{name}")
    async def create(name: str) -> None:
        db.session.add(Account(name=name))
        await db.session.flush()
        db.session.add(Audit(note=name))
        if int(name) % 3 == 1:
            raise HTTPException(409)

    chosen = random.Random(2)  # noqa: S311 - to be repeated
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(exchange: Exchange, number: int) -> None:
        async with gate:
            task = asyncio.create_task(exchange.run(app))
            if number % 3 == 2:
                for _ in range(chosen.randrange(120)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    exchanges = [Exchange(f"/{number}", "POST") for number in range(300)]
    await asyncio.gather(*(ask(exchange, number) for number, exchange in enumerate(exchanges)))

    rows = set(await observer.names(Account))
    assert rows == set(await observer.notes(Audit)), "stored by half"
    statuses = {str(number): list(exchange.statuses) for number, exchange in enumerate(exchanges)}
    assert {name for name, status in statuses.items() if status == [200]} <= rows
    assert not {name for name, status in statuses.items() if status == [409]} & rows
    assert not {name for name, status in statuses.items() if int(name) % 3 == 0} - rows
    assert db.pool_status().checked_out == 0
