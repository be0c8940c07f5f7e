"""Sanic serves the shop as the other frameworks do. Run by test_sanic.py, where Sanic is installed."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sanic import HTTPResponse, Request, Sanic, response
from sanic.exceptions import SanicException

from tests.fixtures.web import Web
from tests.integrations.apps.shop import Shop
from tests.integrations.promises_of_requests import *  # noqa: F403 - the tests themselves
from unitwork import Database
from unitwork.integrations.asgi import UnitOfWorkMiddleware

_numbers = itertools.count()


def sanic_app(shop: Shop) -> Any:  # noqa: ANN401, C901 - a list of endpoints
    """Build the application. Two of one name cannot live in one process."""
    app = Sanic(f"shop{next(_numbers)}", configure_logging=False)
    # It rewrites methods of its own, and cannot do so for a second application.
    app.config.TOUCHUP = False

    @app.post("/create/<name>")
    async def create(_request: Request, name: str) -> HTTPResponse:
        await shop.add(name)
        return response.json({}, status=201)

    @app.post("/unsent/<name>")
    async def unsent(_request: Request, name: str) -> HTTPResponse:
        await shop.add_unsent(name)
        return response.json({})

    @app.post("/register/<name>")
    async def register(_request: Request, name: str) -> HTTPResponse:
        await shop.register(name)
        return response.json({})

    @app.post("/refused/<name>")
    async def refused(_request: Request, name: str) -> HTTPResponse:
        await shop.add(name)
        raise SanicException("refused", status_code=409)

    @app.post("/broken/<name>")
    async def broken(_request: Request, name: str) -> HTTPResponse:
        await shop.add(name)
        raise RuntimeError("broken on purpose")

    @app.post("/early/<name>")
    async def early(_request: Request, name: str) -> HTTPResponse:
        return response.text(str(await shop.early(name)))

    @app.get("/nothing")
    async def nothing(_request: Request) -> HTTPResponse:
        return response.text(str(shop.held()))

    @app.get("/read")
    async def read(_request: Request) -> HTTPResponse:
        return response.text(str(await shop.read()))

    @app.get("/stream")
    async def stream(request: Request) -> None:
        count = await shop.count()
        answer = await request.respond()
        await answer.send(f"{count} ")  # the answer begins here, not with `respond`
        await answer.send(f"{shop.held()} {shop.session_error()}")
        await answer.eof()

    @app.after_server_stop
    async def close(_app: Sanic) -> None:
        await shop.db.dispose()

    return UnitOfWorkMiddleware(app, database=shop.db)


@pytest.fixture
def build() -> Callable[[Shop], Any]:
    """Builds the application."""
    return sanic_app


async def test_connections_are_closed_at_the_end(db: Database, web: Web) -> None:
    """By Sanic's own listener."""
    app = sanic_app(Shop(db))
    server = await web.serve(app)
    await db.ping()
    await server.stop()

    assert db.pool_status().idle == 0
