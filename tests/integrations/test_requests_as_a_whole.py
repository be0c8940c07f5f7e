"""One request is one transaction, whatever stands between the middleware and the endpoint."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from tests.fixtures.models import Account, Audit
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange
from unitwork import (
    Database,
    NoTransactionError,
    Propagation,
    Repository,
    TransactionEndedError,
    UnexpectedRollbackError,
    UnitworkError,
)
from unitwork.integrations.fastapi import SessionDep, UnitOfWorkMiddleware, session_of

Options = dict[str, Any]
Layers = Callable[[FastAPI, Database], None]


async def pass_through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """A middleware of the kind that runs the application inside in a task of its own."""
    return await call_next(request)


def alone(app: FastAPI, db: Database) -> None:
    """Ours alone."""
    app.add_middleware(UnitOfWorkMiddleware, database=db)


def below_ours(*others: tuple[Any, dict[str, Any]]) -> Layers:
    """Others between ours and the endpoint."""

    def add(app: FastAPI, db: Database) -> None:
        for other, options in others:
            app.add_middleware(other, **options)
        alone(app, db)

    return add


def above_ours(*others: tuple[Any, dict[str, Any]]) -> Layers:
    """Others around ours."""

    def add(app: FastAPI, db: Database) -> None:
        alone(app, db)
        for other, options in others:
            app.add_middleware(other, **options)

    return add


GZIP = (GZipMiddleware, {"minimum_size": 1})
TASK = (BaseHTTPMiddleware, {"dispatch": pass_through})
LAYERS: list[Any] = [
    pytest.param(alone, id="alone"),
    pytest.param(below_ours(GZIP), id="gzip below"),
    pytest.param(above_ours(GZIP), id="gzip above"),
    pytest.param(below_ours(TASK), id="task below"),
    pytest.param(above_ours(TASK), id="task above"),
    pytest.param(below_ours(TASK, GZIP), id="gzip and task below"),
]


def client(app: FastAPI) -> httpx.AsyncClient:
    """Somebody who accepts gzip, and is told of failures by the status."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop", headers={"accept-encoding": "gzip"})


# -- the body -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", LAYERS)
async def test_streaming_body_opens_a_block_of_its_own(
    db: Database, observer: Observer, layers: Layers
) -> None:
    """The rows are sent, wherever another middleware keeps the start of the answer back."""
    app = FastAPI()
    layers(app, db)

    @app.get("/export")
    async def export() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            async with db.transaction(read_only=True) as session:
                async for note in await session.stream_scalars(select(Audit.note)):
                    yield f"{note}\n"

        return StreamingResponse(body())

    await observer.run("INSERT INTO audit (id, note) VALUES (1, 'ann')")
    async with client(app) as http:
        answer = await http.get("/export")

    assert (answer.status_code, answer.text) == (200, "ann\n")
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("layers", LAYERS)
async def test_streaming_body_does_not_have_the_session_of_the_request(db: Database, layers: Layers) -> None:
    """From its first chunk on, though the endpoint has used the session; nor does it hold its connection."""
    app, held = FastAPI(), []
    layers(app, db)

    @app.get("/rows")
    async def rows(session: SessionDep) -> StreamingResponse:
        await session.execute(select(Audit))

        async def body() -> AsyncIterator[str]:
            for _ in range(3):
                held.append(db.pool_status().checked_out)
                try:
                    await db.session.execute(select(Audit))
                    yield "session "
                except TransactionEndedError:
                    yield "ended "

        return StreamingResponse(body())

    async with client(app) as http:
        answer = await http.get("/rows")

    assert answer.text.split() == ["ended"] * 3
    assert held == [0, 0, 0]


# -- one transaction ------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("status", [201, 409, 500])
async def test_status_decides_about_all_that_the_request_has_written(
    db: Database, observer: Observer, layers: Layers, status: int
) -> None:
    """Blocks, repositories and the session alike; only REQUIRES_NEW stays."""
    app = FastAPI()
    layers(app, db)

    @app.post("/", status_code=201)
    async def endpoint(session: SessionDep) -> None:
        async with db.transaction(propagation=Propagation.REQUIRES_NEW):
            await Repository[Audit](db).add(Audit(note="apart"))
        await Repository[Audit](db).add(Audit(note="repository"))
        async with db.transaction(propagation=Propagation.NESTED):
            await Repository[Audit](db).add(Audit(note="block"))
        session.add(Audit(note="session"))
        if status == 500:
            raise ValueError
        if status != 201:
            raise HTTPException(status)

    async with client(app) as http:
        answer = await http.post("/")

    assert answer.status_code == status
    stored = await observer.notes(Audit)
    assert stored == (["apart", "block", "repository", "session"] if status == 201 else ["apart"])
    assert db.pool_status().checked_out == 0


@pytest.mark.parametrize("layers", LAYERS)
async def test_commit_by_hand_keeps_what_there_is_so_far(
    db: Database, observer: Observer, layers: Layers
) -> None:
    """What fails after it undoes what was written since."""
    app = FastAPI()
    layers(app, db)

    @app.post("/")
    async def endpoint() -> None:
        await Repository[Audit](db).add(Audit(note="first"))
        await db.commit()
        await Repository[Audit](db).add(Audit(note="second"))
        raise HTTPException(409)

    async with client(app) as http:
        answer = await http.post("/")

    assert answer.status_code == 409
    assert await observer.notes(Audit) == ["first"]


