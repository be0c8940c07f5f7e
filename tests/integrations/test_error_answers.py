"""Errors of the database that are the client's affair are answered in each framework's own way."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from litestar import Litestar, Request, Response, post
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import Mount, Route

from tests.fixtures.litestar import FromPath
from tests.fixtures.models import Account
from tests.fixtures.observer import Observer
from tests.fixtures.web import Exchange, Web
from unitwork import Database, DeclarationError, NoRowError, Repository
from unitwork.integrations import fastapi, starlette
from unitwork.integrations.litestar import UnitworkPlugin

TAKEN = "INSERT INTO account (id, name, balance) VALUES (1, 'ann', 0)"
SECRET = "account"
"""What the texts of all the errors here show."""


async def work(db: Database, name: str) -> None:
    """What an endpoint does: by its name a missing row, or a taken name at once, or with the COMMIT."""
    accounts = Repository[Account](db)
    if name == "missing":
        await accounts.get_one(99)
    elif name == "at-once":
        await db.session.execute(insert(Account).values(name="bob", balance=0))
        await db.session.execute(insert(Account).values(name="ann", balance=0))
    elif name == "with-commit":
        db.session.add(Account(name="bob"))
        db.session.add(Account(name="ann"))
    else:
        message = f"other error of {SECRET}"
        raise ValueError(message)


def fastapi_app(db: Database, **options: Any) -> FastAPI:
    """An application of FastAPI."""
    app = FastAPI()
    app.add_middleware(fastapi.UnitOfWorkMiddleware, database=db, **options)
    fastapi.exception_handlers(app)

    @app.post("/{name}")
    async def endpoint(name: str) -> None:
        await work(db, name)

    return app


def starlette_app(db: Database, **options: Any) -> Starlette:
    """An application of Starlette."""

    async def endpoint(request: StarletteRequest) -> StarletteResponse:
        await work(db, request.path_params["name"])
        return StarletteResponse()

    app = Starlette(routes=[Route("/{name}", endpoint, methods=["POST"])])
    app.add_middleware(starlette.UnitOfWorkMiddleware, database=db, **options)
    starlette.exception_handlers(app)
    return app


def litestar_app(db: Database, **options: Any) -> Litestar:
    """An application of Litestar."""

    @post("/{name:str}")
    async def endpoint(name: FromPath[str]) -> None:
        await work(db, name)

    plugin = UnitworkPlugin(db, exception_handlers=True, **options)
    return Litestar([endpoint], plugins=[plugin], openapi_config=None, logging_config=None)


Make = Callable[..., Any]
WORDS = {
    fastapi_app: '{"detail": "Not Found"}',
    starlette_app: "Not Found",
    litestar_app: '{"status_code": 404, "detail": "Not Found"}',
}
EACH = pytest.mark.parametrize("make", list(WORDS), ids=lambda make: make.__name__)


def taken(make: Make) -> str:
    """What is answered for a name that is taken."""
    return WORDS[make].replace("404", "409").replace("Not Found", "Conflict")


@EACH
async def test_client_hears_what_is_his_affair(
    db: Database, web: Web, observer: Observer, make: Make
) -> None:
    """404 and 409 in the framework's words, whether a statement has failed or the COMMIT; all is undone."""
    await observer.run(TAKEN)
    client = await web.client(make(db))

    for name, status, body in [
        ("missing", 404, WORDS[make]),
        ("at-once", 409, taken(make)),
        ("with-commit", 409, taken(make)),
    ]:
        answer = await client.post(f"/{name}")
        assert (answer.status_code, answer.text) == (status, body)
        assert SECRET not in answer.text
    other = await client.post("/other")

    assert other.status_code == 500
    assert await observer.names(Account) == ["ann"]


@EACH
async def test_rule_of_the_middleware_goes_first(
    db: Database, web: Web, observer: Observer, make: Make
) -> None:
    """A program that says how a failed COMMIT is answered is obeyed."""
    await observer.run(TAKEN)
    client = await web.client(make(db, on_commit_error=lambda _error: 503))

    assert (await client.post("/with-commit")).status_code == 503
    assert (await client.post("/at-once")).text == taken(make)
    assert (await client.post("/missing")).text == WORDS[make]


@EACH
async def test_words_are_those_of_the_framework(db: Database, web: Web, make: Make) -> None:
    """As what it answers itself, where there is no such route."""
    answer = await (await web.client(make(db))).post("/no/such/route")

    assert answer.status_code == 404
    assert answer.text.replace(" ", "") == WORDS[make].replace(" ", "")


async def test_handlers_of_the_application_go_first(db: Database, web: Web, observer: Observer) -> None:
    """Those that it has for the same class, in FastAPI and in Litestar."""
    await observer.run(TAKEN)

    async def own(_request: object, _error: Exception) -> PlainTextResponse:
        return PlainTextResponse("own", 422)

    app = FastAPI(exception_handlers={IntegrityError: own})
    fastapi.exception_handlers(app)

    @app.post("/{name}")
    async def endpoint(name: str) -> None:
        async with db.transaction():
            await work(db, name)

    @post("/{name:str}")
    async def other(name: FromPath[str]) -> None:
        await work(db, name)

    def own_of_litestar(_request: Request[Any, Any, Any], _error: Exception) -> Response[str]:
        return Response("own", status_code=422)

    plugins = [UnitworkPlugin(db, exception_handlers=True)]
    litestar = Litestar(
        [other],
        plugins=plugins,
        exception_handlers={IntegrityError: own_of_litestar},
        openapi_config=None,
        logging_config=None,
    )
    for each in (app, litestar):
        client = await web.client(each)
        assert (await client.post("/at-once")).status_code == 422
        assert (await client.post("/missing")).status_code == 404


async def test_application_inside_another(db: Database, web: Web, observer: Observer) -> None:
    """The application that answers the request says how, though the middleware is around both."""
    await observer.run(TAKEN)
    outer = Starlette(routes=[Mount("/inner", fastapi_app_alone(db))])
    outer.add_middleware(starlette.UnitOfWorkMiddleware, database=db)
    client = await web.client(outer)

    assert (await client.post("/inner/at-once")).status_code == 409
    assert (await client.post("/inner/with-commit")).status_code == 409


def fastapi_app_alone(db: Database) -> FastAPI:
    """An application of FastAPI without the middleware."""
    app = FastAPI()
    fastapi.exception_handlers(app)

    @app.post("/{name}")
    async def endpoint(name: str) -> None:
        await work(db, name)

    return app


async def test_error_in_a_websocket_is_raised(db: Database) -> None:
    """No answer of HTTP fits there, and the server must hear of it."""
    app = FastAPI()
    fastapi.exception_handlers(app)

    @app.websocket("/")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        async with db.transaction():
            await work(db, "missing")

    exchange = await Exchange(kind="websocket").run(app)

    assert isinstance(exchange.raised, NoRowError)


def test_openapi_stays_as_it_is() -> None:
    """Handlers are no part of the document."""

    def document(*, handled: bool) -> dict[str, Any]:
        app = FastAPI()
        if handled:
            fastapi.exception_handlers(app)

        @app.get("/{name}")
        async def read(name: str, session: fastapi.SessionDep) -> str:
            return name

        return app.openapi()

    assert document(handled=True) == document(handled=False)
    assert [each["name"] for each in document(handled=True)["paths"]["/{name}"]["get"]["parameters"]] == [
        "name"
    ]


async def test_application_that_has_started(db: Database, web: Web) -> None:
    """Starlette would not hear of the handlers any more, so they are refused."""
    app = fastapi_app(db)
    await (await web.client(app)).post("/missing")

    with pytest.raises(DeclarationError, match="call it where the application is made"):
        fastapi.exception_handlers(app)