@pytest.mark.parametrize("notes", [["late"], ["late", "later"]], ids=["one row", "two rows"])
@pytest.mark.parametrize("atomic", [{"atomic": True}, {"atomic": False}], ids=["atomic", "in pieces"])
async def test_request_does_not_answer_well_while_a_task_has_a_block_in_it(
    db: Database, observer: Observer, atomic: Options, notes: list[str]
) -> None:
    """The client is told of a failure, by the rule for it, and nothing is stored."""
    app, reasons, jobs = FastAPI(), [], []
    inside, go_on = asyncio.Event(), asyncio.Event()

    def conflict(error: BaseException) -> int:
        reasons.append(error)
        return 409

    app.add_middleware(UnitOfWorkMiddleware, database=db, on_commit_error=conflict, **atomic)

    async def audit() -> None:
        async with db.transaction():
            await Repository[Audit](db).add_all([Audit(note=note) for note in notes])
            inside.set()
            await go_on.wait()

    @app.post("/")
    async def endpoint() -> None:
        jobs.append(asyncio.create_task(audit()))
        await inside.wait()

    async with client(app) as http:
        answer = await http.post("/")
    go_on.set()
    [told] = await asyncio.gather(*jobs, return_exceptions=True)

    assert answer.status_code == 409
    assert [type(reason) for reason in reasons] == [UnexpectedRollbackError]
    assert isinstance(told, TransactionEndedError)
    assert await observer.notes(Audit) == []


# -- WebSockets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["SessionDep", "session_of"])
@pytest.mark.parametrize("with_middleware", ["middleware", "no middleware"])
async def test_websocket_is_given_no_session(
    db: Database, observer: Observer, with_middleware: str, way: str
) -> None:
    """It would hold a connection as long as it is open: it is refused, with a way out."""
    app = FastAPI()
    if with_middleware == "middleware":
        alone(app, db)
    kind: Any = SessionDep if way == "SessionDep" else Annotated[AsyncSession, session_of(db)]

    async def endpoint(socket: WebSocket, session: kind) -> None:
        await socket.accept()
        session.add(Audit(note="lost"))

    app.websocket("/")(endpoint)
    exchange = await Exchange(kind="websocket").run(app)

    assert isinstance(exchange.raised, UnitworkError)
    assert "Fix" in str(exchange.raised)
    assert await observer.notes(Audit) == []
    assert db.pool_status().checked_out == 0


async def test_websocket_has_no_session_but_in_blocks(db: Database, observer: Observer) -> None:
    """`db.session` is refused; each message may have a block."""
    app, refused, held = FastAPI(), [], []
    alone(app, db)

    @app.websocket("/")
    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        try:
            _ = db.session
        except NoTransactionError as error:
            refused.append(error)
        for note in ("one", "two"):
            async with db.transaction():
                await Repository[Audit](db).add(Audit(note=note))
            held.append(db.pool_status().checked_out)

    await Exchange(kind="websocket").run(app)

    assert len(refused) == 1
    assert held == [0, 0]
    assert await observer.notes(Audit) == ["one", "two"]


# -- two Databases --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["a rule", "no rule"])
async def test_second_database_that_fails_tells_that_the_first_is_committed(
    db: Database, observer: Observer, rule: str
) -> None:
    """Nothing is silently half done: whoever hears of the failure hears of that, too."""
    deferred = (
        "CREATE TABLE part (id INTEGER PRIMARY KEY, below INTEGER"
        " REFERENCES part (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    told: list[BaseException] = []
    async with Database("sqlite+aiosqlite:///:memory:", name="stock") as stock:
        async with stock.transaction() as session:
            await session.execute(text(deferred))

        async def app(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            await db.session.execute(insert(Audit).values(note="first"))
            await stock.session.execute(text("INSERT INTO part VALUES (1, 99)"))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"fine"})

        def conflict(error: BaseException) -> int | None:
            told.append(error)
            return 409 if rule == "a rule" else None

        wrapped = UnitOfWorkMiddleware(app, database=[db, stock], on_commit_error=conflict)
        exchange = await Exchange().run(wrapped)
        told += [exchange.raised] if exchange.raised is not None else []

    assert exchange.statuses == ([409] if rule == "a rule" else [])
    assert await observer.notes(Audit) == ["first"]
    assert told
    for error in told:
        assert isinstance(error, DBAPIError)
        assert any("'default'" in note and "committed" in note for note in error.__notes__)


async def test_first_database_that_fails_leaves_nothing_in_the_second(
    db: Database, observer: Observer
) -> None:
    """They commit in order: what comes after the one that cannot is rolled back."""
    async with Database("sqlite+aiosqlite:///:memory:", name="stock") as stock:
        await stock.create_all(Account)
        await observer.run("INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)")

        async def app(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            db.session.add(Account(name="ann"))
            stock.session.add(Account(name="ben"))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"fine"})

        exchange = await Exchange().run(UnitOfWorkMiddleware(app, database=[db, stock]))
        stored = await Repository[Account](stock).count()

    assert isinstance(exchange.raised, DBAPIError)
    assert not any("committed already" in note for note in getattr(exchange.raised, "__notes__", ()))
    assert stored == 0
